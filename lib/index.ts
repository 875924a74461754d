import auth from '@fastify/auth'
import { type FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { type ImportFileDataOptions, resolveOptions } from './options.js'
import { addRoute } from './route.js'

export { rocketChatImporters, type Credentials, type ImportFileDataOptions, type Prepare, type PrepareContext } from './options.js'
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

const plugin: FastifyPluginAsync<ImportFileDataOptions> = async (instance, options) => {
  const resolved = resolveOptions(options)
  await instance.register(auth)
  addRoute(instance, resolved)
}

/**
 * The plugin: adds `GET <prefix>/getImportFileData`, Rocket.Chat's "Get the progress of an upload", to a Fastify server.
 * Encapsulated: nothing of it is visible to the rest of the server, and it may be registered more than once.
 *
 * Registration throws an error with code `FST_IMPORT_FILE_DATA_INVALID_OPTION` when an option is missing or of the wrong kind.
 */
export const importFileData: FastifyPluginAsync<ImportFileDataOptions> = fp(plugin, {
  name: 'fastify-import-file-data',
  // 5.9.0 to 5.11.0 cut replies that are under way when the server closes (fastify issue 6889).
  fastify: '>=5.3.2 <5.9.0 || ^5.11.1',
  encapsulate: true
})
export default importFileData
