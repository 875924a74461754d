import { InvalidStoreAnswer } from './errors.js'
import { type Batches } from './store.js'

/** Reads a store's batches one by one, and can ask for the first before anybody wants it. */
export class BatchReader<Staged> {
  readonly #open: () => Batches<Staged>
  #isRead = false
  #iterator: AsyncIterator<readonly Staged[]> | Iterator<readonly Staged[]> | undefined
  #head: Promise<IteratorResult<readonly Staged[]>> | IteratorResult<readonly Staged[]> | undefined

  /**
   * @param name the store's method
   * @param open calls it
   */
  constructor (readonly name: 'users' | 'channels' | 'contacts', open: () => Batches<Staged>) {
    this.#open = open
  }

  /** Opens the batches and asks for the first, which it gives. Throws what the store throws, and InvalidStoreAnswer. */
  open (): Promise<unknown> | IteratorResult<unknown> {
    const source = this.#open()
    this.#iterator = iteratorOf(source)
    if (this.#iterator === undefined) throw new InvalidStoreAnswer(this.name, 'an iterable or async iterable of arrays')
    this.#head = this.#iterator.next()
    // It may be that nobody comes to wait for it, since another part has failed meanwhile.
    if (this.#head instanceof Promise) this.#head.catch(() => {})
    return this.#head
  }

  /** The next batch, or undefined at the end; opens the batches first if need be. Throws as `open` does. */
  async next (): Promise<readonly Staged[] | undefined> {
    if (this.#iterator === undefined) this.open()
    const head = this.#head ?? this.#iterator?.next()
    this.#head = undefined
    const result = await head
    if (result === undefined || result.done) {
      this.#iterator = undefined
      return undefined
    }
    if (!Array.isArray(result.value)) throw new InvalidStoreAnswer(this.name, 'its records in arrays, a batch at a time')
    this.#isRead = true
    return result.value
  }

  /** Closes the batches when none has been read yet; the next read opens them again. */
  closeUnread (): void {
    if (!this.#isRead) this.close()
  }

  /** Ends the reading; the store learns of it by the iterator's `return`. May be called at any time, and again. */
  close (): void {
    const iterator = this.#iterator
    this.#iterator = undefined
    this.#head = undefined
    // The reply is decided already: that a store fails to tidy up changes nothing for the caller.
    new Promise(resolve => resolve(iterator?.return?.())).catch(() => {})
  }
}

function iteratorOf<Staged> (source: Batches<Staged>) {
  if (typeof source !== 'object' || source === null) return undefined
  if (Symbol.asyncIterator in source) return source[Symbol.asyncIterator]()
  return Symbol.iterator in source ? source[Symbol.iterator]() : undefined
}
