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
  const time = changedAt(operation)
  const count = knownCounts(operation.count)
  return {
    waiting: true,
    step: operation.status,
    ...(typeof operation.reading === 'string' && { reading: operation.reading }),
    ...(count && { count }),
    ...(time !== undefined && { updated_at: new Date(time).toISOString() }),
    ...(stalled && { stalled }),
    success: true
  }
}

/** After how many seconds asking again is worth it: the sooner, the less time has passed since the last change. */
export function retryAfter (operation: ImportOperation): number {
  const secondsUnchanged = (Date.now() - (changedAt(operation) ?? Date.now())) / 1000
  return Math.min(Math.max(Math.round(secondsUnchanged / 10), 1), LONGEST_WAIT)
}

function knownCounts (count: ImportCount | null | undefined): ImportCount | undefined {
  const known = COUNTED.flatMap(kind => {
    const value = count?.[kind]
    return Number.isSafeInteger(value) && Number(value) >= 0 ? [[kind, value] as const] : []
  })
  return known.length > 0 ? Object.fromEntries(known) : undefined
}
