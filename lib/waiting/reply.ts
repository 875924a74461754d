import { type Snapshot, countedKinds } from '../operation.js'
import type { Waiting } from '../schemas.js'
import { entityTagOf, keepLast } from './etag.js'

/** The longest time, in seconds, after which a caller is asked to call again. */
const LONGEST_WAIT = 10

/** The reply while an operation is being prepared: JSON, and its ETag. */
export interface WaitingReply { text: string, entityTag: string }

/**
 * Creates a function that writes the waiting reply, given the operation and the importer's display name.
 *
 * @param stalledAfter milliseconds without a change after which an operation is stalled
 */
export function createWaitingReply (stalledAfter: number): (operation: Snapshot, name: string | undefined) => WaitingReply {
  const keep = keepLast<WaitingReply>()
  return ({ id, status, updateTime, original: { reading, count } }, name) => {
    const stalled = updateTime !== undefined && Date.now() - updateTime >= stalledAfter
    const counts = countedKinds.map(kind => count?.[kind])
    return keep([id, name, status, reading, updateTime, stalled, ...counts], () => {
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
      return { text, entityTag: entityTagOf([id, name, text]) }
    })
  }
}

const isCount = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 0

/** Seconds after which a caller should call again: few after a recent change, more the longer the operation has not changed. */
export function retryAfter ({ updateTime = Date.now() }: Snapshot): number {
  const secondsUnchanged = (Date.now() - updateTime) / 1000
  return Math.min(Math.max(Math.round(secondsUnchanged / 10), 1), LONGEST_WAIT)
}
