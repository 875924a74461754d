import { InvalidStoreAnswer } from '../errors.js'
import { type Batches } from '../store.js'
import { directMessages } from './items.js'

/** One array of the selection: reads its batches, and converts their records to items. */
export class Part<Staged> {
  /** The records without an item: how many there are, and the position of the first, counted from 1. */
  leftOut: { count: number, first: number } | undefined
  /** Whether a direct channel was among the records: its item is sent after the others. */
  hasDirectMessages = false
  #iterator: AsyncIterator<readonly Staged[]> | Iterator<readonly Staged[]> | undefined
  #first: Promise<IteratorResult<readonly Staged[]>> | undefined
  #position = 0

  /**
   * @param name the key of the reply, and the method of the store
   * @param batches calls that method
   * @param toItem the item of a record, or undefined when it has none
   */
  constructor (
    readonly name: 'users' | 'channels' | 'contacts',
    readonly batches: () => Batches<Staged>,
    readonly toItem: (staged: Staged & {}) => object | undefined
  ) {}

  /** Opens the batches, and reads the first ahead. Throws what the store throws, and InvalidStoreAnswer. */
  async open (): Promise<void> {
    this.#iterator = iteratorOf(this.batches())
    if (this.#iterator === undefined) throw new InvalidStoreAnswer(this.name, 'an iterable or async iterable of arrays')
    this.#first = Promise.resolve(this.#iterator.next())
    await this.#first
  }

  /** The next batch, or undefined at the end. Opens the batches when they are not open. Throws as `open` does. */
  async next (): Promise<readonly Staged[] | undefined> {
    if (this.#iterator === undefined) await this.open()
    const result = await (this.#first ?? this.#iterator?.next())
    this.#first = undefined
    if (result === undefined || result.done) {
      this.#iterator = undefined
      return undefined
    }
    if (!Array.isArray(result.value)) throw new InvalidStoreAnswer(this.name, 'its records in arrays, a batch at a time')
    return result.value
  }

  /** Converts records to items. */
  toItems (records: readonly Staged[]): object[] {
    const items: object[] = []
    for (const staged of records) {
      this.#position++
      const item = staged === null || staged === undefined ? undefined : this.toItem(staged)
      if (item === undefined) (this.leftOut ??= { count: 0, first: this.#position }).count++
      else if (item === directMessages) this.hasDirectMessages = true
      else items.push(item)
    }
    return items
  }

  /** Closes the batches with the iterator's `return`. A later `next` opens them again, from the beginning. */
  close (): void {
    const iterator = this.#iterator
    if (iterator === undefined) return
    this.#iterator = undefined
    this.#first = undefined
    // The reply does not depend on how the store cleans up.
    new Promise(resolve => resolve(iterator.return?.())).catch(() => {})
  }
}

function iteratorOf<Staged> (source: Batches<Staged>) {
  if (typeof source !== 'object' || source === null) return undefined
  if (Symbol.asyncIterator in source) return source[Symbol.asyncIterator]()
  return Symbol.iterator in source ? source[Symbol.iterator]() : undefined
}
