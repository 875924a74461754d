import type { Http2Stream } from 'node:http2'
import { PassThrough, finished } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { isDisconnected, sendJson } from './replies.js'
import type { StoreContext } from './store.js'

/** How many chunks are written ahead of the caller. */
const CHUNKS_AHEAD = 4

/** One call of the route. It aborts what the store reads for it, and the reply, if it is a stream; only the first reason counts. */
export class Call extends AbortController {
  /** What the store gets. It must not see the rest of the call, which leads to the token. */
  readonly context: StoreContext
  /** Whether a selection is being read. If the reply ends meanwhile, a `handlerTimeout` or a hook of the host has ended it. */
  isReading = false

  /** @param writeTimeout milliseconds that the caller may leave sent data of a stream unread */
  constructor (readonly reply: FastifyReply, readonly writeTimeout: number) {
    super()
    const { raw, request, log } = reply
    this.context = { signal: this.signal, log }
    raw.on('close', this.abortIfOver)
    // Some responses emit no `close` when the connection or stream ends: the response to a pipelined request that waits for the previous
    // response, and an HTTP/2 response with pending data when the caller resets the stream without an error code.
    request.raw.on('aborted', this.abortIfOver)
    this.abortIfOver()
  }

  /** Aborts the signal if the caller has disconnected or a selection is being read. */
  readonly abortIfOver = (): void => {
    if (isDisconnected(this.reply)) this.abort(new Error('The caller has disconnected'))
    else if (this.isReading) this.abort(new Error('The reply has ended'))
  }

  /** Throws the reason when the signal is aborted or the reply has ended: the response to a pipelined request emits `close` only in its turn. */
  throwIfOver (): void {
    if (this.reply.sent) this.abortIfOver()
    this.signal.throwIfAborted()
  }

  /**
   * Starts a reply that is a stream of JSON: returns the stream, to which text is written. When the signal is aborted, so is the reply, so that
   * it does not look complete.
   */
  startStream (): PassThrough {
    const { reply, reply: { raw, request }, signal } = this
    // In object mode, chunks stay text: as buffers, they would take memory until the next garbage collection of old objects.
    const stream = new PassThrough({ objectMode: true, readableHighWaterMark: CHUNKS_AHEAD, writableHighWaterMark: 0 })
    // A hook of the host may destroy the stream, to send something else. `finished` also handles the error that it may destroy it with.
    finished(stream, this.abortIfOver)
    const abortReply = (reason: unknown): void => {
      this.abort(reason)
      if (reply.sent || isDisconnected(reply)) return
      breakConnection(reply)
      reply.hijack()
      reply.log.error({ err: reason }, 'The selection was aborted: the caller received incomplete JSON')
    }
    signal.addEventListener('abort', () => {
      if (!stream.destroyed) abortReply(signal.reason)
      stream.destroy()
    })
    // Fastify aborts the signal of the request before it ends the reply. It does not reset the connection, and until 5.12.7 it throws when the
    // headers are sent already, which ends the process. Without a timeout, it creates the signal when it is first read.
    if (request.routeOptions.handlerTimeout) {
      request.signal.addEventListener('abort', () => {
        // It is also aborted when a hook of the host has read the request to its end. The stream may have ended, and that of a hook still be sent.
        if (raw.headersSent && request.signal.reason.code === 'FST_ERR_HANDLER_TIMEOUT') abortReply(request.signal.reason)
      })
    }
    dropWhenUnread(this)
    sendJson(reply, stream)
    return stream
  }
}

// An HTTP/1.0 reply, and behind some proxies one with `Connection: close`, ends with the connection. If the connection were closed
// normally, the reply would look complete, so it is reset. Only TCP can be reset.
function breakConnection ({ raw, raw: { socket } }: FastifyReply): void {
  // An HTTP/2 stream that is destroyed without an error looks complete.
  const isHttp2 = 'stream' in raw
  if (!isHttp2 && socket?.remoteAddress !== undefined && !('encrypted' in socket)) socket.resetAndDestroy()
  raw.destroy(isHttp2 ? new Error('The reply is aborted') : undefined)
}

// The socket's timer restarts whenever bytes are written, so a slow reader is not dropped.
function dropWhenUnread ({ reply, writeTimeout }: Call): void {
  const { raw, log, request: { raw: { socket } } } = reply
  // Over HTTP/2, a callback is called only once, and Fastify's listener for onTimeout hooks throws.
  const emitter = 'stream' in raw ? (raw.stream as Http2Stream).removeAllListeners('timeout') : raw
  emitter.on('timeout', () => {
    // With nothing left to send, the store is slow, and not the caller.
    if (raw.writableLength === 0) return
    log.warn({ writeTimeout }, 'The caller has stopped reading: the connection is closed')
    breakConnection(reply)
  }).setTimeout(writeTimeout, () => {})
  // Before Node.js sets the timer of a keep-alive connection. Like Node.js at the next request, sets the timeout of the server again.
  raw.prependOnceListener('finish', () => { if (socket.timeout === writeTimeout) socket.setTimeout(reply.server.server.timeout || 0) })
}
