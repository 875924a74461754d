import { type Figure, type Values, figures } from './cases.js'
import { startDatabase } from './database.js'
import { measure } from './measure.js'
import { compileServer } from './server-process.js'
import { type Work } from './work.js'

// Whether a large selection stays small in memory and leaves the event loop alone: exits with 1 when it does not.

const LIMITS: Values = { peakMemory: 64 * 2 ** 20, longestDelay: 25 }

const DATABASE_USERS = 50_000

await compileServer()
const database = await startDatabase()
await check({ store: 'made-up', users: 1_000_000 }, { ...LIMITS, firstByte: 50 })
if (database !== undefined) {
  await database.provide(DATABASE_USERS)
  await check({ store: 'mongodb', users: DATABASE_USERS }, LIMITS)
  await database.stop()
}

async function check (work: Work, limits: Values): Promise<void> {
  const subject = { id: 'memory', work, call: 'once', callers: 1, sides: ['ours'] } as const
  const [ours] = await measure(subject, { rounds: 1, seconds: 1, mongoUrl: database?.url, profiled: false, onRound () {} })
  for (const [figure, limit] of Object.entries(limits) as Array<[Figure, number]>) {
    const { title, unit, scale } = figures[figure]
    const value = ours?.median[figure] ?? NaN
    if (!(value <= limit)) process.exitCode = 1
    console.log(`${work.store}, ${work.users} users: ${title} ${(value * scale).toFixed(1)} ${unit}, at most ${limit * scale} ${unit}`)
  }
}
