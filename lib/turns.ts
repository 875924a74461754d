/** Who waits for a turn, in the order of coming. */
const queue: Array<() => void> = []

/**
 * Lets the event loop go. Of everybody who waits here, one goes on in each turn of the loop: however many large replies there
 * are at once, what else the server has to do waits for no more than one of them.
 */
export function nextTurn (): Promise<void> {
  return new Promise(resolve => {
    if (queue.push(resolve) === 1) setImmediate(letOneGoOn)
  })
}

function letOneGoOn (): void {
  queue.shift()?.()
  if (queue.length > 0) setImmediate(letOneGoOn)
}
