import { InvalidStoreAnswer } from '../errors.js'
import type { Batches } from '../store.js'
import { directMessages } from './items.js'

/** The minimum length, in characters, of a chunk of a large reply. The JSON of a slice has at most about this length, too. */
export const CHUNK_LENGTH = 64 * 1024

/**
 * The maximum number of records in a slice: those that are converted to JSON at a time. With other numbers, large replies take more memory
 * (docs/performance.md).
 */
const SLICE_SIZE = 128

/** The name of a part: a key of the reply, and a method of the store. */
type PartName = 'users' | 'channels' | 'contacts'

/** One array of the selection: reads its batches, and converts their records to the JSON of their items. */
export class Part<Staged> {
  /** The records without an item: how many there are, and the position of the first, counted from 1. */
  leftOut: { count: number, first: number } | undefined
  #iterator: AsyncIterator<readonly Staged[]> | Iterator<readonly Staged[]> | undefined
  /** The batch that is read, ahead or now; resolves to undefined at the end of the batches. */
  #batch: Promise<readonly Staged[] | undefined> | undefined
  #nextInBatch = 0
  #position = 0
  #sliceSize = SLICE_SIZE
  /** What is sent after all other items: the item of all direct channels. */
  #rest: object[] = []

  /**
   * @param batches calls the method of the store
   * @param toItem the item of a record, or undefined when it has none
   */
  constructor (readonly name: PartName, readonly batches: () => Batches<Staged>, readonly toItem: (staged: Staged) => object | undefined) {}

  /** Whether no batch is held in memory. */
  get isBetweenBatches (): boolean { return this.#batch === undefined }

  /** Opens the batches when they are not open, and reads the next one ahead. Throws what the store throws, and InvalidStoreAnswer. */
  open (): Promise<readonly Staged[] | undefined> { return (this.#batch ??= this.#read()) }

  /** The JSON of the next items, without brackets, or undefined at the end. Opens the batches, and throws, as `open` does. */
  async next (): Promise<string | undefined> {
    const batch = await this.open()
    if (batch === undefined) return JSON.stringify(this.#rest.shift())
    const records = batch.slice(this.#nextInBatch, this.#nextInBatch += this.#sliceSize)
    if (this.#nextInBatch >= batch.length) this.#batch = undefined
    const items: object[] = []
    for (const staged of records) {
      this.#position++
      // A record may be null.
      const item = this.toItem(Object(staged))
      if (item === undefined) (this.leftOut ??= { count: 0, first: this.#position }).count++
      else if (item === directMessages) this.#rest = [item]
      else items.push(item)
    }
    const text = JSON.stringify(items).slice(1, -1)
    this.#sliceSize = Math.min(Math.ceil(records.length * CHUNK_LENGTH / text.length) || SLICE_SIZE, SLICE_SIZE)
    return text
  }

  /** Closes the batches with the iterator's `return`, unless they have ended. A later `next` opens them again, from the beginning. */
  close (): void {
    const iterator = this.#iterator
    if (iterator === undefined) return
    this.#iterator = undefined
    this.#batch = undefined
    // The reply does not depend on how the store cleans up.
    new Promise(resolve => resolve(iterator.return?.())).catch(() => {})
  }

  async #read (): Promise<readonly Staged[] | undefined> {
    this.#nextInBatch = 0
    this.#iterator ??= iteratorOf(this.batches())
    if (this.#iterator === undefined) throw new InvalidStoreAnswer(this.name, 'an iterable or async iterable of arrays')
    const { done, value } = await this.#iterator.next()
    if (done) this.#iterator = undefined
    else if (!Array.isArray(value)) throw new InvalidStoreAnswer(this.name, 'its records in arrays, a batch at a time')
    return done ? undefined : value
  }
}

// A string is iterable, too, but has no batches.
function iteratorOf<Batch> (batches: Partial<AsyncIterable<Batch> & Iterable<Batch>> | null | undefined) {
  if (typeof batches !== 'object') return undefined
  return batches?.[Symbol.asyncIterator]?.() ?? batches?.[Symbol.iterator]?.()
}
