import { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import fastJson from 'fast-json-stringify'
import { type Caller, createAuthFunctions, kCaller } from './auth.js'
import { CallContext } from './call-context.js'
import { entityTagOf, isKnown } from './conditional.js'
import { callInjected } from './errors.js'
import { isImportStatus, outcomeOf } from './operation.js'
import { type ResolvedOptions } from './options.js'
import { Preparation } from './preparation.js'
import { answerErrors, markAsPrivate } from './reply-hooks.js'
import { headersSchema, replySchemas } from './schemas.js'
import { sendSelection } from './selection-reply.js'
import { isStalled, retryAfter, waitingReply } from './waiting.js'

/**
 * Adds the route `GET /getImportFileData`, with its hooks and its error handler.
 *
 * @param instance an encapsulated instance of the plugin's own, which has `@fastify/auth`
 */
export function addRoute (instance: FastifyInstance, options: ResolvedOptions): void {
  const { store, importers, stalledAfter, writeTimeout } = options
  const preparation = options.prepare && new Preparation(options.prepare)
  const reportedStatuses = new Set<unknown>()

  async function handle (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const context = new CallContext(reply)
    const latest = await callInjected(() => store.latestOperation(context))
    const { operation, name, meaning } = outcomeOf(latest, importers)
    reportUnknownStatus(operation.status, context.log)

    const isPreparing = meaning === 'loaded' && preparation !== undefined
    if (isPreparing) preparation.require(operation, request.getDecorator<Caller>(kCaller).credentials, context.log)
    const isWaiting = isPreparing || meaning === 'waiting'
    const stalled = isWaiting && isStalled(operation, stalledAfter)

    const entityTag = isWaiting || meaning === 'settled' ? entityTagOf(operation, name, stalled) : undefined
    if (entityTag !== undefined) reply.header('ETag', entityTag)
    if (isWaiting) reply.header('Retry-After', String(retryAfter(operation)))
    if (isKnown(entityTag, request.headers['if-none-match'])) return reply.code(304).send()

    reply.type('application/json; charset=utf-8')
    if (isWaiting) return reply.send(JSON.stringify(waitingReply(operation, stalled)))
    return sendSelection(reply, context, store, operation, name, writeTimeout)
  }

  function reportUnknownStatus (status: unknown, log: FastifyBaseLogger): void {
    if (isImportStatus(status) || reportedStatuses.has(status)) return
    reportedStatuses.add(status)
    log.warn({ status }, 'The import operation has a status that is not known: the reply is the selection of what is staged')
  }

  instance.decorateRequest(kCaller, null)
  instance.addHook('onSend', markAsPrivate)
  if (preparation) instance.addHook('onClose', () => preparation.close())
  instance.setErrorHandler(answerErrors)
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
    // The schemas are JSON Schema whatever compilers the host has set for its own; the headers are checked by the auth functions.
    validatorCompiler: () => () => true,
    serializerCompiler: ({ schema }) => fastJson(schema),
    onRequest: instance.auth(createAuthFunctions(options), { relation: 'and' }),
    handler: handle
  })
}
