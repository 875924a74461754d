import { type Snapshot, countedKinds, isCount } from '../operation.js'
import type { Waiting } from '../schemas.js'
import { entityTagOf, keepLast } from './etag.js'

/** The longest time, in seconds, after which a caller is asked to call again. */
const LONGEST_WAIT = 10

/**
 * Creates a function that writes the waiting reply, JSON and its ETag, given the operation.
 *
 * @param stalledAfter milliseconds without a change after which an operation is stalled
 */
export function createWaitingReply (stalledAfter: number) {
  const write = keepLast(writeReply)
  return ({ id, name, status, updateTime, original: { reading, count } }: Snapshot) => {
    const stalled = updateTime !== undefined && Date.now() - updateTime >= stalledAfter
    return write(id, name, status, reading, updateTime, stalled, ...countedKinds.map(kind => count?.[kind]))
  }
}

function writeReply (
  id: string, name: string | undefined, step: string, reading: unknown, updateTime: number | undefined, stalled: boolean, ...counts: unknown[]
) {
  const known = countedKinds.map((kind, index) => [kind, counts[index]]).filter(([, count]) => isCount(count))
  const waiting: Waiting = {
    waiting: true,
    step,
    ...(typeof reading === 'string' && { reading }),
    ...(known.length > 0 && { count: Object.fromEntries(known) }),
    ...(updateTime !== undefined && { updated_at: new Date(updateTime).toISOString() }),
    ...(stalled && { stalled }),
    success: true
  }
  const text = JSON.stringify(waiting)
  return { text, entityTag: entityTagOf(id, name, text) }
}

/** Seconds after which a caller should call again: few after a recent change, more the longer the operation has not changed. */
export function retryAfter ({ updateTime = Date.now() }: Snapshot): number {
  const secondsUnchanged = (Date.now() - updateTime) / 1000
  return Math.min(Math.max(Math.round(secondsUnchanged / 10), 1), LONGEST_WAIT)
}
