import { Readable } from 'node:stream'
import { type FastifyReply } from 'fastify'
import { isBrokenOff } from './call-context.js'
import { ImportReplaced, callInjected } from './errors.js'
import { selectionText } from './selection-stream.js'
import { type ImportDataStore, type ImportOperation, type StoreContext } from './store.js'

/**
 * Sends the selection of what is staged: whole, with a content-length, when it fits in one piece; else as a stream.
 *
 * A failure before the first piece is thrown, so that the reply is a proper error. After it the connection is destroyed: a
 * reply never looks complete when it is not. The same when another import has taken this one's place meanwhile.
 *
 * @param name the importer's display name
 * @param writeTimeout milliseconds that the caller may leave what is sent unread
 * @throws ServiceUnavailable, or an error of the store's own with a 4xx `statusCode`
 */
export async function sendSelection (
  reply: FastifyReply,
  context: StoreContext,
  store: ImportDataStore,
  operation: ImportOperation,
  name: string | undefined,
  writeTimeout: number
): Promise<FastifyReply> {
  const pieces = selectionText(store, context, name, async () => {
    const latest = await store.latestOperation(context)
    if (latest?.id !== operation.id) throw new ImportReplaced()
  })
  // Whatever becomes of the reply (the caller leaves, a hook of the host's throws), the store's cursors are closed.
  reply.raw.once('close', () => pieces.return(''))
  const { raw } = reply.request
  // The reply to a pipelined request that has not had its turn learns nothing of the connection's end.
  raw.once('close', () => { if (raw.aborted) pieces.return('') })
  if (isBrokenOff(reply)) throw new Error('The caller has left')

  const first = await callInjected(() => pieces.next())
  if (first.done) return reply.send(first.value)
  dropWhenUnread(reply, writeTimeout)
  return reply.send(Readable.from(restOf(first.value, pieces, reply)))
}

async function * restOf (
  first: Buffer,
  pieces: AsyncGenerator<Buffer, string, undefined>,
  reply: FastifyReply
): AsyncGenerator<Buffer | string, void, undefined> {
  try {
    yield first
    yield yield * pieces
  } catch (failure) {
    breakOff(reply, failure)
  }
}

function breakOff (reply: FastifyReply, failure: unknown): void {
  if (!isBrokenOff(reply)) reply.log.error({ err: failure }, 'The selection was broken off: what has been sent of it is not valid JSON')
  destroy(reply)
}

function destroy ({ raw }: FastifyReply): void {
  // Over HTTP/2 a stream that is destroyed without an error looks as if it had ended.
  raw.destroy('stream' in raw ? new Error('The reply is broken off') : undefined)
}

// The socket's own timer starts anew with all that moves on it, part of a write included: whoever reads at all is not dropped, as
// far as the system lets that be seen.
function dropWhenUnread (reply: FastifyReply, writeTimeout: number): void {
  const { raw, log } = reply
  const { socket } = raw
  const timeout = socket?.timeout ?? 0
  raw.setTimeout(writeTimeout, () => {
    // With nothing left to be read it is the store that takes its time.
    if (raw.writableLength === 0) return
    log.warn({ writeTimeout }, 'The caller has stopped reading: the connection is dropped')
    destroy(reply)
  })
  // Before Node.js sets the timer by which it keeps the connection alive.
  raw.prependOnceListener('finish', () => { if (socket?.timeout === writeTimeout) socket.setTimeout(timeout) })
}
