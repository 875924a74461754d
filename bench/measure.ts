import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { type Case, type Figure, type Values, figures } from './cases.js'
import { type Reply, type Seen, type Target, callFor, fetchReply, readByCrowd, readOnce } from './client.js'
import { type Order, ServerProcess, type Side, WARM_UP_PREFIX, WORK_PREFIX, ourPlugin } from './server-process.js'

/** How to measure a case. */
export interface Measuring {
  rounds: number
  /** The duration of a round, if the case measures a rate. */
  seconds: number
  /** The URL of the folder of an earlier version of the plugin, which is measured as well. */
  earlierPlugin: string | undefined
  /** The URL of the database server, for cases that read from it. */
  mongoUrl: string | undefined
  /** Whether the servers write CPU profiles to bench/results/. */
  isProfiled: boolean
  onRound (round: number): void
}

/** The figures of a side in a case. */
export interface Measured {
  side: Side
  /** The median of each figure over all rounds. */
  median: Values
  rounds: Values[]
}

interface Contestant {
  side: Side
  server: ServerProcess
  target: Target
  reply: Reply
}

/** How many small replies a server sends before it is measured. */
const WARM_UP_REPLIES = 10

/** The number of processes for each side when a rate is measured. */
const RATE_PROCESSES = 3

/** How long a rate is warmed up: with less, the compiler of Node.js is not done. */
const WARM_UP_SECONDS = 2

/**
 * Measures the sides of a case, each in separate processes. In each round the sides are measured one after the other. A rate is measured
 * in several processes for each side, because two processes with the same program differ by up to a quarter.
 */
export async function measure (subject: Case, measuring: Measuring): Promise<Measured[]> {
  const { rounds, seconds, earlierPlugin, onRound } = measuring
  const sides: Side[] = earlierPlugin === undefined ? [...subject.sides] : [...subject.sides, 'earlier']
  const isRate = subject.call === 'rate' || subject.call === 'known'
  const contestants: Contestant[] = []
  try {
    for (let process = 1; process <= (isRate ? RATE_PROCESSES : 1); process++) {
      for (const side of sides) contestants.push(await prepare(subject, side, measuring, contestants[0]?.reply))
    }
    if (isRate) for (const contestant of contestants) await measureRound(subject, contestant, WARM_UP_SECONDS)
    const measured = new Map<Side, Values[]>(sides.map(side => [side, []]))
    for (let round = 1; round <= rounds; round++) {
      onRound(round)
      // The order alternates, so that no side has an advantage.
      const order = round % 2 === 1 ? contestants : contestants.toReversed()
      for (const contestant of order) measured.get(contestant.side)?.push(await measureRound(subject, contestant, seconds))
    }
    return [...measured].map(([side, rounds]) => ({ side, median: medians(rounds), rounds }))
  } finally {
    await Promise.all(contestants.map(({ server }) => server.stop()))
  }
}

async function prepare (
  subject: Case,
  side: Side,
  { earlierPlugin, mongoUrl, isProfiled }: Measuring,
  ourReply: Reply | undefined
): Promise<Contestant> {
  const plugin = side === 'earlier' && earlierPlugin !== undefined ? earlierPlugin : ourPlugin
  const order: Order = { side, work: subject.work, plugin, mongoUrl, reply: ourReply }
  const server = await ServerProcess.start(order, isProfiled ? profileOptions(subject, side) : [])
  for (let reply = 0; reply < WARM_UP_REPLIES; reply++) await fetchReply({ port: server.port, prefix: WARM_UP_PREFIX })
  await server.settle()

  const target = { port: server.port, prefix: WORK_PREFIX }
  const reply = await fetchReply(target)
  const measured = subject.call === 'known' ? await fetchReply(target, reply.headers.etag) : reply
  if (ourReply !== undefined && !isSame(side, measured, ourReply)) throw new Error(`The reply of ${side} to ${subject.id} differs from ours`)
  return { side, server, target, reply: measured }
}

function profileOptions ({ id }: Case, side: Side): string[] {
  return ['--cpu-prof', `--cpu-prof-dir=${fileURLToPath(new URL(`./results/${id}/${side}`, import.meta.url))}`]
}

// Rocket.Chat's way may write object members in another order. The reply of an earlier version may differ.
function isSame (side: Side, reply: Reply, ours: Reply): boolean {
  if (side === 'raw-drain' || side === 'earlier') return true
  if (side === 'bare') return isDeepStrictEqual(withoutDate(reply), withoutDate(ours))
  return reply.length === ours.length && isDeepStrictEqual(JSON.parse(reply.body || 'null'), JSON.parse(ours.body || 'null'))
}

function withoutDate ({ headers: { date, ...headers }, ...reply }: Reply) {
  return { ...reply, headers }
}

async function measureRound (subject: Case, { server, target, reply }: Contestant, seconds: number): Promise<Values> {
  const [{ replies, ...seen }, used] = await server.during(() => call(subject, target, seconds, reply.headers.etag), subject)
  return { ...seen, ...used, ...(used.cpu !== undefined && { cpu: used.cpu / replies }) }
}

async function call ({ call }: Case, target: Target, seconds: number, entityTag: string | undefined): Promise<Seen> {
  switch (call) {
    case 'rate': return await callFor(target, seconds)
    case 'known': return await callFor(target, seconds, entityTag)
    case 'once': return await readOnce(target)
    case 'crowd': return await readByCrowd(target)
  }
}

function medians (rounds: readonly Values[]): Values {
  const names = Object.keys(figures) as Figure[]
  return Object.fromEntries(names.flatMap(name => {
    const values = rounds.flatMap(round => round[name] ?? []).sort((a, b) => a - b)
    const median = values[Math.floor(values.length / 2)]
    return median === undefined ? [] : [[name, median]]
  }))
}
