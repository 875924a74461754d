import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Caller, kCaller } from './auth.js'
import { Call } from './call.js'
import * as errors from './errors.js'
import { type Snapshot, isSameImport, snapshotOf } from './operation.js'
import { type ResolvedOptions, isObject } from './options.js'
import { sendJson } from './replies.js'
import { sendSelection } from './selection/send.js'
import { createSelectionTag, matches } from './waiting/etag.js'
import { createPreparation } from './waiting/preparation.js'
import { createWaitingReply } from './waiting/reply.js'

/**
 * Creates the handler of the route, for authenticated callers: finds the operation, and replies 304, with the progress, or with
 * the selection.
 *
 * @param instance closes what `prepare` is doing when it closes
 */
export function createHandler (instance: FastifyInstance, options: ResolvedOptions) {
  const { store, importers, prepare, stalledAfter, writeTimeout } = options
  const followPreparation = prepare && createPreparation(instance, prepare, stalledAfter)
  const waitingReply = createWaitingReply(stalledAfter)
  const selectionTag = createSelectionTag()

  async function handle (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const call = new Call(reply, writeTimeout)
    const caller = request.getDecorator<Caller>(kCaller)
    const operation = await latestOperation(call)
    // A `handlerTimeout` or a hook of the host may end the reply during any read.
    if (reply.sent) return reply
    if (operation === null) throw new errors.OperationNotFound()
    const { original: { importerKey }, name, status, valid, updateTime, isLoaded, meaning } = operation
    // Before the errors, because it follows each operation that is read.
    const hasFailed = followPreparation?.(operation, caller.credentials, request.log)
    if (importerKey && name === undefined) throw new errors.ImporterNotDefined(importerKey)
    if (meaning === 'waiting' && !isLoaded && !valid) throw new errors.OperationInvalid()
    if (meaning === 'failed' || hasFailed) throw new errors.FileFormatInvalid()
    if (meaning === 'unknown') {
      request.log.warn({ status }, 'The import operation has an unknown status: the reply is the selection of what is staged')
    }
    const waiting = meaning === 'waiting' ? waitingReply(operation) : undefined
    caller.retryAfter = waiting?.retryAfter
    if (waiting) reply.header('Retry-After', waiting.retryAfter)
    const entityTag = meaning === 'settled' && updateTime !== undefined ? selectionTag(operation) : waiting?.entityTag
    if (entityTag !== undefined) reply.header('ETag', entityTag)
    if (entityTag !== undefined && matches(entityTag, request.headers['if-none-match'])) return reply.code(304).send()
    if (waiting) return sendJson(reply, waiting.text)
    return await sendSelection(call, store, async () => isSameImport(operation, await latestOperation(call)), name)
  }

  async function latestOperation (call: Call): Promise<Snapshot | null> {
    const operation = await store.latestOperation(call.context) ?? null
    if (operation !== null && !isObject(operation)) throw new errors.InvalidStoreAnswer('latestOperation', 'an operation, or null')
    return operation && snapshotOf(operation, importers, prepare)
  }

  // Rocket.Chat may update an operation several times within milliseconds, so a selection of which nothing is sent is read once more.
  function handleAgainIfChanged (request: FastifyRequest, reply: FastifyReply, isSecond = false): Promise<FastifyReply> {
    return handle(request, reply).catch(failure => {
      if (reply.sent) return reply
      if (isSecond || !(failure instanceof errors.OperationChanged)) throw failure
      return handleAgainIfChanged(request, reply.removeHeader('ETag'), true)
    })
  }

  return errors.withErrorForReply(handleAgainIfChanged)
}
