import { Readable } from 'node:stream'
import { type FastifyReply } from 'fastify'
import { isBrokenOff, onClose } from './call-context.js'
import { callInjected } from './errors.js'
import { type SelectionText } from './selection-stream.js'

/**
 * Sends a selection: whole, with a content-length, when it fits in one piece; else as a stream.
 *
 * A failure before the first piece is thrown, so that the reply is a proper error. After it the connection is destroyed: a
 * reply never looks complete when it is not.
 *
 * @param writeTimeout milliseconds that the caller may leave what is sent unread
 * @throws ServiceUnavailable, or an error of the store's own with a 4xx `statusCode`
 */
export async function sendSelection (reply: FastifyReply, text: SelectionText, writeTimeout: number): Promise<FastifyReply> {
  // Whatever becomes of the reply (the caller leaves, a hook of the host's throws), the store's cursors are closed.
  onClose(reply, () => text.close())
  if (isBrokenOff(reply)) throw new Error('The caller has left')

  const first = await callInjected(() => text.next())
  if (text.isEnded) return reply.send(first)
  dropWhenUnread(reply, writeTimeout)
  const stream = new Readable({ read: () => pushNext(stream, text, reply) })
  stream.push(first)
  return reply.send(stream)
}

async function pushNext (stream: Readable, text: SelectionText, reply: FastifyReply): Promise<void> {
  try {
    stream.push(await text.next() ?? null)
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
