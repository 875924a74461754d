import { type Writable } from 'node:stream'
import { type FastifyBaseLogger, type FastifyReply } from 'fastify'
import { type StoreContext } from './store.js'

/** What the store is told of one call. */
export class CallContext implements StoreContext {
  readonly log: FastifyBaseLogger
  readonly #reply: FastifyReply
  #controller: AbortController | undefined

  constructor (reply: FastifyReply) {
    this.log = reply.log
    this.#reply = reply
  }

  /** See {@link StoreContext.signal}. Made when a store asks for it: for each call anew it would halve the rate of polls. */
  get signal (): AbortSignal {
    if (this.#controller === undefined) {
      const controller = this.#controller = new AbortController()
      const abortIfGone = () => { if (isBrokenOff(this.#reply)) controller.abort() }
      abortIfGone()
      onClose(this.#reply, abortIfGone)
    }
    return this.#controller.signal
  }
}

/** Whether the connection ended before all of the reply had been written. */
export function isBrokenOff ({ raw, request }: FastifyReply): boolean {
  // The reply of HTTP/2, which is in none of the types unless the host says so, knows of its end by its stream.
  const { destroyed } = 'stream' in raw ? raw.stream as Writable : raw
  return (destroyed || request.raw.aborted) && !raw.writableEnded
}

/** Calls back when a reply is over, whatever has become of it; it may be more than once. */
export function onClose ({ raw, request }: FastifyReply, callback: () => void): void {
  raw.on('close', callback)
  // The reply to a pipelined request that has not had its turn learns nothing of the connection's end.
  request.raw.on('close', () => { if (request.raw.aborted) callback() })
}
