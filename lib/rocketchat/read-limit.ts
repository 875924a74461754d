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

  /** Waits for a read of the driver, which rejects with ReadTimeout or the caller's reason as soon as the signal is aborted. */
  async wait<T> (read: Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.#deadline.abort(new ReadTimeout(this.maxTimeMS)), this.maxTimeMS)
    try {
      return await read
    } finally {
      clearTimeout(timer)
    }
  }
}
