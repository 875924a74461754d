import { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { type Caller, createAuthFunctions, kCaller } from './auth.js'
import { Call } from './call.js'
import { InvalidStoreAnswer, OperationChanged, callInjected, toPublicError } from './errors.js'
import { type Outcome, isImportStatus, isSameState, outcomeOf } from './operation.js'
import { type ResolvedOptions } from './options.js'
import { Preparation } from './waiting/preparation.js'
import { rememberLast } from './remember-last.js'
import { adviseRetry, answerErrors, kAdvisedRetry, markAsPrivate, sendJson } from './replies.js'
import { headersSchema, replySchemas } from './schemas.js'
import { sendSelection } from './selection/send.js'
import { writeSelection } from './selection/write.js'
import { type ImportDataStore, type ImportOperation } from './store.js'
import { matches, selectionTag, waitingTag } from './waiting/etag.js'
import { createWaitingText, isStalled, retryAfter } from './waiting/reply.js'

/**
 * Adds the route `GET /getImportFileData`, with its hooks and its error handler.
 *
 * @param instance an encapsulated instance of the plugin's own, which has `@fastify/auth`
 */
export function addRoute (instance: FastifyInstance, options: ResolvedOptions): void {
  const { store, importers, stalledAfter, writeTimeout } = options
  const preparation = options.prepare && new Preparation(options.prepare, stalledAfter)
  const tagOfWaiting = rememberLast(waitingTag)
  const waitingText = createWaitingText()
  const reportedStatuses = new Set<string>()

  async function handle (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const call = new Call(reply)
    const latest = await callInjected(() => latestOperation(store, call))
    const { operation, name, meaning } = outcomeOf(latest, importers)
    reportUnknownStatus(operation.status, call.log)

    const isPreparing = meaning === 'loaded' && preparation !== undefined
    if (isPreparing) preparation.require(operation, request.getDecorator<Caller>(kCaller).credentials, call.log)
    if (meaning === 'waiting') preparation?.check(operation)
    const isWaiting = isPreparing || meaning === 'waiting'
    const waiting = isWaiting ? waitingText(operation, isStalled(operation, stalledAfter)) : undefined
    if (waiting !== undefined) adviseRetry(reply, retryAfter(operation))

    const entityTag = waiting !== undefined
      ? tagOfWaiting(operation.id, name, waiting)
      : meaning === 'settled' ? selectionTag(operation, name) : undefined
    if (entityTag !== undefined) reply.header('ETag', entityTag)
    if (matches(entityTag, request.headers['if-none-match'])) return reply.code(304).send()

    if (waiting !== undefined) return sendJson(reply, waiting)
    return sendSelection(reply, call, writeTimeout, output =>
      writeSelection(store, call, name, () => confirmUnchanged(operation, meaning, call), output))
  }

  async function confirmUnchanged (operation: ImportOperation, meaning: Outcome['meaning'], call: Call): Promise<void> {
    const latest = await latestOperation(store, call)
    if (latest === null || !isSameState(operation, latest, meaning)) throw new OperationChanged()
  }

  function reportUnknownStatus (status: unknown, log: FastifyBaseLogger): void {
    const word = typeof status === 'string' ? status : typeof status
    if (isImportStatus(status) || reportedStatuses.has(word)) return
    reportedStatuses.add(word)
    log.warn({ status }, 'The import operation has a status that is not known: the reply is the selection of what is staged')
  }

  const identifyAndAuthorize = instance.auth(createAuthFunctions(options), { relation: 'and' })

  instance.decorateRequest(kCaller, null)
  instance.decorateRequest(kAdvisedRetry, null)
  instance.addHook('onSend', markAsPrivate)
  if (preparation) instance.addHook('onClose', () => preparation.close())
  instance.setErrorHandler(answerErrors)
  // Last of all, behind what the host's plugins have added to the route: a rate limit is to come before the look-up.
  instance.addHook('onRoute', route => { route.onRequest = [route.onRequest ?? [], identifyAndAuthorize].flat() })
  instance.route({
    method: 'GET',
    url: '/getImportFileData',
    // A HEAD would read the whole selection to send none of it.
    exposeHeadRoute: false,
    schema: {
      summary: 'Get the progress of an upload',
      description: 'What the newest import has staged, to select from; or, while it is being prepared, word of it. ' +
        'Needs the permission `run-import`.',
      headers: headersSchema,
      response: replySchemas
    },
    // The schemas describe, and are left to no compiler of the host's: the auth functions check the headers, and what is sent is
    // text. An error comes to be serialized when a hook of the host's throws again on the reply to an error.
    validatorCompiler: () => () => true,
    serializerCompiler: () => payload => JSON.stringify(payload instanceof Error ? toPublicError(payload, undefined).body : payload),
    handler: handle
  })
}

async function latestOperation (store: ImportDataStore, call: Call): Promise<ImportOperation | null> {
  const operation = await store.latestOperation(call) ?? null
  if (typeof operation !== 'object') throw new InvalidStoreAnswer('latestOperation', 'an operation, or null')
  return operation
}
