import { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { type Caller, kCaller } from './auth.js'
import { CallContext } from './call-context.js'
import { entityTagOf, isKnown } from './conditional.js'
import { ImportReplaced, InvalidStoreAnswer, callInjected } from './errors.js'
import { changedAt, isImportStatus, outcomeOf } from './operation.js'
import { type ResolvedOptions } from './options.js'
import { Preparation } from './preparation.js'
import { rememberLast } from './remember-last.js'
import { JSON_TYPE, sendJson } from './reply-hooks.js'
import { sendSelection } from './selection-reply.js'
import { SelectionText } from './selection-stream.js'
import { type ImportDataStore, type ImportOperation } from './store.js'
import { createWaitingText, isStalled, retryAfter } from './waiting.js'

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>

/**
 * The handler of the route: goes through a request from the operation to the reply.
 *
 * @param instance the instance whose end also ends what `prepare` is doing
 */
export function createHandler (instance: FastifyInstance, options: ResolvedOptions): Handler {
  const { store, importers, stalledAfter, writeTimeout } = options
  const preparation = options.prepare && new Preparation(options.prepare)
  const tagOf = rememberLast(entityTagOf)
  const waitingText = createWaitingText()
  const reportedStatuses = new Set<string>()

  async function handle (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const context = new CallContext(reply)
    const latest = await callInjected(() => latestOperation(store, context))
    const { operation, name, meaning } = outcomeOf(latest, importers)
    reportUnknownStatus(operation.status, context.log)

    const isPreparing = meaning === 'loaded' && preparation !== undefined
    if (isPreparing) preparation.require(operation, request.getDecorator<Caller>(kCaller).credentials, context.log)
    const isWaiting = isPreparing || meaning === 'waiting'
    const stalled = isWaiting && isStalled(operation, stalledAfter)

    const changed = isWaiting || meaning === 'settled' ? changedAt(operation) : undefined
    const entityTag = changed === undefined ? undefined : tagOf(operation.id, operation.status, changed, name, stalled)
    if (entityTag !== undefined) reply.header('ETag', entityTag)
    if (isWaiting) reply.header('Retry-After', String(retryAfter(operation)))
    if (isKnown(entityTag, request.headers['if-none-match'])) return reply.code(304).send()

    if (isWaiting) return sendJson(reply, waitingText(operation, stalled))
    const text = new SelectionText(store, context, name, () => confirmLatest(operation, context))
    return sendSelection(reply.type(JSON_TYPE), text, writeTimeout)
  }

  async function confirmLatest ({ id }: ImportOperation, context: CallContext): Promise<void> {
    const latest = await latestOperation(store, context)
    if (latest?.id !== id) throw new ImportReplaced()
  }

  function reportUnknownStatus (status: unknown, log: FastifyBaseLogger): void {
    const word = typeof status === 'string' ? status : typeof status
    if (isImportStatus(status) || reportedStatuses.has(word)) return
    reportedStatuses.add(word)
    log.warn({ status }, 'The import operation has a status that is not known: the reply is the selection of what is staged')
  }

  if (preparation) instance.addHook('onClose', () => preparation.close())
  return handle
}

async function latestOperation (store: ImportDataStore, context: CallContext): Promise<ImportOperation | null> {
  const operation = await store.latestOperation(context) ?? null
  if (typeof operation !== 'object') throw new InvalidStoreAnswer('latestOperation', 'an operation, or null')
  return operation
}
