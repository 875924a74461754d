import { setImmediate } from 'node:timers/promises'

/** Ends when the last of the large replies that wait has had its turn. */
let queue = Promise.resolve()

/**
 * Waits for a turn of the event loop. One waiting reply goes on in each iteration of the loop, so however many large replies are
 * under way, other work waits for one of them at most.
 */
export function nextTurn (): Promise<void> {
  queue = queue.then(() => setImmediate())
  return queue
}
