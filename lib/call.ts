import type { Writable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { StoreContext } from './store.js'

/** One call of the route. */
export class Call {
  /** What the store gets. It must not see the rest of the call, which leads to the token. */
  readonly context: StoreContext
  /**
   * Whether the selection is being read and no part of it has been sent. If the reply ends meanwhile, a `handlerTimeout` or a hook of the
   * host has ended it.
   */
  isUnsent = false
  readonly #controller = new AbortController()

  constructor (private readonly reply: FastifyReply) {
    this.context = { signal: this.#controller.signal, log: reply.log }
    onClose(reply, () => this.#abortIfOver())
    this.#abortIfOver()
  }

  /** Aborts the signal. Only the first reason counts. */
  abort (reason?: unknown): void { this.#controller.abort(reason) }

  /** Throws the reason when the signal is aborted, the caller has disconnected, or the reply was ended by something else. */
  throwIfAborted (): void {
    this.#abortIfOver()
    this.context.signal.throwIfAborted()
  }

  #abortIfOver (): void {
    if (isDisconnected(this.reply)) this.abort(new Error('The caller has disconnected'))
    else if (this.reply.raw.writableEnded && this.isUnsent) this.abort(new Error('The reply has ended'))
  }
}

/** Whether the connection ended before the whole reply was written. */
export function isDisconnected ({ raw, request }: FastifyReply): boolean {
  // An HTTP/2 response, which Fastify's default types do not include, has the state in its stream.
  const { destroyed } = 'stream' in raw ? raw.stream as Writable : raw
  return (destroyed || request.raw.aborted) && !raw.writableEnded
}

/** Calls back when a reply has ended for any reason. It may call back more than once. */
export function onClose ({ raw, request }: FastifyReply, callback: () => void): void {
  raw.on('close', callback)
  // Some responses emit no `close` when the connection or stream ends: the response to a pipelined request that waits for the previous
  // response, and an HTTP/2 response with pending data when the caller resets the stream without an error code.
  request.raw.on('aborted', callback)
}
