import type {
  FastifyBaseLogger, FastifyPluginAsync, FastifyRegisterOptions, FastifyTypeProvider, RawServerBase, RawServerDefault
} from 'fastify'
import fp from 'fastify-plugin'
import { type HasPermission, type ImportFileDataOptions, resolveOptions } from './options.js'
import { addRoutes } from './registration.js'

export { rocketChatImporters, type Credentials, type ImportFileDataOptions, type RouteSettings } from './options.js'
export { type Prepare, type PrepareContext } from './options.js'
export { type ImportStatus } from './operation.js'
export {
  type Batches,
  type ImportCount,
  type ImportDataStore,
  type ImportOperation,
  type StagedChannel,
  type StagedContact,
  type StagedUser,
  type StoreContext
} from './store.js'
export { type ChannelItem, type ContactItem, type ErrorReply, type Selection, type UserItem, type Waiting } from './schemas.js'

// For a host's own kind of user there is the overload below; this is what it does not take.
type Plugin = FastifyPluginAsync<ImportFileDataOptions<never>>

declare module 'fastify' {
  // What `lookupUser` gives is what `hasPermission` takes. TypeScript infers it only in a call that has a type parameter for it,
  // so `register` has one for this plugin. The interface's own type parameters are Fastify's, and have to be repeated.
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

const plugin: Plugin = async (instance, options) => {
  await addRoutes(instance, resolveOptions(options))
}

/**
 * The plugin: adds `GET <prefix>/getImportFileData`, Rocket.Chat's "Get the progress of an upload", to a Fastify server.
 * Encapsulated: nothing of it is visible to the rest of the server, and it may be registered more than once.
 *
 * Registration throws an error with code `FST_IMPORT_FILE_DATA_INVALID_OPTION` when an option is unknown, missing or of the
 * wrong kind.
 */
export const importFileData: Plugin = fp(plugin, {
  name: 'fastify-import-file-data',
  // 5.9.0 to 5.11.0 cut replies that are under way when the server closes (fastify issue 6889).
  fastify: '>=5.3.2 <5.9.0 || ^5.11.1',
  encapsulate: true
})
export default importFileData
