import { type Side } from './server-process.js'
import { type StoreKind, type Work } from './work.js'

/** What is measured, and how it is shown: a value times `scale` is in `unit`. */
export const figures = {
  requestsPerSecond: { title: 'requests per second', unit: '/s', scale: 1 },
  latencyP50: { title: 'median latency', unit: 'ms', scale: 1 },
  latencyP99: { title: 'p99 latency', unit: 'ms', scale: 1 },
  firstByte: { title: 'time to first byte', unit: 'ms', scale: 1 },
  time: { title: 'time in all', unit: 'ms', scale: 1 },
  cpuSeconds: { title: 'CPU time of a reply', unit: 'ms', scale: 1000 },
  busy: { title: 'CPUs kept busy', unit: '', scale: 1 },
  peakMemory: { title: 'peak memory over the start', unit: 'MiB', scale: 2 ** -20 },
  longestDelay: { title: 'longest event-loop delay', unit: 'ms', scale: 1 },
  delayP99: { title: 'p99 event-loop delay', unit: 'ms', scale: 1 },
  bytes: { title: 'bytes of a reply', unit: 'KiB', scale: 2 ** -10 }
} as const satisfies Record<string, { title: string, unit: string, scale: number }>

/** One of the figures. */
export type Figure = keyof typeof figures

/** The values of the figures; which there are depends on the way of calling. */
export type Values = Partial<Record<Figure, number>>

/** What the sides are called. */
export const sideTitles: Record<Side, string> = {
  ours: 'ours',
  'rocket-chat': 'Rocket.Chat\'s way',
  bare: 'bare route',
  'ready-made': 'ready-made bytes',
  drain: 'cursors drained',
  'raw-drain': 'cursors drained, raw'
}

/** A work, and how it is called. */
export interface Case {
  id: string
  work: Work
  /** Again and again for a time; once; or by all callers at once, the last of whom reads at a trickle. */
  call: 'rate' | 'once' | 'crowd'
  callers: number
  /** How many calls a round has, where a time could be too short for any. */
  calls?: number
  /** Whether the callers have the reply already, so that it is a 304. */
  isKnown?: boolean
  /** Who is measured, in turn. */
  sides: readonly Side[]
}

/** What a figure of ours has to reach. */
export interface Bound {
  figure: Figure
  case: string
  /** As a ratio to this side's figure; else the figure itself. */
  against?: Side
  /** As what each caller adds to the figure of this case, which has one. */
  over?: string
  atLeast?: number
  atMost?: number
}

/** How many users the selections have. */
export interface Sizes {
  /** The largest that is made up. */
  largest: number
  /** That of each caller of a crowd. */
  crowd: number
  /** The larger one from MongoDB. */
  mongodb: number
}

/** How many callers there are at most. */
const CROWD = 50

/** Everything that is measured. */
export function casesOf ({ largest, crowd, mongodb }: Sizes): Case[] {
  return [
    ...[1, CROWD].flatMap(callers => [
      rate('waiting', { store: 'made-up', users: 0, waiting: true }, callers, ['ours', 'bare']),
      { ...rate('not-modified', { store: 'made-up', users: 100 }, callers, ['ours', 'bare']), isKnown: true },
      rate('made-up-100', { store: 'made-up', users: 100 }, callers, ['ours', 'rocket-chat']),
      { ...rate('mongodb-100', { store: 'mongodb', users: 100 }, callers, ['ours', 'rocket-chat']), calls: Math.max(callers, 25) }
    ]),
    ...sizesUpTo(largest).map(users => once('made-up', users, ['ours', 'rocket-chat', 'ready-made'])),
    ...sizesUpTo(Math.min(largest, 200_000)).map(users => once('dump', users, ['ours', 'rocket-chat'])),
    ...[100, mongodb].map(users => once('mongodb', users, ['ours', 'rocket-chat', 'drain', 'raw-drain'])),
    { id: 'crowd', work: { store: 'made-up', users: crowd }, call: 'crowd', callers: CROWD, sides: ['ours'] }
  ]
}

/** Everything that is to be reached. */
export function boundsOf (sizes: Sizes): Bound[] {
  const largest = `made-up-${sizes.largest}`
  const database = `mongodb-${sizes.mongodb}`
  return [
    { figure: 'requestsPerSecond', case: `waiting-by-${CROWD}`, against: 'bare', atLeast: 0.9 },
    { figure: 'requestsPerSecond', case: `not-modified-by-${CROWD}`, against: 'bare', atLeast: 0.9 },
    { figure: 'requestsPerSecond', case: `made-up-100-by-${CROWD}`, against: 'rocket-chat', atLeast: 1 },
    { figure: 'latencyP50', case: 'mongodb-100-by-1', against: 'rocket-chat', atMost: 0.6 },
    { figure: 'time', case: largest, against: 'rocket-chat', atMost: 0.42 },
    { figure: 'time', case: largest, against: 'ready-made', atMost: 4 },
    { figure: 'peakMemory', case: largest, atMost: 48 * 2 ** 20 },
    { figure: 'longestDelay', case: largest, atMost: 15 },
    { figure: 'firstByte', case: largest, atMost: 10 },
    { figure: 'time', case: database, against: 'rocket-chat', atMost: 1 },
    { figure: 'cpuSeconds', case: database, against: 'rocket-chat', atMost: 0.6 },
    { figure: 'cpuSeconds', case: database, against: 'raw-drain', atMost: 2 },
    { figure: 'peakMemory', case: database, atMost: 64 * 2 ** 20 },
    { figure: 'peakMemory', case: 'crowd', over: `made-up-${sizes.crowd}`, atMost: 2 * 2 ** 20 }
  ]
}

function sizesUpTo (largest: number): number[] {
  return [...[100, 10_000, 200_000].filter(users => users < largest), largest]
}

function rate (id: string, work: Work, callers: number, sides: readonly Side[]): Case {
  return { id: `${id}-by-${callers}`, work, call: 'rate', callers, sides }
}

function once (store: StoreKind, users: number, sides: readonly Side[]): Case {
  return { id: `${store}-${users}`, work: { store, users }, call: 'once', callers: 1, sides }
}
