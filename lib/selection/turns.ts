import { setImmediate } from 'node:timers/promises'

/** Resolves when the last waiting reply has had its turn. */
let queue = Promise.resolve()

/**
 * Waits for a turn of the event loop. In each iteration of the loop, one waiting reply continues. So other work waits for at most one
 * large reply, however many are in progress.
 */
export function nextTurn (): Promise<void> {
  queue = queue.then(() => setImmediate())
  return queue
}
