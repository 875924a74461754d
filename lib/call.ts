import type { Writable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { StoreContext } from './store.js'

/** One call of the route. It aborts what the store reads for it; only the first reason counts. */
export class Call extends AbortController {
  /** What the store gets. It must not see the rest of the call, which leads to the token. */
  readonly context: StoreContext
  /** Whether a selection is being read. If the reply ends meanwhile, a `handlerTimeout` or a hook of the host has ended it. */
  isReading = false

  constructor (readonly reply: FastifyReply) {
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
}

/** Whether the connection ended before the whole reply was written. */
export function isDisconnected ({ raw, request }: FastifyReply): boolean {
  // An HTTP/2 response, which Fastify's default types do not include, has the state in its stream.
  const { destroyed } = 'stream' in raw ? raw.stream as Writable : raw
  return (destroyed || request.raw.aborted) && !raw.writableEnded
}
