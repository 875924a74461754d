import type { Call } from '../call.js'
import { InvalidStoreAnswer } from '../errors.js'
import type { ImportDataStore, StoreContext } from '../store.js'
import { channelItem, contactItem, userItem } from './items.js'
import { Part } from './part.js'
import { nextTurn } from './turns.js'

/** The minimum length of a chunk in characters. */
const CHUNK_LENGTH = 64 * 1024

/** The number of characters that are written in a turn of the event loop. */
const TURN_LENGTH = 512 * 1024

/** The minimum number of characters that a slice of records counts as: records that are left out take time, too. */
const LEAST_SLICE_LENGTH = 32 * 1024

/**
 * Writes the selection of what is staged, as JSON: yields the chunks of each turn of the event loop, and returns the last. The first
 * batches of all parts and the number of messages are read at the same time.
 *
 * Before the end, a failure and the generator's `return` abort the signal of the call and close the batches.
 *
 * @param name the display name of the importer
 * @param confirm called when everything has been read; it throws when the records may not belong to one import
 * @throws what the store and `confirm` throw, and InvalidStoreAnswer
 */
export async function * writeSelection (
  store: ImportDataStore,
  call: Call,
  name: string | undefined,
  confirm: () => Promise<void>
): AsyncGenerator<string[], string[]> {
  const { context } = call
  const parts = [
    new Part('users', () => store.users(context), userItem),
    new Part('channels', () => store.channels(context), channelItem),
    new Part('contacts', () => store.contacts?.(context) ?? [], contactItem)
  ]
  const chunks: string[] = []
  let isComplete = false
  let turnLength = 0
  let text = name === undefined ? '{' : `{"name":${JSON.stringify(name)},`
  try {
    call.isUnsent = true
    call.throwIfAborted()
    const count = countMessages(store, context)
    // Fail early: the count is the last to be needed, but may be the first to fail.
    count.catch(failure => call.abort(failure))
    await Promise.all(parts.map(part => part.open()))

    for (const part of parts) {
      let separator = `"${part.name}":[`
      for (let items = await part.next(); items !== undefined; items = await part.next()) {
        call.throwIfAborted()
        if (items !== '') {
          text += separator + items
          separator = ','
        }
        if (text.length >= CHUNK_LENGTH) {
          chunks.push(text)
          text = ''
        }
        turnLength += Math.max(items.length, LEAST_SLICE_LENGTH)
        // Hold no batch while waiting: with many callers, their batches would take most of the memory.
        if (turnLength < TURN_LENGTH && !(part.isBetweenBatches && chunks.length > 0)) continue
        if (chunks.length > 0) {
          // A large reply needs the other parts only later, and a database may close their cursors meanwhile.
          for (const other of parts) if (other !== part) other.close()
          call.isUnsent = false
          yield chunks
        }
        await nextTurn()
        turnLength = 0
      }
      if (separator === ',') text += '],'
      // Contacts are left out when there are none.
      else if (part.name !== 'contacts') text += `${separator}],`
    }
    text += `"message_count":${await count},"success":true}`
    await confirm()
    if (parts.some(({ leftOut }) => leftOut)) {
      const leftOut = Object.fromEntries(parts.map(({ name, leftOut }) => [name, leftOut]))
      context.log.warn({ leftOut }, 'Staged records without an import id were left out of the selection: their number, and the position of the first')
    }
    isComplete = true
    call.isUnsent = false
  } catch (failure) {
    call.abort(failure)
  } finally {
    if (!isComplete) call.abort()
    for (const part of parts) part.close()
  }
  // Throws the first failure: reads that its signal has ended may fail, too.
  call.throwIfAborted()
  return [text]
}

async function countMessages (store: ImportDataStore, context: StoreContext): Promise<number> {
  const count = await store.countMessages(context)
  if (!Number.isSafeInteger(count) || count < 0) throw new InvalidStoreAnswer('countMessages', 'a whole number, 0 or more')
  return count
}
