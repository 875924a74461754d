import { setImmediate } from 'node:timers/promises'
import fastJson from 'fast-json-stringify'
import { BatchReader } from './batch-reader.js'
import { InvalidStoreAnswer } from './errors.js'
import { PieceWriter } from './piece-writer.js'
import { channelItemSchema, contactItemSchema, userItemSchema } from './schemas.js'
import { channelItem, contactItem, directMessages, userItem } from './selection.js'
import { type ImportDataStore, type StoreContext } from './store.js'
import { nextTurn } from './turns.js'

/** After how many records the event loop is let go, however little text they make. */
const RECORDS_PER_TURN = 1000

/** How many pieces are made before the event loop is let go: records may be fat. */
const PIECES_PER_TURN = 8

/** How long batches that were asked for ahead may wait for their turn: milliseconds. MongoDB ends a cursor after ten minutes. */
const LONGEST_AHEAD = 60_000

const writeUser = fastJson(userItemSchema)
const writeChannel = fastJson(channelItemSchema)
const writeContact = fastJson(contactItemSchema)

/**
 * The selection of what is staged, as the reply's JSON text, in pieces of about 64 KiB. The event loop is let go between pieces.
 *
 * The first batches of every part and the count are asked for at once: a small selection takes the time of one read.
 */
export class SelectionText {
  #readers: ReadonlyArray<BatchReader<unknown>> = []
  readonly #turns: AsyncGenerator<void, void, undefined>
  readonly #started = Date.now()
  #failure: unknown
  #isWritten = false

  // Where pieces are taken from. They are not yielded: a generator holds on to what it has yielded until it is asked for more.
  readonly #pieces = new PieceWriter()
  #recordsInTurn = 0
  /** How many records of each kind were left out for want of an import id, and the place of the first, counted from 1. */
  readonly #leftOut = new Map<string, { count: number, first: number }>()

  /**
   * @param name the importer's display name
   * @param confirm called before the last of several pieces; throws when what was read is not the selection of one import
   */
  constructor (store: ImportDataStore, context: StoreContext, name: string | undefined, confirm: () => Promise<void>) {
    this.#turns = this.#write(store, context, name, confirm)
  }

  /** Whether the piece that was given last is the last of all. */
  get isEnded (): boolean {
    return this.#isWritten && this.#pieces.ready === 0
  }

  /** The next piece, or undefined after the last. Throws whatever the store and `confirm` do, and InvalidStoreAnswer. */
  async next (): Promise<Buffer | string | undefined> {
    if (this.#pieces.ready > 0) await setImmediate()
    while (this.#pieces.ready === 0 && !this.#isWritten) {
      const { done } = await this.#turns.next()
      this.#isWritten = done === true
    }
    return this.#pieces.take()
  }

  /** Ends the reading of the store, whatever it is at: what is asked for after that fails. */
  close (): void {
    if (this.#isWritten) return
    this.#failure ??= new Error('The selection is read no further')
    this.#turns.return()
  }

  /** Reads and writes it all. Yields when there are pieces to be taken. */
  async * #write (
    store: ImportDataStore,
    context: StoreContext,
    name: string | undefined,
    confirm: () => Promise<void>
  ): AsyncGenerator<void, void, undefined> {
    const users = new BatchReader('users', () => store.users(context))
    const channels = new BatchReader('channels', () => store.channels(context))
    const contacts = store.contacts && new BatchReader('contacts', () => store.contacts!(context))
    this.#readers = contacts ? [users, channels, contacts] : [users, channels]
    const count = countMessages(store, context)
    // Told before the rest is read in vain.
    count.catch(failure => { this.#failure = failure })
    try {
      const heads = this.#readers.map(reader => reader.open()).filter(head => head instanceof Promise)
      if (heads.length > 0) await Promise.all(heads)
      this.#pieces.write(name === undefined ? '{' : `{"name":${JSON.stringify(name)},`)
      yield * this.#items(users, userItem, writeUser)
      yield * this.#items(channels, channelItem, writeChannel)
      if (contacts) yield * this.#items(contacts, contactItem, writeContact, { isOptional: true })
      this.#pieces.write(`"message_count":${await count},"success":true}`)
      if (this.#pieces.hasCut) await confirm()
      if (this.#leftOut.size > 0) {
        context.log.warn(
          { leftOut: Object.fromEntries(this.#leftOut) },
          'Staged records without an import id were left out of the selection: how many, and the place of the first'
        )
      }
      this.#pieces.end()
    } finally {
      for (const reader of this.#readers) reader.close()
    }
  }

  /** Writes one array of the selection, record by record; an optional one only if it has an item. */
  async * #items<Staged, Item extends object> (
    reader: BatchReader<Staged>,
    toItem: (staged: Staged) => Item | undefined,
    toJson: (item: Item) => string,
    { isOptional = false } = {}
  ): AsyncGenerator<void, void, undefined> {
    const pieces = this.#pieces
    const opening = `"${reader.name}":[`
    let separator = isOptional ? opening : ''
    let last = ''
    let place = 0
    if (!isOptional) pieces.write(opening)
    for (let batch = await reader.next(); batch !== undefined; batch = await reader.next()) {
      // An empty batch takes its time, too.
      this.#recordsInTurn += RECORDS_PER_TURN / 10
      let next = 0
      do {
        const end = Math.min(next + RECORDS_PER_TURN, batch.length)
        this.#recordsInTurn += end - next
        for (; next < end && pieces.ready < PIECES_PER_TURN; next++) {
          place++
          const item = toItem(batch[next]!)
          if (item === undefined) this.#leaveOut(reader.name, place)
          else if (item === directMessages) last = toJson(item)
          else {
            pieces.write(separator + toJson(item))
            separator = ','
          }
        }
        // Let go before anybody waits for the reader: of many callers at once each would hold a batch in memory.
        if (next === batch.length) batch = []
        if (this.#failure !== undefined) throw this.#failure
        if (pieces.ready > 0 || this.#recordsInTurn >= RECORDS_PER_TURN) yield * this.#endTurn()
      } while (next < batch.length)
    }
    if (last !== '') pieces.write(separator + last)
    if (separator !== opening) pieces.write('],')
  }

  /** Lets the reader have its pieces, and then the others have their turns. */
  async * #endTurn (): AsyncGenerator<void, void, undefined> {
    this.#recordsInTurn = 0
    this.#pieces.rest()
    if (this.#pieces.ready > 0) yield
    await nextTurn()
    // Opened again when it is their turn.
    if (Date.now() - this.#started > LONGEST_AHEAD) for (const reader of this.#readers) reader.closeUnread()
  }

  #leaveOut (kind: string, place: number): void {
    const leftOut = this.#leftOut.get(kind) ?? { count: 0, first: place }
    leftOut.count++
    this.#leftOut.set(kind, leftOut)
  }
}

async function countMessages (store: ImportDataStore, context: StoreContext): Promise<number> {
  const count = await store.countMessages(context)
  if (!Number.isSafeInteger(count) || count < 0) throw new InvalidStoreAnswer('countMessages', 'a whole number, 0 or more')
  return count
}
