import { countedKinds, isCount } from '../operation.js'
import { plainValue } from '../plain-value.js'
import type { Waiting } from '../schemas.js'
import { entityTagOf, keepLast } from './etag.js'

/** The longest time, in seconds, after which a caller is asked to call again. */
const LONGEST_WAIT = 10

/**
 * Creates a function that writes the waiting reply, given the operation: its JSON, its ETag, and the seconds after which the caller should
 * call again. These are few after a recent change, and more the longer the operation has not changed.
 *
 * @param stalledAfter milliseconds without a change after which an operation is stalled
 */
export const createWaitingReply = (stalledAfter: number) =>
  keepLast(writeReply, ({ id, name, status, updateTime, original: { reading, count } }): Parameters<typeof writeReply> => {
    const now = Date.now()
    const unchanged = now - (updateTime ?? now)
    const retryAfter = Math.min(Math.max(Math.round(unchanged / 10_000), 1), LONGEST_WAIT)
    return [id, name, status, reading, updateTime, unchanged >= stalledAfter, retryAfter, ...countedKinds.map(kind => count?.[kind])]
  })

function writeReply (
  id: string, name: string | undefined, step: string, reading: unknown, updateTime: number | undefined, stalled: boolean, retryAfter: number,
  ...counts: unknown[]
) {
  const known = countedKinds.map((kind, index) => [kind, plainValue(counts[index])]).filter(([, count]) => isCount(count))
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
  return { text, entityTag: entityTagOf(id, name, text), retryAfter: String(retryAfter) }
}
