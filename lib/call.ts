import { type Writable } from 'node:stream'
import { type FastifyBaseLogger, type FastifyReply } from 'fastify'
import { type StoreContext } from './store.js'

/** One call of the route, which the store gets. Its signal is aborted when nothing more has to be read. */
export class Call extends AbortController implements StoreContext {
  readonly log: FastifyBaseLogger

  constructor (reply: FastifyReply) {
    super()
    this.log = reply.log
    const abortIfDisconnected = () => { if (isDisconnected(reply)) this.abort(new Error('The caller has disconnected')) }
    abortIfDisconnected()
    onClose(reply, abortIfDisconnected)
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
