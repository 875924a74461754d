/** The large replies that wait for their turn, in order of arrival. */
const queue: Array<() => void> = []

/**
 * Waits for a turn of the event loop. One waiting reply goes on in each iteration of the loop, so however many large replies are
 * under way, other work waits for one of them at most.
 */
export function nextTurn (): Promise<void> {
  return new Promise(resolve => {
    if (queue.push(resolve) === 1) setImmediate(resumeOne)
  })
}

function resumeOne (): void {
  queue.shift()?.()
  if (queue.length > 0) setImmediate(resumeOne)
}
