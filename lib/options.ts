import type { FastifyBaseLogger, FastifyRequest, RouteShorthandOptions } from 'fastify'
import { closest, distance } from 'fastest-levenshtein'
import { InvalidOption } from './errors.js'
import type { ImportOperation } from './operation.js'
import type { ImportDataStore } from './store.js'

/** The credentials of a caller: the two headers, unchanged. */
export interface Credentials {
  /** Header `X-User-Id`. */
  userId: string
  /** Header `X-Auth-Token`: a secret. Compare it only as a hash, and never log it. */
  authToken: string
}

/**
 * Prepares an operation whose file is loaded: reads the file, stages its records and updates the operation's status. Called in the
 * background, once per file, and once more when the operation changes meanwhile and its file is still loaded. Callers get waiting
 * replies. When it fails, or the operation has not changed `stalledAfter` milliseconds after its end, they get an error until the
 * operation changes. Each instance of the server may call it, so it must be idempotent or take a lock.
 */
export type Prepare = (operation: ImportOperation, context: PrepareContext) => Promise<void>

/** What `prepare` gets besides the operation. */
export interface PrepareContext {
  /** The credentials of the first caller. */
  readonly credentials: Credentials
  /** Aborted when the server closes. The server waits for `prepare` to end. */
  readonly signal: AbortSignal
  /** The logger of the first caller's request. */
  readonly log: FastifyBaseLogger
}

const OWN_SETTINGS =
  ['method', 'url', 'path', 'handler', 'exposeHeadRoute', 'validatorCompiler', 'serializerCompiler', 'errorHandler'] as const

/** Fastify's route options (https://fastify.dev/docs/latest/Reference/Routes), except those that the plugin sets. */
export type RouteSettings = Omit<RouteShorthandOptions, typeof OWN_SETTINGS[number] | 'schema'> & {
  /** Members of the route's schema that only describe it, such as `tags`, `operationId`, `security` or `params`. */
  schema?: { headers?: never, response?: never } & { [name: string]: unknown }
}

/**
 * The options of the plugin. `User` is the host's type of a user: `lookupUser` returns it, `hasPermission` takes it.
 *
 * When one of the functions throws or rejects, the caller is refused: the reply is a 503, and the cause is only logged. An error
 * with a 4xx `statusCode` keeps that status.
 */
export interface ImportFileDataOptions<User extends object = object> {
  /**
   * Finds the user with this id and token. Returns null or undefined if they do not match; any other value that is not an object counts as
   * null. `request` has whatever else a host needs, such as the caller's address.
   */
  lookupUser (credentials: Credentials, request: FastifyRequest): User | null | undefined | Promise<User | null | undefined>
  /** Whether the user may run imports. Only exactly `true` allows it. */
  hasPermission (user: User, permission: 'run-import', request: FastifyRequest): boolean | Promise<boolean>
  /** Where the import data is. */
  store: ImportDataStore
  /**
   * The display name of each importer by its key.
   * @default Rocket.Chat's own: see {@link rocketChatImporters}
   */
  importers?: Record<string, string>
  /**
   * Prepares an operation whose file is loaded, but not read.
   * @default none: the reply to such an operation is the selection of what is staged
   */
  prepare?: Prepare
  /**
   * Milliseconds without a change of the operation after which a waiting reply is marked as stalled.
   * @default 600000
   */
  stalledAfter?: number
  /**
   * Milliseconds without reading after which the connection of a caller is closed. Waiting for the store does not count. A slow reader is
   * disconnected only if the operating system's socket accepts nothing for that long: it accepts data in large pieces.
   * @default 60000
   */
  writeTimeout?: number
  /**
   * Fastify's route options: `constraints`, `config`, `logLevel`, `handlerTimeout`, hooks and so on. They apply to every method on the
   * path, except `schema`, which describes the GET. A setting that the plugin sets itself, such as `handler`, fails the registration.
   * @default tag `import`, operationId `getImportFileData`, and no `handlerTimeout`, even if the server has one
   */
  route?: RouteSettings
}

/** The options after the check, with every default. */
export type ResolvedOptions = Required<Omit<ImportFileDataOptions, 'prepare'>> & { prepare: Prepare | undefined }

/** Rocket.Chat's importers (contract.md, step 4): the display name of each by its key. */
export const rocketChatImporters: Readonly<Record<string, string>> = Object.freeze({
  csv: 'CSV',
  slack: 'Slack',
  'slack-users': 'Slack_Users',
  hipchatenterprise: 'HipChat (tar.gz)',
  'pending-files': 'Pending Files',
  'pending-avatars': 'Pending Avatars',
  omnichannel_contact: 'omnichannel_contacts_importer',
  api: 'API'
})

/** Whether a value is an object, but not null and not an array. */
export const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Whether a value is a plain object: not a Map, for example. */
export const isRecord = (value: unknown) => isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value))

/** Whether a value is a whole number above 0, and below the largest that a timer of Node.js takes: 31 bits. */
export const isPositiveInteger = (value: unknown) => Number.isInteger(value) && Number(value) > 0 && Number(value) < 2 ** 31

/** Whether a value is a function. */
export const isFunction = (value: unknown) => typeof value === 'function'

const isUndefined = (value: unknown) => value === undefined

const isOptionalFunction = (value: unknown) => isUndefined(value) || isFunction(value)

const SET_BY_PLUGIN = 'left out, because the plugin sets it'

/**
 * Checks the options, and adds the defaults.
 *
 * @throws InvalidOption, which names the first option that is unknown, missing or wrong
 */
export function resolveOptions (options: ImportFileDataOptions): ResolvedOptions {
  const { lookupUser, hasPermission, store, importers = rocketChatImporters, prepare } = options
  const { stalledAfter = 600_000, writeTimeout = 60_000, route = {} } = options
  const resolved = { lookupUser, hasPermission, store, importers, prepare, stalledAfter, writeTimeout, route }
  const known = [...Object.keys(resolved), 'prefix', 'logLevel', 'logSerializers']
  for (const name of Object.keys(options).filter(name => !known.includes(name))) {
    const nearest = closest(name, known)
    demand(distance(name, nearest) > 3 ? 'left out: there is no such option' : `left out, or named "${nearest}"`, isUndefined, options, [name])
  }
  demand('a function', isFunction, resolved, ['lookupUser', 'hasPermission'])
  demand('an object', isObject, resolved, ['store'])
  demand('a function', isFunction, store, ['latestOperation', 'users', 'channels', 'countMessages'], 'store.')
  demand('a function, or left out', isOptionalFunction, store, ['contacts'], 'store.')
  demand('an object of display names by importer key', isRecord, resolved, ['importers'])
  demand('a string', value => typeof value === 'string', importers, Object.keys(importers), 'importers.')
  demand('a function, or left out', isOptionalFunction, resolved, ['prepare'])
  demand('a whole number of milliseconds above 0', isPositiveInteger, resolved, ['stalledAfter', 'writeTimeout'])
  demand('an object of settings of the route', isRecord, resolved, ['route'])
  demand(SET_BY_PLUGIN, isUndefined, route, OWN_SETTINGS, 'route.')
  const { schema = {} } = route
  demand('an object of members of a schema', isRecord, { schema }, ['schema'], 'route.')
  demand(SET_BY_PLUGIN, isUndefined, schema, ['headers', 'response'], 'route.schema.')
  return resolved
}

/**
 * Checks members of an object by name. Throws an InvalidOption for the first that is not right: it says what was expected, and what it is.
 *
 * @param path what the names have before them in the error
 */
export function demand (expected: string, isRight: (value: unknown) => boolean, members: object, names: readonly string[], path = ''): void {
  const wrong = names.find(name => !isRight(Reflect.get(Object(members), name)))
  if (wrong !== undefined) throw new InvalidOption(path + wrong, expected, describe(Reflect.get(Object(members), wrong)))
}

// The value itself is not shown where it may be a secret, or long.
function describe (value: unknown): string {
  if (value === undefined) return 'missing'
  if (Array.isArray(value)) return 'an array'
  if (isObject(value)) return isRecord(value) ? 'an object' : `an instance of ${value.constructor?.name}`
  return value === null || typeof value === 'number' || typeof value === 'boolean' ? String(value) : `a ${typeof value}`
}
