import { type Writable } from 'node:stream'
import { type FastifyBaseLogger, type FastifyReply } from 'fastify'
import { type StoreContext } from './store.js'

/** One call of the route, as the store sees it. */
export class Call implements StoreContext {
  readonly log: FastifyBaseLogger
  readonly #controller = new AbortController()

  constructor (reply: FastifyReply) {
    this.log = reply.log
    const abortIfLeft = () => { if (hasLeft(reply)) this.abort(new Error('The caller has left')) }
    abortIfLeft()
    onClose(reply, abortIfLeft)
  }

  /** See {@link StoreContext.signal}. */
  get signal (): AbortSignal {
    return this.#controller.signal
  }

  /** Aborts the signal: nothing more of the store is needed. */
  abort (reason: unknown): void {
    this.#controller.abort(reason)
  }
}

/** Whether the connection ended before the whole reply was written. */
export function hasLeft ({ raw, request }: FastifyReply): boolean {
  // The response of HTTP/2, which is in no type unless the host says so, knows its end by its stream.
  const { destroyed } = 'stream' in raw ? raw.stream as Writable : raw
  return (destroyed || request.raw.aborted) && !raw.writableEnded
}

/** Calls back when a reply has ended, for any reason. It may call back more than once. */
export function onClose ({ raw, request }: FastifyReply, callback: () => void): void {
  raw.on('close', callback)
  // The response to a pipelined request that has not had its turn does not see the end of the connection.
  request.raw.on('close', () => { if (request.raw.aborted) callback() })
}
