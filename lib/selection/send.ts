import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { isDisconnected, onClose } from '../call.js'
import { sendJson } from '../replies.js'

/** How many characters are written ahead of the caller. */
const HIGH_WATER_MARK = 256 * 1024

/**
 * Sends the text of a reply: as a whole, with a content-length, if it is only one chunk, otherwise as a stream. A failure before the first
 * chunk is thrown. A failure after it aborts the reply, so that it does not look complete.
 *
 * @param text yields chunks, and returns the last. The arrays are emptied, because a generator keeps what it has yielded until it resumes
 * @param writeTimeout milliseconds that the caller may leave sent data unread
 */
export async function sendText (reply: FastifyReply, text: AsyncGenerator<string[], string[]>, writeTimeout: number): Promise<FastifyReply> {
  const { done, value } = await text.next()
  if (done) return sendJson(reply, value.join(''))
  const stream = new Readable({
    highWaterMark: HIGH_WATER_MARK,
    // Chunks stay text: as buffers, they would take memory until the next garbage collection of old objects.
    encoding: 'utf8',
    async read () {
      try {
        const { done, value } = await text.next()
        for (const chunk of value.splice(0)) this.push(chunk)
        if (done) this.push(null)
      } catch (failure) {
        if (!isDisconnected(reply)) abort(reply, failure)
        this.destroy()
      }
    }
  })
  stream.on('close', () => text.return([]))
  for (const chunk of value.splice(0)) stream.push(chunk)
  // A reply may end early: the caller disconnects, or a hook of the host throws or sends something else.
  onClose(reply, () => stream.destroy())
  abortAtHandlerTimeout(reply)
  dropWhenUnread(reply, writeTimeout)
  return sendJson(reply, stream)
}

function abort (reply: FastifyReply, failure: unknown): void {
  reply.log.error({ err: failure }, 'The selection was aborted: the caller received incomplete JSON')
  breakConnection(reply)
}

// Fastify aborts the signal of the request before it ends the reply. It does not reset the connection, and until 5.12.7 it throws when the
// headers are sent already, which ends the process.
function abortAtHandlerTimeout (reply: FastifyReply): void {
  const { raw, request } = reply
  // Without a timeout, Fastify creates the signal when it is first read.
  if (!request.routeOptions.handlerTimeout) return
  request.signal.addEventListener('abort', () => {
    if (!raw.headersSent || reply.sent || isDisconnected(reply)) return
    abort(reply, request.signal.reason)
    reply.hijack()
  })
}

// An HTTP/1.0 reply, and behind some proxies one with `Connection: close`, ends with the connection. If the connection were closed
// normally, the reply would look complete, so it is reset. Only TCP can be reset.
function breakConnection ({ raw }: FastifyReply): void {
  // An HTTP/2 stream that is destroyed without an error looks complete.
  const isHttp2 = 'stream' in raw
  const { socket } = raw
  if (!isHttp2 && socket?.remoteAddress !== undefined && !('encrypted' in socket)) socket.resetAndDestroy()
  raw.destroy(isHttp2 ? new Error('The reply is aborted') : undefined)
}

// The socket's timer restarts whenever bytes are written, so a slow reader is not dropped.
function dropWhenUnread (reply: FastifyReply, writeTimeout: number): void {
  const { raw, log } = reply
  const { socket } = reply.request.raw
  // The reply to a pipelined request has no socket until the previous reply is sent.
  const timeout = (raw.socket ?? reply.server.server).timeout || 0
  // Over HTTP/2, a callback is called only once.
  raw.setTimeout(writeTimeout, () => {})
  raw.on('timeout', () => {
    // With nothing left to send, the store is slow, and not the caller.
    if (raw.writableLength === 0) return
    log.warn({ writeTimeout }, 'The caller has stopped reading: the connection is closed')
    breakConnection(reply)
  })
  // Before Node.js sets the timer of a keep-alive connection.
  raw.prependOnceListener('finish', () => { if (socket.timeout === writeTimeout) socket.setTimeout(timeout) })
}
