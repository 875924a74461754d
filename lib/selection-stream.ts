import { setImmediate } from 'node:timers/promises'
import fastJson from 'fast-json-stringify'
import { BatchReader } from './batch-reader.js'
import { InvalidStoreAnswer } from './errors.js'
import { channelItemSchema, contactItemSchema, userItemSchema } from './schemas.js'
import { channelItem, contactItem, directMessages, userItem } from './selection.js'
import { type ImportDataStore, type StoreContext } from './store.js'

/** How much text goes out in one piece: characters, which in most imports are bytes. */
const PIECE_LENGTH = 64 * 1024

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
 * The selection of what is staged, as the reply's JSON text: yields it in pieces of about 64 KiB, and returns the last one, so
 * that a selection of one piece is returned whole. The event loop is let go between pieces.
 *
 * The first batches of every part and the count are asked for at once: a small selection takes the time of one read.
 *
 * @param name the importer's display name
 * @param confirm called before the last of several pieces; throws when what was read is not the selection of one import
 * @throws whatever the store does, and InvalidStoreAnswer
 */
export async function * selectionText (
  store: ImportDataStore,
  context: StoreContext,
  name: string | undefined,
  confirm: () => Promise<void>
): AsyncGenerator<Buffer, string, undefined> {
  const users = new BatchReader('users', () => store.users(context))
  const channels = new BatchReader('channels', () => store.channels(context))
  const contacts = new BatchReader('contacts', () => store.contacts?.(context) ?? [])
  const readers = [users, channels, contacts]
  const count = countMessages(store, context)
  const writer = new SelectionWriter(readers, count)
  try {
    const heads = readers.map(reader => reader.open()).filter(head => head instanceof Promise)
    if (heads.length > 0) await Promise.all(heads)
    writer.text = name === undefined ? '{' : `{"name":${JSON.stringify(name)},`
    yield * writer.items(users, userItem, writeUser)
    yield * writer.items(channels, channelItem, writeChannel)
    yield * writer.items(contacts, contactItem, writeContact, { isOptional: true })
    writer.text += `"message_count":${await count},"success":true}`
    if (writer.pieces > 0) await confirm()
    if (writer.leftOut.size > 0) {
      context.log.warn(
        { leftOut: Object.fromEntries(writer.leftOut) },
        'Staged records without an import id were left out of the selection: how many, and the place of the first'
      )
    }
    return writer.text
  } finally {
    for (const reader of readers) reader.close()
  }
}

/** Gathers the selection's text until there is enough for a piece. */
class SelectionWriter {
  /** What has been written since the last piece. */
  text = ''
  /** How many pieces have gone out. */
  pieces = 0
  /** How many records of each kind were left out for want of an import id, and the place of the first, counted from 1. */
  readonly leftOut = new Map<string, { count: number, first: number }>()

  readonly #readers: readonly BatchReader<unknown>[]
  readonly #count: Promise<number>
  readonly #started = Date.now()
  #countFailed = false
  #full: Buffer[] = []
  #recordsInTurn = 0

  constructor (readers: readonly BatchReader<unknown>[], count: Promise<number>) {
    this.#readers = readers
    this.#count = count
    count.catch(() => { this.#countFailed = true })
  }

  /** Writes one array of the selection, record by record; an optional one only if it has an item. */
  async * items<Staged, Item extends object> (
    reader: BatchReader<Staged>,
    toItem: (staged: Staged) => Item | undefined,
    toJson: (item: Item) => string,
    { isOptional = false } = {}
  ): AsyncGenerator<Buffer, void, undefined> {
    const opening = `"${reader.name}":[`
    let separator = isOptional ? opening : ''
    let last = ''
    let place = 0
    if (!isOptional) this.text += opening
    for (let batch = await reader.next(); batch !== undefined; batch = await reader.next()) {
      // An empty batch takes its time, too.
      this.#recordsInTurn += RECORDS_PER_TURN / 10
      let next = 0
      do {
        const end = Math.min(next + RECORDS_PER_TURN, batch.length)
        this.#recordsInTurn += end - next
        for (; next < end && this.#full.length < PIECES_PER_TURN; next++) {
          place++
          const item = toItem(batch[next]!)
          if (item === undefined) this.#leaveOut(reader.name, place)
          else if (item === directMessages) last = toJson(item)
          else {
            this.text += separator + toJson(item)
            separator = ','
          }
          if (this.text.length >= PIECE_LENGTH) this.#fillPiece()
        }
        // Let go before anybody waits for the reader: of many callers at once each would hold a batch in memory.
        if (next === batch.length) batch = []
        yield * this.#takeTurn()
      } while (next < batch.length)
    }
    if (last !== '') this.text += separator + last
    if (separator !== opening) this.text += '],'
  }

  #fillPiece (): void {
    this.#full.push(Buffer.from(this.text))
    this.text = ''
  }

  /** Hands out what is full, and lets the event loop go. */
  async * #takeTurn (): AsyncGenerator<Buffer, void, undefined> {
    const pieces = this.#full
    if (pieces.length === 0 && this.#recordsInTurn < RECORDS_PER_TURN) return
    this.#full = []
    this.#recordsInTurn = 0
    for (const piece of pieces) {
      this.pieces++
      yield piece
      await setImmediate()
    }
    if (pieces.length === 0) await setImmediate()
    if (this.#countFailed) await this.#count
    // Opened again in their turn.
    if (Date.now() - this.#started > LONGEST_AHEAD) for (const reader of this.#readers) reader.closeUnread()
  }

  #leaveOut (kind: string, place: number): void {
    const leftOut = this.leftOut.get(kind) ?? { count: 0, first: place }
    leftOut.count++
    this.leftOut.set(kind, leftOut)
  }
}

async function countMessages (store: ImportDataStore, context: StoreContext): Promise<number> {
  const count = await store.countMessages(context)
  if (!Number.isSafeInteger(count) || count < 0) throw new InvalidStoreAnswer('countMessages', 'a whole number, 0 or more')
  return count
}
