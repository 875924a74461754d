import { type FastifyReply } from 'fastify'
import { type Call } from '../call.js'
import { InvalidStoreAnswer, errorForReply } from '../errors.js'
import { type ResolvedOptions } from '../options.js'
import { type ImportDataStore } from '../store.js'
import { channelItem, contactItem, directMessages, userItem } from './items.js'
import { Output } from './output.js'
import { Part } from './part.js'

/** How many characters of JSON a slice of a batch should make. */
const SLICE_LENGTH = 64 * 1024

/** How many records a slice has at most, and how many the first slice of a part has, before the length of its records is known. */
const LARGEST_SLICE = 1000
const FIRST_SLICE = 16

/**
 * Sends the selection of what is staged, as JSON. The first batches of all parts and the number of messages are read at the same time.
 *
 * A failure before the first chunk is thrown, so that the reply is an error reply. A failure after it breaks the connection, so that an
 * incomplete reply does not look complete. Either aborts the signal of the call.
 *
 * @param name the display name of the importer
 * @param confirm called when everything has been read; it throws when the records may not belong to one import
 * @throws ServiceUnavailable, InvalidStoreAnswer, or an error of the store with a 4xx `statusCode`
 */
export async function sendSelection (
  reply: FastifyReply,
  call: Call,
  { store, writeTimeout }: Pick<ResolvedOptions, 'store' | 'writeTimeout'>,
  name: string | undefined,
  confirm: () => Promise<void>
): Promise<FastifyReply> {
  const output = new Output(reply, call, writeTimeout)
  const users = new Part('users', () => store.users(call), userItem)
  const channels = new Part('channels', () => store.channels(call), channelItem)
  const contacts = new Part('contacts', () => store.contacts?.(call) ?? [], contactItem)
  const parts = [users, channels, contacts]
  try {
    call.signal.throwIfAborted()
    const count = countMessages(store, call)
    // Fail early: the count is the last to be needed, but may be the first to fail.
    count.catch(failure => call.abort(failure))
    await Promise.all(parts.map(part => part.open()))

    output.write(name === undefined ? '{' : `{"name":${JSON.stringify(name)},`)
    await writePart(users, output, [channels, contacts])
    await writePart(channels, output, [contacts])
    await writePart(contacts, output, [], { isOptional: true })
    output.write(`"message_count":${await count},"success":true}`)
    await confirm()
    logLeftOut(parts, call)
    return output.end()
  } catch (failure) {
    call.abort(failure)
    for (const part of parts) part.close()
    if (output.isStreamed) return output.breakOff(failure)
    throw errorForReply(failure)
  }
}

async function countMessages (store: ImportDataStore, call: Call): Promise<number> {
  const count = await store.countMessages(call)
  if (!Number.isSafeInteger(count) || count < 0) throw new InvalidStoreAnswer('countMessages', 'a whole number, 0 or more')
  return count
}

/**
 * Writes one array of the selection; an optional one only when it has items.
 *
 * @param later parts that were opened ahead. They are closed when the reply turns out to be large: their first batches take memory, and a
 *   database may close their cursors before they are read.
 */
async function writePart<Staged> (
  part: Part<Staged>,
  output: Output,
  later: ReadonlyArray<Pick<Part<never>, 'close'>>,
  { isOptional = false } = {}
): Promise<void> {
  const opening = `"${part.name}":[`
  let separator = isOptional ? opening : ''
  let sliceSize = FIRST_SLICE

  function writeItems (items: readonly object[], records: number): number {
    const text = items.length === 0 ? '' : separator + JSON.stringify(items).slice(1, -1)
    if (items.length > 0) separator = ','
    output.write(text, records)
    return text.length
  }

  if (!isOptional) output.write(opening)
  for (let batch = await part.next(); batch !== undefined; batch = await part.next()) {
    let next = 0
    do {
      const slice = batch.slice(next, next + sliceSize)
      next += sliceSize
      const length = writeItems(part.toItems(slice), slice.length)
      sliceSize = Math.min(Math.max(Math.round(slice.length * SLICE_LENGTH / length) || LARGEST_SLICE, 1), LARGEST_SLICE)
      const isBatchEnd = next >= batch.length
      // Hold no batch while waiting: with many callers, their batches would take most of the memory.
      if (isBatchEnd) batch = []
      if (output.isTurnOver || (isBatchEnd && output.isSending)) {
        for (const part of later) part.close()
        await output.nextTurn()
      }
    } while (next < batch.length)
  }
  if (part.hasDirectMessages) writeItems([directMessages], 0)
  if (separator !== opening) output.write('],')
}

function logLeftOut (parts: ReadonlyArray<Pick<Part<never>, 'name' | 'leftOut'>>, { log }: Call): void {
  if (!parts.some(({ leftOut }) => leftOut)) return
  const leftOut = Object.fromEntries(parts.map(({ name, leftOut }) => [name, leftOut]))
  log.warn({ leftOut }, 'Staged records without an import id were left out of the selection: their number, and the position of the first')
}
