import { changedAt } from '../operation.js'
import { rememberLast } from '../remember-last.js'
import { type Waiting } from '../schemas.js'
import { type ImportOperation } from '../store.js'

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

/**
 * A function that writes the reply while an operation is being prepared: where it stands, as far as the operation itself says so.
 * As JSON text, which it makes anew when there is something new to say.
 */
export function createWaitingText (): (operation: ImportOperation, stalled: boolean) => string {
  const write = rememberLast(writeWaiting)
  return (operation, stalled) => {
    const { status, reading, count } = operation
    return write(status, reading, changedAt(operation), stalled, ...COUNTED.map(kind => count?.[kind]))
  }
}

function writeWaiting (
  step: string,
  reading: string | null | undefined,
  changed: number | undefined,
  stalled: boolean,
  ...counts: Array<number | undefined>
): string {
  const known = COUNTED.flatMap((kind, index) => isCount(counts[index]) ? [[kind, counts[index]]] : [])
  const reply: Waiting = {
    waiting: true,
    step,
    ...(typeof reading === 'string' && { reading }),
    ...(known.length > 0 && { count: Object.fromEntries(known) }),
    ...(changed !== undefined && { updated_at: new Date(changed).toISOString() }),
    ...(stalled && { stalled }),
    success: true
  }
  return JSON.stringify(reply)
}

/** After how many seconds asking again is worth it: the sooner, the less time has passed since the last change. */
export function retryAfter (operation: ImportOperation): number {
  const secondsUnchanged = (Date.now() - (changedAt(operation) ?? Date.now())) / 1000
  return Math.min(Math.max(Math.round(secondsUnchanged / 10), 1), LONGEST_WAIT)
}

function isCount (value: number | undefined): value is number {
  return value !== undefined && Number.isSafeInteger(value) && value >= 0
}
