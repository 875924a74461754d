import { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import fastJson from 'fast-json-stringify'
import { createAuthFunctions, kCaller } from './auth.js'
import { CallContext } from './call-context.js'
import { callInjected } from './errors.js'
import { isImportStatus, outcomeOf } from './operation.js'
import { type ResolvedOptions } from './options.js'
import { answerErrors, markAsPrivate } from './reply-hooks.js'
import { headersSchema, replySchemas, waitingSchema } from './schemas.js'
import { sendSelection } from './selection-reply.js'

const writeWaiting = fastJson(waitingSchema)

/**
 * Adds the route `GET /getImportFileData`, with its hooks and its error handler.
 *
 * @param instance an encapsulated instance of the plugin's own, which has `@fastify/auth`
 */
export function addRoute (instance: FastifyInstance, options: ResolvedOptions): void {
  const { store, importers } = options
  const reportedStatuses = new Set<unknown>()

  async function handle (_request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const context = new CallContext(reply)
    const operation = await callInjected(() => store.latestOperation(context))
    const outcome = outcomeOf(operation, importers)
    reportUnknownStatus(outcome.operation.status, context.log)
    reply.type('application/json; charset=utf-8')
    if (outcome.kind === 'waiting') return reply.send(writeWaiting({ waiting: true, success: true }))
    return sendSelection(reply, context, store, outcome.operation, outcome.name)
  }

  function reportUnknownStatus (status: unknown, log: FastifyBaseLogger): void {
    if (isImportStatus(status) || reportedStatuses.has(status)) return
    reportedStatuses.add(status)
    log.warn({ status }, 'The import operation has a status that is not known: the reply is the selection of what is staged')
  }

  instance.decorateRequest(kCaller, null)
  instance.addHook('onSend', markAsPrivate)
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
