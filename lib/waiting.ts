import { changedAt } from './operation.js'
import { type Waiting } from './schemas.js'
import { type ImportCount, type ImportOperation } from './store.js'

/** The longest time, in seconds, after which a caller is told to ask again. */
const LONGEST_WAIT = 10

/** The kinds of records that an operation counts, in the order of the reply. */
const COUNTED = ['total', 'completed', 'error', 'users', 'channels', 'messages', 'contacts'] as const

/**
 * Whether an operation that is being prepared has stood still for too long.
 *
 * @param stalledAfter milliseconds without a change
 */
export function isStalled (operation: ImportOperation, stalledAfter: number): boolean {
  const time = changedAt(operation)
  return time !== undefined && Date.now() - time >= stalledAfter
}

/** The reply while an operation is being prepared: where it stands, as far as the operation itself says so. */
export function waitingReply (operation: ImportOperation, stalled: boolean): Waiting {
  const { status, reading, count, updatedAt } = operation
  const reply: Partial<Waiting> & Pick<Waiting, 'step'> = { waiting: true, step: status }
  if (typeof reading === 'string') reply.reading = reading
  const known = knownCounts(count)
  if (known) reply.count = known
  if (updatedAt && changedAt(operation) !== undefined) reply.updated_at = updatedAt.toISOString()
  if (stalled) reply.stalled = stalled
  return Object.assign(reply, { waiting: true, success: true } as const)
}

/** After how many seconds asking again is worth it: the sooner, the less time has passed since the last change. */
export function retryAfter (operation: ImportOperation): number {
  const secondsUnchanged = (Date.now() - (changedAt(operation) ?? Date.now())) / 1000
  return Math.min(Math.max(Math.round(secondsUnchanged / 10), 1), LONGEST_WAIT)
}

function knownCounts (count: ImportCount | null | undefined): ImportCount | undefined {
  if (!count) return undefined
  let known: ImportCount | undefined
  for (const kind of COUNTED) {
    const value = count[kind]
    if (value !== undefined && Number.isSafeInteger(value) && value >= 0) (known ??= {})[kind] = value
  }
  return known
}
