import { type ImportOperation, countedKinds, updateTimeOf } from '../operation.js'
import { type Waiting } from '../schemas.js'
import { createEntityTag } from './etag.js'

/** The longest time, in seconds, after which a caller is asked to call again. */
const LONGEST_WAIT = 10

/** The reply while an operation is being prepared: JSON, and its ETag. */
export interface WaitingReply { text: string, entityTag: string }

/**
 * Creates a function that writes the waiting reply. It keeps the last one: most polls get the same reply as the poll before
 * (docs/performance.md).
 *
 * @param stalledAfter milliseconds without a change after which an operation is stalled
 */
export function createWaitingReply (stalledAfter: number): (operation: ImportOperation, name: string | undefined) => WaitingReply {
  const tagOf = createEntityTag()
  let lastKey: unknown[] = []
  let last: WaitingReply | undefined
  return (operation, name) => {
    const { id, status, reading, count } = operation
    const updateTime = updateTimeOf(operation)
    const stalled = updateTime !== undefined && Date.now() - updateTime >= stalledAfter
    const counts = countedKinds.map(kind => count?.[kind])
    const key = [id, name, status, reading, updateTime, stalled, ...counts]
    if (last !== undefined && key.every((value, index) => value === lastKey[index])) return last
    const known = countedKinds.flatMap((kind, index) => isCount(counts[index]) ? [[kind, counts[index]]] : [])
    const waiting: Waiting = {
      waiting: true,
      step: status,
      ...(typeof reading === 'string' && { reading }),
      ...(known.length > 0 && { count: Object.fromEntries(known) }),
      ...(updateTime !== undefined && { updated_at: new Date(updateTime).toISOString() }),
      ...(stalled && { stalled }),
      success: true
    }
    const text = JSON.stringify(waiting)
    lastKey = key
    last = { text, entityTag: tagOf(id, name, text) }
    return last
  }
}

const isCount = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 0

/** Seconds after which a caller should call again: few after a recent change, more the longer the operation has not changed. */
export function retryAfter (operation: ImportOperation): number {
  const secondsUnchanged = (Date.now() - (updateTimeOf(operation) ?? Date.now())) / 1000
  return Math.min(Math.max(Math.round(secondsUnchanged / 10), 1), LONGEST_WAIT)
}
