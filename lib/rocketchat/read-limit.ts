import { ReadTimeout } from '../errors.js'

/**
 * Ends a read of the database when the caller is gone, or when it takes longer than it may. The server has a limit of its
 * own (`maxTimeMS`), which does not help where the network or the server itself stands still.
 */
export class ReadLimit {
  /** To be handed to the driver, so that it gives up, too. */
  readonly signal: AbortSignal
  readonly #deadline = new AbortController()

  constructor (private readonly maxTimeMS: number, caller?: AbortSignal) {
    this.signal = caller === undefined ? this.#deadline.signal : AbortSignal.any([caller, this.#deadline.signal])
  }

  /** What the read gives. Rejects with ReadTimeout, or with the caller's reason, without waiting for it any longer. */
  async wait<T> (read: Promise<T>): Promise<T> {
    const { signal } = this
    const timer = setTimeout(() => this.#deadline.abort(new ReadTimeout(this.maxTimeMS)), this.maxTimeMS)
    let giveUp!: () => void
    const givenUp = new Promise<never>((_resolve, reject) => { giveUp = () => reject(signal.reason) })
    signal.addEventListener('abort', giveUp)
    try {
      return await Promise.race([read, givenUp])
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', giveUp)
    }
  }
}
