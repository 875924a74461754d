import { PassThrough, finished } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { type Call, isDisconnected } from '../call.js'
import { sendJson } from '../replies.js'

/** How many characters are written ahead of the caller. */
const HIGH_WATER_MARK = 256 * 1024

/**
 * Starts a reply that is a stream of JSON: returns the stream, to which text is written.
 *
 * @param writeTimeout milliseconds that the caller may leave sent data unread
 */
export function startStream (call: Call, writeTimeout: number): PassThrough {
  const { reply } = call
  const { raw, request } = reply
  const stream = new PassThrough({
    readableHighWaterMark: HIGH_WATER_MARK,
    writableHighWaterMark: 0,
    // Chunks stay text: as buffers, they would take memory until the next garbage collection of old objects.
    decodeStrings: false,
    encoding: 'utf8'
  })
  // A hook of the host may destroy the stream before the reply ends. `finished` also handles the error that it may destroy it with.
  finished(stream, call.abortIfOver)
  // Fastify aborts the signal of the request before it ends the reply. It does not reset the connection, and until 5.12.7 it throws when the
  // headers are sent already, which ends the process. Without a timeout, it creates the signal when it is first read.
  if (request.routeOptions.handlerTimeout) {
    request.signal.addEventListener('abort', () => {
      // It is also aborted when a hook of the host has read the request to its end.
      const { reason } = request.signal
      if (raw.headersSent && reason.code === 'FST_ERR_HANDLER_TIMEOUT') abort(reply, reason)
    })
  }
  dropWhenUnread(reply, writeTimeout)
  sendJson(reply, stream)
  return stream
}

/** Aborts a reply of which a part may have been sent, so that it does not look complete, unless it has ended already. */
export function abort (reply: FastifyReply, failure: unknown): void {
  if (reply.sent || isDisconnected(reply)) return
  reply.log.error({ err: failure }, 'The selection was aborted: the caller received incomplete JSON')
  breakConnection(reply)
  reply.hijack()
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
