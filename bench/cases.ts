import type { Side } from './server-process.js'
import type { Work } from './work.js'

/** The figures that are measured. */
export const figures = {
  requestsPerSecond: { title: 'requests per second', unit: '/s' },
  time: { title: 'time', unit: 'ms' },
  firstByte: { title: 'time to first byte', unit: 'ms' },
  cpu: { title: 'CPU time of a reply', unit: 'ms' },
  peakMemory: { title: 'peak memory over start', unit: 'MiB' },
  longestDelay: { title: 'longest event-loop delay', unit: 'ms' },
  delayP99: { title: 'p99 event-loop delay', unit: 'ms' }
} as const satisfies Record<string, { title: string, unit: string }>

/** The name of a figure. */
export type Figure = keyof typeof figures

/** The figures of a round, each in its unit. */
export type Values = Partial<Record<Figure, number>>

/** The name of each side in a report. */
export const sideTitles: Record<Side, string> = {
  ours: 'plugin',
  earlier: 'earlier version',
  'rocket-chat': 'Rocket.Chat\'s way',
  bare: 'bare route',
  'raw-drain': 'raw drain'
}

/** A workload, and how it is called. */
export interface Case {
  id: string
  title: string
  work: Work
  /**
   * `rate`: repeatedly by 50 callers; `known`: the same with `If-None-Match`, so that the replies are 304;
   * `once`: once by one caller; `crowd`: by 50 concurrent callers, one of them slow.
   */
  call: 'rate' | 'known' | 'once' | 'crowd'
  /** Whether memory and event-loop delay are measured. This takes CPU time, so CPU time is not measured then. */
  isWatched: boolean
  /** The sides to measure, ours first. */
  sides: readonly Side[]
}

/** A limit for one of our figures, or for its ratio to the figure in `against`. */
export interface Bound {
  case: string
  figure: Figure
  /** The side to compare with, in the same case or in `case`. */
  against?: { side: Side, case?: string }
  atLeast?: number
  atMost?: number
}

/**
 * All cases.
 *
 * @param scale 1, or a fraction to make large selections smaller
 */
export function casesOf (scale: number): Case[] {
  const [large, medium] = [1_000_000 * scale, 200_000 * scale]
  const count = (users: number) => users.toLocaleString('en')
  return [
    { id: 'waiting', title: 'waiting poll', work: { store: 'generated', users: 0, waiting: true }, call: 'rate', isWatched: false, sides: ['ours', 'bare'] },
    { id: 'not-modified', title: '304', work: { store: 'generated', users: 100 }, call: 'known', isWatched: false, sides: ['ours', 'bare'] },
    { id: 'small', title: '100 generated users', work: { store: 'generated', users: 100 }, call: 'rate', isWatched: false, sides: ['ours', 'rocket-chat'] },
    { id: 'medium', title: `${count(medium)} generated users`, work: { store: 'generated', users: medium }, call: 'once', isWatched: true, sides: ['ours'] },
    { id: 'large', title: `${count(large)} generated users`, work: { store: 'generated', users: large }, call: 'once', isWatched: true, sides: ['ours', 'rocket-chat'] },
    { id: 'crowd', title: `50 callers, one of them slow, ${count(medium)} generated users each`, work: { store: 'generated', users: medium }, call: 'crowd', isWatched: true, sides: ['ours'] },
    { id: 'database', title: `${count(medium)} users from the database`, work: { store: 'mongodb', users: medium }, call: 'once', isWatched: false, sides: ['ours', 'raw-drain'] }
  ]
}

/** The limits that the figures have to meet. */
export const bounds: readonly Bound[] = [
  { case: 'waiting', figure: 'requestsPerSecond', against: { side: 'bare' }, atLeast: 0.92 },
  { case: 'not-modified', figure: 'requestsPerSecond', against: { side: 'bare' }, atLeast: 0.92 },
  { case: 'small', figure: 'requestsPerSecond', against: { side: 'rocket-chat' }, atLeast: 1 },
  { case: 'large', figure: 'time', against: { side: 'rocket-chat' }, atMost: 0.4 },
  { case: 'large', figure: 'peakMemory', against: { side: 'rocket-chat' }, atMost: 0.1 },
  { case: 'large', figure: 'peakMemory', against: { side: 'ours', case: 'medium' }, atMost: 1.3 },
  { case: 'large', figure: 'longestDelay', atMost: 25 },
  { case: 'large', figure: 'firstByte', atMost: 10 },
  { case: 'crowd', figure: 'peakMemory', against: { side: 'earlier' }, atMost: 0.8 },
  { case: 'crowd', figure: 'delayP99', atMost: 20 },
  { case: 'database', figure: 'cpu', against: { side: 'raw-drain' }, atMost: 2 }
]
