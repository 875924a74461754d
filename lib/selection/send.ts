import { once } from 'node:events'
import type { PassThrough } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import type { FastifyReply } from 'fastify'
import type { Call } from '../call.js'
import { InvalidStoreAnswer, OperationChanged } from '../errors.js'
import { isCount } from '../operation.js'
import { sendJson } from '../replies.js'
import type { ImportDataStore, StoreContext } from '../store.js'
import { channelItem, contactItem, userItem } from './items.js'
import { CHUNK_LENGTH, Part } from './part.js'

/** The maximum number of slices that are written in a turn of the event loop: those of a default batch of `rocketChatDatabase`. */
const SLICES_PER_TURN = 16

/**
 * Sends the selection of what is staged: as a whole, with a content-length, if it is only one chunk, otherwise as a stream. The first batches
 * of all parts and the number of messages are read at the same time.
 *
 * A failure aborts the call. Before the first chunk is sent it is thrown. After it, the call aborts the reply.
 *
 * @param isUnchanged called when everything has been read: whether the records belong to one import
 * @param name the display name of the importer
 * @throws what the store and `isUnchanged` throw, InvalidStoreAnswer, and OperationChanged
 */
export async function sendSelection (call: Call, store: ImportDataStore, isUnchanged: () => Promise<boolean>, name?: string): Promise<FastifyReply> {
  const { context, reply, signal } = call
  const parts = [
    new Part('users', () => store.users(context), userItem),
    new Part('channels', () => store.channels(context), channelItem),
    new Part('contacts', () => store.contacts?.(context) ?? [], contactItem)
  ]
  let stream: PassThrough | undefined
  let slices = 0
  let hasWritten = false
  let text = name === undefined ? '{' : `{"name":${JSON.stringify(name)},`
  try {
    call.isReading = true
    call.throwIfOver()
    const count = countMessages(store, context)
    // Fail early: the count is the last to be needed, but may be the first to fail.
    count.catch(failure => call.abort(failure))
    await Promise.all(parts.map(part => part.open()))

    for (const part of parts) {
      let separator = `"${part.name}":[`
      for (let items = await part.next(); items !== undefined; items = await part.next()) {
        call.throwIfOver()
        if (items !== '') {
          text += separator + items
          separator = ','
        }
        if (text.length >= CHUNK_LENGTH) {
          // A large reply needs the other parts only later, and a database may close their cursors meanwhile.
          for (const other of parts) if (other !== part) other.close()
          stream ??= call.startStream()
          stream.write(text)
          text = ''
          hasWritten = true
        }
        // Hold no batch while waiting: with many callers, their batches would take most of the memory.
        if (++slices < SLICES_PER_TURN && !(hasWritten && part.isBetweenBatches)) continue
        if (stream?.writableNeedDrain) await once(stream, 'drain', { signal })
        await nextTurn()
        slices = 0
        hasWritten = false
      }
      if (separator === ',') text += '],'
      // Contacts are left out when there are none.
      else if (part.name !== 'contacts') text += `${separator}],`
    }
    text += `"message_count":${await count},"success":true}`
    if (!await isUnchanged()) throw new OperationChanged()
    call.throwIfOver()
    const leftOut = Object.fromEntries(parts.map(({ name, leftOut }) => [name, leftOut]))
    if (Object.values(leftOut).some(Boolean)) {
      context.log.warn({ leftOut }, 'Staged records without an import id were left out of the selection: their number, and the position of the first')
    }
    call.isReading = false
    if (stream === undefined) return sendJson(reply, text)
    stream.end(text)
  } catch (failure) {
    call.abort(failure)
    for (const part of parts) part.close()
    // The first failure: reads that its signal has ended may fail, too.
    if (stream === undefined) throw signal.reason
  }
  return reply
}

async function countMessages (store: ImportDataStore, context: StoreContext): Promise<number> {
  const count = await store.countMessages(context)
  if (!isCount(count)) throw new InvalidStoreAnswer('countMessages', 'a whole number, 0 or more')
  return count
}

/** Resolves when the last waiting reply has had its turn. */
let queue = Promise.resolve()

// Waits for a turn of the event loop. In each iteration of the loop, one waiting reply continues. So other work waits for at most one large
// reply, however many are in progress. A function of its own: within `sendSelection`, many large replies take twice the memory.
function nextTurn (): Promise<void> {
  queue = queue.then(() => setImmediate())
  return queue
}
