import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { type Case, type Figure, type Values, figures } from './cases.js'
import { type Inspected, type Target, callFor, inspect, readByCrowd, readOnce } from './client.js'
import { ServerProcess, type Side, WARM_UP, WORK } from './server-process.js'

/** How a case is measured. */
export interface Measuring {
  rounds: number
  /** How long a round of a rate takes. */
  seconds: number
  /** The database server, for work from MongoDB. */
  mongoUrl: string | undefined
  /** Whether the servers are to leave profiles of what takes their time. */
  profiled: boolean
  onRound (round: number): void
}

/** What a side has reached in a case. */
export interface Measured {
  side: Side
  /** The median of each figure over the rounds. */
  median: Values
  rounds: Values[]
}

interface Contestant {
  side: Side
  server: ServerProcess
  target: Target
  /** The reply that is measured, and a small selection. */
  replies: readonly [Inspected, Inspected]
}

/** How many small replies a server has made before it is measured. */
const WARM_UP_REPLIES = 10

/** Small selections are read more than once a round: until so many milliseconds have gone by, but no more than so many times. */
const ROUND = { time: 100, replies: 20 }

/** Measures the sides of a case, each in a process of its own: round by round, and in each round one after the other. */
export async function measure (subject: Case, { rounds, seconds, mongoUrl, profiled, onRound }: Measuring): Promise<Measured[]> {
  const { work, sides } = subject
  const contestants = await Promise.all(sides.map(async side => {
    const server = await ServerProcess.start({ side, work, mongoUrl }, profiled ? profileOf(subject, side) : [])
    return { side, server, target: { ...WORK, port: server.port } }
  }))
  const ready: Contestant[] = []
  for (const contestant of contestants) ready.push({ ...contestant, replies: await warmUp(contestant) })
  checkSame(ready.filter(isSelection))
  if (subject.call === 'rate') for (const contestant of ready) await measureRound(subject, contestant, seconds)

  const measured = new Map<Side, Values[]>(sides.map(side => [side, []]))
  for (let round = 1; round <= rounds; round++) {
    onRound(round)
    for (const contestant of ready) measured.get(contestant.side)?.push(await measureRound(subject, contestant, seconds))
  }
  await Promise.all(ready.map(({ server }) => server.stop()))
  return [...measured].map(([side, rounds]) => ({ side, median: medians(rounds), rounds }))
}

function profileOf ({ id }: Case, side: Side): string[] {
  return ['--cpu-prof', `--cpu-prof-dir=${fileURLToPath(new URL(`./results/${id}/${side}`, import.meta.url))}`]
}

async function warmUp ({ server, target }: Omit<Contestant, 'replies'>): Promise<Contestant['replies']> {
  const small = { ...WARM_UP, port: server.port }
  for (let reply = 0; reply < WARM_UP_REPLIES; reply++) await readOnce(small)
  await server.settle()
  return [await inspect(target), await inspect(small)]
}

function isSelection ({ side }: Contestant): boolean {
  return side === 'ours' || side === 'rocket-chat' || side === 'ready-made'
}

// Two writers of JSON may put the members of an object in another order; more than the length is too much to compare in a large one.
function checkSame (contestants: readonly Contestant[]): void {
  const [first] = contestants.map(({ replies: [work, small] }) => ({ length: work.length, json: small.json }))
  for (const { side, replies: [work, small] } of contestants) {
    if (!isDeepStrictEqual({ length: work.length, json: small.json }, first)) throw new Error(`The selection of ${side} is another`)
  }
}

async function measureRound (subject: Case, contestant: Contestant, seconds: number): Promise<Values> {
  const { server, target, replies: [{ entityTag }] } = contestant
  const work = () => call(subject, target, seconds, entityTag)
  await server.collect()
  if (subject.call !== 'once') {
    return await count(server, async () => {
      const [seen, health] = await server.watch(work)
      return { ...seen, ...health }
    })
  }
  // Not at once: a server that waits seconds for its database spends more on being watched than on the reply.
  const counted = await count(server, work)
  if (!isSelection(contestant)) return counted
  await server.collect()
  const [, health] = await server.watch(work)
  return { ...counted, ...health }
}

async function count (server: ServerProcess, work: () => Promise<Values & { replies: number }>): Promise<Values> {
  const start = performance.now()
  const [{ replies, ...values }, { cpuSeconds }] = await server.count(work)
  const seconds = (performance.now() - start) / 1000
  return { ...values, cpuSeconds: cpuSeconds / replies, busy: cpuSeconds / seconds }
}

async function call (
  { call, callers, calls, isKnown = false }: Case,
  target: Target,
  seconds: number,
  entityTag: string | undefined
): Promise<Values & { replies: number }> {
  switch (call) {
    case 'rate': return { ...await callFor(target, { callers, seconds, calls, ...(isKnown && entityTag !== undefined && { entityTag }) }) }
    case 'crowd': return { replies: callers, ...await readByCrowd(target, callers) }
    case 'once': {
      const end = performance.now() + ROUND.time
      const readings: Values[] = []
      do readings.push({ ...await readOnce(target) }); while (readings.length < ROUND.replies && performance.now() < end)
      return { replies: readings.length, ...medians(readings) }
    }
  }
}

function medians (rounds: readonly Values[]): Values {
  const names = Object.keys(figures) as Figure[]
  return Object.fromEntries(names.flatMap(name => {
    const values = rounds.flatMap(round => round[name] ?? []).sort((a, b) => a - b)
    const middle = values.length / 2
    const [low, high] = [values[Math.ceil(middle) - 1], values[Math.floor(middle)]]
    return low === undefined || high === undefined ? [] : [[name, (low + high) / 2]]
  }))
}
