import { type Call } from '../call.js'
import { InvalidStoreAnswer } from '../errors.js'
import { type ImportDataStore } from '../store.js'
import { channelItem, contactItem, directMessages, userItem } from './items.js'
import { Part } from './part.js'

/** How many characters of JSON a slice of records is to make. */
const SLICE_LENGTH = 64 * 1024

/** How many records a slice has at most, and the first of a part, before the length of its records is known. */
const LARGEST_SLICE = 1000
const FIRST_SLICE = 16

/** Where the text of a selection goes. */
export interface Output {
  /** Adds text, for so many records. */
  write (text: string, records?: number): void
  /** Whether so much was written since the last turn that it is time for another. */
  readonly isFull: boolean
  /** Whether text written since the last turn is on its way to the caller. */
  readonly isSending: boolean
  /** Waits until the caller wants more, and for a turn of the event loop. Throws when nothing more is to be written. */
  nextTurn (): Promise<void>
}

/**
 * Writes the selection of what is staged, as JSON. The first batches of all parts and the count are read at the same time.
 *
 * @param name the display name of the importer
 * @param confirm called when everything has been read; throws when it may not be the selection of one import
 * @throws what the store, `confirm` and `output` throw, and InvalidStoreAnswer
 */
export async function writeSelection (
  store: ImportDataStore,
  call: Call,
  name: string | undefined,
  confirm: () => Promise<void>,
  output: Output
): Promise<void> {
  call.signal.throwIfAborted()
  const users = new Part('users', () => store.users(call), userItem)
  const channels = new Part('channels', () => store.channels(call), channelItem)
  const contacts = new Part('contacts', () => store.contacts?.(call) ?? [], contactItem)
  const parts = [users, channels, contacts]
  const leftOut: LeftOut = {}
  try {
    const count = countMessages(store, call)
    // Fail early: the count is needed last, but may fail first.
    count.catch(failure => call.abort(failure))
    const opened = Promise.all(parts.map(part => part.open()))
    await Promise.race([opened, count.then(() => opened)])

    output.write(name === undefined ? '{' : `{"name":${JSON.stringify(name)},`)
    await writePart(users, output, leftOut, [channels, contacts])
    await writePart(channels, output, leftOut, [contacts])
    await writePart(contacts, output, leftOut, [], { isOptional: true })
    output.write(`"message_count":${await count},"success":true}`)
    await confirm()
  } finally {
    for (const part of parts) part.close()
  }
  if (Object.keys(leftOut).length > 0) {
    call.log.warn({ leftOut }, 'Staged records without an import id were left out of the selection: their number, and the position of the first')
  }
}

/** By part, how many records had no item, and the position of the first, counted from 1. */
type LeftOut = Record<string, { count: number, first: number }>

/**
 * Writes one array of the selection; an optional one only when it has an item.
 *
 * @param later parts that were opened ahead. They are closed when the reply turns out to be large: a database may close their cursors
 *   before their turn, and their first batches take memory.
 */
async function writePart<Staged> (
  part: Part<Staged>,
  output: Output,
  leftOut: LeftOut,
  later: ReadonlyArray<Pick<Part<never>, 'close'>>,
  { isOptional = false } = {}
): Promise<void> {
  const opening = `"${part.name}":[`
  let separator = isOptional ? opening : ''
  let isFolding = false
  let position = 0
  let sliceSize = FIRST_SLICE

  function itemsOf (slice: readonly Staged[]): object[] {
    const items: object[] = []
    for (const staged of slice) {
      position++
      const item = part.toItem(staged)
      if (item === undefined) (leftOut[part.name] ??= { count: 0, first: position }).count++
      else if (item === directMessages) isFolding = true
      else items.push(item)
    }
    return items
  }

  function writeItems (items: readonly object[], records: number): number {
    if (items.length === 0) {
      output.write('', records)
      return 0
    }
    const text = JSON.stringify(items)
    output.write(separator + text.slice(1, -1), records)
    separator = ','
    return text.length
  }

  if (!isOptional) output.write(opening)
  for (let batch = await part.next(); batch !== undefined; batch = await part.next()) {
    let next = 0
    do {
      const slice = batch.slice(next, next + sliceSize)
      next += sliceSize
      const length = writeItems(itemsOf(slice), slice.length)
      sliceSize = Math.min(Math.max(Math.round(slice.length * SLICE_LENGTH / length) || LARGEST_SLICE, 1), LARGEST_SLICE)
      const isBatchEnd = next >= batch.length
      // Hold no batch while waiting: with many callers, their batches would take most of the memory.
      if (isBatchEnd) batch = []
      if (output.isFull || (isBatchEnd && output.isSending)) {
        for (const part of later) part.close()
        await output.nextTurn()
      }
    } while (next < batch.length)
  }
  if (isFolding) writeItems([directMessages], 0)
  if (separator !== opening) output.write('],')
}

async function countMessages (store: ImportDataStore, call: Call): Promise<number> {
  const count = await store.countMessages(call)
  if (!Number.isSafeInteger(count) || count < 0) throw new InvalidStoreAnswer('countMessages', 'a whole number, 0 or more')
  return count
}
