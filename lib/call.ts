import { type Writable } from 'node:stream'
import { type FastifyBaseLogger, type FastifyReply } from 'fastify'
import { type StoreContext } from './store.js'

/** One call of the route, which the store gets. */
export class Call implements StoreContext {
  readonly log: FastifyBaseLogger
  #controller: AbortController | undefined

  constructor (private readonly reply: FastifyReply) {
    this.log = reply.log
  }

  /** Aborted when nothing more has to be read. It is created when it is first read: it would take a sixth of the time of a poll. */
  get signal (): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      const abortIfDisconnected = () => { if (isDisconnected(this.reply)) this.#controller?.abort() }
      abortIfDisconnected()
      onClose(this.reply, abortIfDisconnected)
    }
    return this.#controller.signal
  }

  /** Throws when the caller has disconnected or the signal is aborted. */
  throwIfAborted (): void {
    if (isDisconnected(this.reply)) throw new Error('The caller has disconnected')
    this.#controller?.signal.throwIfAborted()
  }

  abort (reason?: unknown): void {
    if (!this.signal.aborted) this.#controller?.abort(reason)
  }
}

/** Whether the connection ended before the whole reply was written. */
export function isDisconnected ({ raw, request }: FastifyReply): boolean {
  // The response of HTTP/2, which only a host's own types describe, knows its end by its stream.
  const { destroyed } = 'stream' in raw ? raw.stream as Writable : raw
  return (destroyed || request.raw.aborted) && !raw.writableEnded
}

/** Calls back when a reply has ended for any reason. It may call back more than once. */
export function onClose ({ raw, request }: FastifyReply, callback: () => void): void {
  raw.on('close', callback)
  // The response to a pipelined request that waits for the one before is not told that the connection has ended.
  request.raw.on('close', () => { if (request.raw.aborted) callback() })
}
