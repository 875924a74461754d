import auth from '@fastify/auth'
import { type FastifyInstance, type FastifyReply, type FastifyRequest, type FastifySchema, type FastifyServerOptions } from 'fastify'
import { createAuthFunctions, kCaller } from './auth.js'
import { MethodNotAllowed, NotFound, toPublicError } from './errors.js'
import { type ResolvedOptions } from './options.js'
import { answerErrors, kAdvisedRetry, markAsPrivate } from './replies.js'
import { createHandler } from './route.js'
import { headersSchema, replySchemas } from './schemas.js'

const URL = '/getImportFileData'

/** Milliseconds that a timer can hold at most: a route of Fastify cannot be without a timeout in a server that has one. */
const LONGEST_TIMEOUT = 2 ** 31 - 1

/** The schema of a route that is not for an OpenAPI document. */
const HIDDEN: FastifySchema & { hide: true } = { hide: true }

/** How many times the plugin is registered in each server. */
const registrations = new WeakMap<object, number>()

/**
 * Adds the route `GET /getImportFileData`, with its hooks and its error handler, and refuses every other method on its path and
 * every path below it, so that none of them reaches a wildcard route of the host, such as that of a proxy.
 *
 * @param instance an encapsulated instance of the plugin's own
 */
export async function addRoutes (instance: FastifyInstance, options: ResolvedOptions): Promise<void> {
  const { route } = options
  const { handlerTimeout }: FastifyServerOptions = instance.initialConfig
  await instance.register(auth)
  const identifyAndAuthorize = instance.auth(createAuthFunctions(options), { relation: 'and' })

  instance.decorateRequest(kCaller, null)
  instance.decorateRequest(kAdvisedRetry, null)
  instance.addHook('onSend', markAsPrivate)
  instance.setErrorHandler(answerErrors)
  // Last of all, behind what the host's plugins have added to the route: a rate limit is to come before the look-up.
  instance.addHook('onRoute', added => {
    added.onRequest = [added.onRequest ?? [], added.method === 'GET' ? identifyAndAuthorize : refuse].flat()
  })
  instance.route({
    ...(handlerTimeout && { handlerTimeout: LONGEST_TIMEOUT }),
    ...route,
    method: 'GET',
    url: URL,
    // A HEAD would read the whole selection to send none of it.
    exposeHeadRoute: false,
    schema: {
      tags: ['import'],
      operationId: operationIdIn(instance),
      summary: 'Get the progress of an upload',
      description: 'The selection of what the newest import has staged, or, while the import is being prepared, its progress. ' +
        'Needs the permission `run-import`.',
      ...route.schema,
      headers: headersSchema,
      response: replySchemas
    },
    // The schemas only describe the route, so the host's compilers are not used: the auth functions check the headers, and the handler
    // sends text. An error is serialized here when a hook of the host throws again while an error is sent.
    validatorCompiler: () => () => true,
    serializerCompiler: () => payload => JSON.stringify(payload instanceof Error ? toPublicError(payload, undefined).body : payload),
    handler: createHandler(instance, options)
  })
  const methods = instance.supportedMethods
  const refused = { ...route, schema: HIDDEN, handler: answerOptions }
  instance.route({ ...refused, method: methods.filter(method => method !== 'GET'), url: URL })
  instance.route({ ...refused, method: methods, url: `${URL}/*` })
}

// In an OpenAPI document no two operations may have the same id.
function operationIdIn ({ server }: FastifyInstance): string {
  const count = (registrations.get(server) ?? 0) + 1
  registrations.set(server, count)
  return `getImportFileData${count === 1 ? '' : count}`
}

// Before a body is read. A preflight has been answered by then, if the host has @fastify/cors.
async function refuse ({ method, routeOptions }: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (routeOptions.url?.endsWith('/*')) throw new NotFound()
  reply.header('Allow', 'GET')
  if (method !== 'OPTIONS') throw new MethodNotAllowed()
}

function answerOptions (_request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.code(204).send()
}
