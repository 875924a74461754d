import { Readable } from 'node:stream'
import { type FastifyReply } from 'fastify'
import { type CallContext } from './call-context.js'
import { ImportReplaced, callInjected } from './errors.js'
import { selectionText } from './selection-stream.js'
import { type ImportDataStore, type ImportOperation } from './store.js'

/**
 * Sends the selection of what is staged: whole, with a content-length, when it fits in one piece; else as a stream.
 *
 * @param name the importer's display name
 *
 * A failure before the first piece is thrown, so that the reply is a proper error. After it the connection is destroyed: a
 * reply never looks complete when it is not. The same when another import has taken this one's place meanwhile.
 */
export async function sendSelection (
  reply: FastifyReply,
  context: CallContext,
  store: ImportDataStore,
  operation: ImportOperation,
  name: string | undefined
): Promise<FastifyReply> {
  const pieces = selectionText(store, context, name, async () => {
    const latest = await store.latestOperation(context)
    if (latest?.id !== operation.id) throw new ImportReplaced()
  })
  // Whatever becomes of the reply (the caller leaves, a hook of the host's throws), the store's cursors are closed.
  reply.raw.once('close', () => pieces.return(''))

  const first = await callInjected(() => pieces.next())
  if (first.done) return reply.send(first.value)
  return reply.send(Readable.from(restOf(first.value, pieces, failure => breakOff(reply, context, failure))))
}

async function * restOf (
  first: string,
  pieces: AsyncGenerator<string, string, undefined>,
  onFailure: (failure: unknown) => void
): AsyncGenerator<string, void, undefined> {
  try {
    yield first
    yield yield * pieces
  } catch (failure) {
    onFailure(failure)
  }
}

function breakOff (reply: FastifyReply, context: CallContext, failure: unknown): void {
  if (!context.callerIsGone) reply.log.error({ err: failure }, 'The selection was broken off: what has been sent of it is not valid JSON')
  reply.raw.destroy()
}
