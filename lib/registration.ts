import auth from '@fastify/auth'
import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySchema, FastifyServerOptions } from 'fastify'
import { createAuthFunctions, kCaller } from './auth.js'
import { MethodNotAllowed, NotFound, toErrorReply } from './errors.js'
import type { ResolvedOptions } from './options.js'
import { kRetryAfter, markAsPrivate, replySchemas, replyToError } from './replies.js'
import { createHandler } from './route.js'
import { headersSchema } from './schemas.js'

const URL = '/getImportFileData'

/** The longest timeout, in milliseconds: in a server with a `handlerTimeout`, Fastify lets no route be without one. */
const LONGEST_TIMEOUT = 2 ** 31 - 1

/** The schema of a route that is left out of OpenAPI documents. */
const HIDDEN: FastifySchema & { hide: true } = { hide: true }

/** How many times the plugin is registered in each server. */
const registrations = new WeakMap<object, number>()

/**
 * Adds the route `GET /getImportFileData` with its hooks and its error handler. Rejects other methods on its path, and every path
 * below it, so that no such request reaches a wildcard route of the host, such as a proxy's.
 *
 * @param instance the encapsulated instance of the plugin
 */
export async function addRoutes (instance: FastifyInstance, options: ResolvedOptions): Promise<void> {
  const { route } = options
  const { handlerTimeout }: FastifyServerOptions = instance.initialConfig
  await instance.register(auth)
  const authenticateAndAuthorize = instance.auth(createAuthFunctions(options), { relation: 'and' })

  instance.decorateRequest(kCaller, null)
  instance.decorateRequest(kRetryAfter, null)
  instance.addHook('onSend', markAsPrivate)
  instance.setErrorHandler(replyToError)
  // Runs after the `onRequest` hooks that the host's plugins have added to the route: a rate limit has to run before the look-up.
  instance.addHook('onRoute', added => {
    added.onRequest = [added.onRequest ?? [], added.method === 'GET' ? authenticateAndAuthorize : reject].flat()
  })
  instance.route({
    ...(handlerTimeout && { handlerTimeout: LONGEST_TIMEOUT }),
    ...route,
    method: 'GET',
    url: URL,
    // A HEAD would read the whole selection and send nothing of it.
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
    serializerCompiler: () => payload => JSON.stringify(payload instanceof Error ? toErrorReply(payload, undefined).body : payload),
    handler: createHandler(instance, options)
  })
  const methods = instance.supportedMethods
  // Only OPTIONS reaches the handler.
  const rejected = { ...route, schema: HIDDEN, handler: (_request: FastifyRequest, reply: FastifyReply) => reply.code(204).send() }
  instance.route({ ...rejected, method: methods.filter(method => method !== 'GET'), url: URL })
  instance.route({ ...rejected, method: methods, url: `${URL}/*` })
}

// An OpenAPI document must not have the same operation id twice.
function operationIdIn ({ server }: FastifyInstance): string {
  const count = (registrations.get(server) ?? 0) + 1
  registrations.set(server, count)
  return `getImportFileData${count === 1 ? '' : count}`
}

// Runs before a body is read. If the host has @fastify/cors, that has replied to a preflight already.
async function reject ({ method, routeOptions }: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (routeOptions.url?.endsWith('/*')) throw new NotFound()
  reply.header('Allow', 'GET')
  if (method !== 'OPTIONS') throw new MethodNotAllowed()
}
