import auth from '@fastify/auth'
import type { FastifyInstance, FastifyPluginAsync, FastifyRegisterOptions, FastifyReply, FastifyRequest, FastifyServerOptions } from 'fastify'
import fp from 'fastify-plugin'
import { createAuthFunctions, kCaller } from './auth.js'
import { MethodNotAllowed, NotFound, statusOf } from './errors.js'
import { type ImportFileDataOptions, resolveOptions } from './options.js'
import { markAsPrivate, replySchemas, replyToError, toErrorReply } from './replies.js'
import { createHandler } from './route.js'
import { headersSchema } from './schemas.js'

export type { ImportCount, ImportOperation, ImportStatus } from './operation.js'
export { rocketChatImporters } from './options.js'
export type { Credentials, ImportFileDataOptions, Prepare, PrepareContext, RouteSettings } from './options.js'
export type { ChannelItem, ContactItem, ErrorReply, Selection, UserItem, Waiting } from './schemas.js'
export type { Batches, ImportDataStore, StagedChannel, StagedContact, StagedUser, StoreContext } from './store.js'

/** The options, with `hasPermission` also as a function, whose parameter `user` TypeScript checks more strictly than that of a method. */
type Options<User extends object> = { hasPermission: (user: User, ...others: never[]) => unknown } & ImportFileDataOptions<User>

/**
 * The type of the plugin only. `default`, which fastify-plugin sets, distinguishes it: without a property that no function of the host has,
 * TypeScript would type the parameters of such a function by the overload below before it takes another.
 */
type Plugin = FastifyPluginAsync<Options<object>> & { readonly default: Plugin }

declare module 'fastify' {
  // Infers the type of the user for `hasPermission` from `lookupUser`, which TypeScript does only for a type parameter of the call.
  // The type parameters of the interface have to have the names of Fastify's. `Given` is one, too, so that the type of the parameter is not
  // the context in which a call such as `fp(async (instance, opts: Options) => {})` is inferred.
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface FastifyRegister<T, RawServer, TypeProviderDefault, LoggerDefault> {
    <User extends object, Given extends Plugin | Promise<{ default: Plugin }>>(plugin: Given, options: FastifyRegisterOptions<Options<User>>): T
  }
}

const URL = '/getImportFileData'

/** How many times the plugin is registered in each server: an OpenAPI document must not have the same operation id twice. */
const registrations = new WeakMap<object, number>()

/**
 * The plugin: adds `GET <prefix>/getImportFileData`, Rocket.Chat's "Get the progress of an upload", to a Fastify server.
 * It is encapsulated: the rest of the server sees none of its hooks, decorators and error handlers. It can be registered more than once.
 *
 * Registration throws an error with the code `FST_IMPORT_FILE_DATA_INVALID_OPTION` when an option is unknown, missing or wrong.
 */
export const importFileData: Plugin = fp(async (instance: FastifyInstance, options: ImportFileDataOptions) => {
  const resolved = resolveOptions(options)
  const { route } = resolved
  const { handlerTimeout }: FastifyServerOptions = instance.initialConfig
  const count = (registrations.get(instance.server) ?? 0) + 1
  registrations.set(instance.server, count)
  await instance.register(auth)
  const authenticateAndAuthorize = instance.auth(createAuthFunctions(resolved), { relation: 'and' })

  instance.decorateRequest(kCaller, null)
  instance.setErrorHandler(replyToError)
  // These hooks run after those of the host and its plugins: a rate limit must run before the look-up.
  instance.addHook('onRoute', added => {
    added.onRequest = [added.onRequest ?? [], added.method === 'GET' ? authenticateAndAuthorize : reject].flat()
    added.onSend = [added.onSend ?? [], markAsPrivate].flat()
  })
  instance.get(URL, {
    ...route,
    // In a server with a timeout, Fastify allows no route without one. This is the longest that a timer takes.
    ...(handlerTimeout && { handlerTimeout: route.handlerTimeout ?? 2 ** 31 - 1 }),
    // A HEAD would read the whole selection and send none of it.
    exposeHeadRoute: false,
    schema: {
      tags: ['import'],
      operationId: `getImportFileData${count === 1 ? '' : count}`,
      summary: 'Get the progress of an upload',
      description: 'The selection of what the newest import has staged, or the progress of its preparation. Needs the permission `run-import`.',
      ...route.schema,
      headers: headersSchema,
      response: replySchemas
    },
    // The schemas only describe the route, so the host's compilers are not used: the auth functions check the headers, and the handler
    // sends text. An error is serialized here when a hook of the host throws again while an error is sent. Fastify gives it the status of the
    // reply, which is not its own.
    validatorCompiler: () => () => true,
    serializerCompiler: () => payload => JSON.stringify(payload instanceof Error ? toErrorReply({ statusCode: statusOf(payload) }).body : payload),
    handler: createHandler(instance, resolved)
  })
  // Other methods on the path, and every path below it, so that no such request reaches a wildcard route of the host, such as a proxy's.
  // Left out of OpenAPI documents. Only OPTIONS reaches the handler.
  const rejected = { ...route, schema: { hide: true } as object, handler: (_request: FastifyRequest, reply: FastifyReply) => reply.code(204).send() }
  instance.route({ ...rejected, method: instance.supportedMethods.filter(method => method !== 'GET'), url: URL })
  instance.all(`${URL}/*`, rejected)
}, {
  name: 'fastify-import-file-data',
  // 5.9.0 to 5.11.0 cut replies in progress when the server closes (fastify issue 6889). 5.11.1 reports itself as 5.11.0.
  fastify: '>=5.3.2 <5.9.0 || ^5.11.2',
  encapsulate: true
}) as Plugin
export default importFileData

// Runs before a body is read. If the host has @fastify/cors, that has replied to a preflight already.
async function reject ({ method, routeOptions }: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (routeOptions.url?.endsWith('/*')) throw new NotFound()
  reply.header('Allow', 'GET')
  if (method !== 'OPTIONS') throw new MethodNotAllowed()
}
