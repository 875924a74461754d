import type { Writable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { StoreContext } from './store.js'

/** One call of the route: what the store gets, and what ends it. */
export interface Call extends StoreContext {
  /** Aborts the signal. Only the first reason counts. */
  abort (reason?: unknown): void
  /** Throws the reason when the signal is aborted or the caller has disconnected. */
  throwIfAborted (): void
}

/** Opens the call that a reply is for. Its properties are its own, so that a store can copy them with `{ ...context }`. */
export function openCall (reply: FastifyReply): Call {
  let opened: AbortController | undefined

  function abortIfDisconnected (): void {
    if (isDisconnected(reply)) controller().abort(new Error('The caller has disconnected'))
  }

  // Created when it is first needed: with its listeners, it would take a sixth of the time of a poll.
  function controller (): AbortController {
    if (opened === undefined) {
      opened = new AbortController()
      abortIfDisconnected()
      onClose(reply, abortIfDisconnected)
    }
    return opened
  }

  return {
    log: reply.log,
    get signal () { return controller().signal },
    abort: reason => controller().abort(reason),
    throwIfAborted () {
      abortIfDisconnected()
      opened?.signal.throwIfAborted()
    }
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
