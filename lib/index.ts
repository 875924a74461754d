import type {
  FastifyBaseLogger, FastifyPluginAsync, FastifyRegisterOptions, FastifyTypeProvider, RawServerBase,
  RawServerDefault
} from 'fastify'
import fp from 'fastify-plugin'
import { type HasPermission, type ImportFileDataOptions, resolveOptions } from './options.js'
import { addRoutes } from './registration.js'

export { type ImportCount, type ImportOperation, type ImportStatus } from './operation.js'
export {
  rocketChatImporters, type Credentials, type ImportFileDataOptions, type Prepare, type PrepareContext, type RouteSettings
} from './options.js'
export { type ChannelItem, type ContactItem, type ErrorReply, type Selection, type UserItem, type Waiting } from './schemas.js'
export { type Batches, type ImportDataStore, type StagedChannel, type StagedContact, type StagedUser, type StoreContext } from './store.js'

// `never`: a host's own type of user is taken by the overload below.
type Plugin = FastifyPluginAsync<ImportFileDataOptions<never>>

declare module 'fastify' {
  // Infers the type of the user for `hasPermission` from `lookupUser`, which TypeScript does only for a type parameter of the call.
  // The type parameters of the interface have to be the same as Fastify's.
  /* eslint-disable @typescript-eslint/no-unused-vars */
  interface FastifyRegister<
    T = void,
    RawServer extends RawServerBase = RawServerDefault,
    TypeProviderDefault extends FastifyTypeProvider = FastifyTypeProvider,
    LoggerDefault extends FastifyBaseLogger = FastifyBaseLogger
  > {
    <User extends object>(
      plugin: Plugin | Promise<{ default: Plugin }>,
      options: FastifyRegisterOptions<{ hasPermission: HasPermission<User> } & ImportFileDataOptions<User>>
    ): T
  }
}

const plugin: Plugin = async (instance, options) => await addRoutes(instance, resolveOptions(options))

/**
 * The plugin: adds `GET <prefix>/getImportFileData`, Rocket.Chat's "Get the progress of an upload", to a Fastify server.
 * It is encapsulated: the rest of the server sees none of its hooks, decorators and error handlers. It can be registered more than once.
 *
 * Registration throws an error with the code `FST_IMPORT_FILE_DATA_INVALID_OPTION` when an option is unknown, missing or wrong.
 */
export const importFileData: Plugin = fp(plugin, {
  name: 'fastify-import-file-data',
  // 5.9.0 to 5.11.0 cut replies that are under way when the server closes (fastify issue 6889).
  fastify: '>=5.3.2 <5.9.0 || ^5.11.1',
  encapsulate: true
})
export default importFileData
