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

/** `hasPermission` of `ImportFileDataOptions`, as the type of a function, which TypeScript checks more strictly than a method. */
export type HasPermission<User> = (user: User, permission: 'run-import', request: FastifyRequest) => boolean | Promise<boolean>

const OWN_SETTINGS =
  ['method', 'url', 'path', 'handler', 'exposeHeadRoute', 'validatorCompiler', 'serializerCompiler', 'errorHandler'] as const

const OWN_SCHEMAS = ['headers', 'response'] as const

/** Settings of the route, as Fastify takes them (https://fastify.dev/docs/latest/Reference/Routes), except those that the plugin sets. */
export type RouteSettings = Omit<RouteShorthandOptions, typeof OWN_SETTINGS[number] | 'schema'> & {
  /** Members of the route's schema that only describe it, such as `tags`, `operationId`, `security` or `params`. */
  schema?: { [name in typeof OWN_SCHEMAS[number]]?: never } & { [name: string]: unknown }
}

/**
 * The options of the plugin. `User` is the host's type of a user: `lookupUser` returns it, `hasPermission` takes it.
 *
 * When one of the functions throws or rejects, the caller is refused: the reply is a 503, and the cause is only logged. An error
 * with a 4xx `statusCode` keeps that status.
 */
export interface ImportFileDataOptions<User extends object = object> {
  /**
   * Finds the user with this id and token; null or undefined when they do not match. Anything else that is not an object counts as
   * null. `request` is for whatever else a host needs, such as the caller's address.
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
   * Milliseconds that a caller may leave sent data unread before the connection is dropped. Waiting for the store does not count. A slow
   * reader is dropped only if the operating system's socket accepts nothing for that long: it accepts data in large pieces.
   * @default 60000
   */
  writeTimeout?: number
  /**
   * Settings of the route: `constraints`, `config`, `logLevel`, `handlerTimeout`, hooks and so on. They apply to every method on its
   * path, except `schema`, which describes the GET. A setting that the plugin sets itself, such as `handler`, fails the registration.
   * @default tag `import`, operationId `getImportFileData`, and no `handlerTimeout`, even if the server has one
   */
  route?: RouteSettings
}

/** The options after the check, with every default. */
export type ResolvedOptions = Required<Omit<ImportFileDataOptions, 'importers' | 'prepare'>> & {
  importers: ReadonlyMap<string, string>
  prepare: Prepare | undefined
}

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

// An object such as `{}` makes: not a Map, for example.
const isRecord = (value: unknown) => isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value))

// Below the largest number that a timer of Node.js takes: 31 bits.
const isPositiveInteger = (value: unknown) => Number.isInteger(value) && Number(value) > 0 && Number(value) < 2 ** 31

const isOptional = (isRight: (value: unknown) => boolean) => (value: unknown) => value === undefined || isRight(value)

const isFunction = (value: unknown) => typeof value === 'function'

/** What an option can be required to be, in the words of the error, each with its check. */
const KINDS = {
  'a function': isFunction,
  'a function, or left out': isOptional(isFunction),
  'a string': value => typeof value === 'string',
  'an array of documents': Array.isArray,
  'an object': isObject,
  'a Db of the mongodb driver': isObject,
  'an object of display names by importer key': isOptional(isRecord),
  'an object of settings of the route': isOptional(isRecord),
  'an object of members of a schema': isOptional(isRecord),
  'a whole number above 0': isPositiveInteger,
  'a whole number of milliseconds above 0': isOptional(isPositiveInteger),
  'left out: it is the plugin\'s own': value => value === undefined
} as const satisfies Record<string, (value: unknown) => boolean>

type Kind = keyof typeof KINDS

const OPTIONS: Record<keyof ImportFileDataOptions, Kind> = {
  lookupUser: 'a function',
  hasPermission: 'a function',
  store: 'an object',
  importers: 'an object of display names by importer key',
  prepare: 'a function, or left out',
  stalledAfter: 'a whole number of milliseconds above 0',
  writeTimeout: 'a whole number of milliseconds above 0',
  route: 'an object of settings of the route'
}

const STORE: Record<keyof ImportDataStore, Kind> = {
  latestOperation: 'a function', users: 'a function', channels: 'a function', countMessages: 'a function', contacts: 'a function, or left out'
}

/** Every option that `register` takes: the plugin's, and Fastify's own. */
const KNOWN = [...Object.keys(OPTIONS), 'prefix', 'logLevel', 'logSerializers']

/**
 * Checks the options, and adds the defaults.
 *
 * @throws InvalidOption, which names the first option that is unknown, missing or wrong
 */
export function resolveOptions (options: ImportFileDataOptions<never>): ResolvedOptions {
  const { lookupUser, hasPermission, store, importers = rocketChatImporters, prepare } = options
  const { stalledAfter = 600_000, writeTimeout = 60_000, route = {} } = options
  for (const name of Object.keys(options)) checkName(name, Reflect.get(options, name))
  for (const [name, kind] of Object.entries(OPTIONS)) demand(name, Reflect.get(options, name), kind)
  for (const [name, kind] of Object.entries(STORE)) demand(`store.${name}`, Reflect.get(store, name), kind)
  for (const [key, name] of Object.entries(importers)) demand(`importers.${key}`, name, 'a string')
  for (const name of OWN_SETTINGS) demand(`route.${name}`, Reflect.get(route, name), 'left out: it is the plugin\'s own')
  demand('route.schema', route.schema, 'an object of members of a schema')
  for (const name of OWN_SCHEMAS) demand(`route.schema.${name}`, route.schema?.[name], 'left out: it is the plugin\'s own')
  return { lookupUser, hasPermission, store, importers: new Map(Object.entries(importers)), prepare, stalledAfter, writeTimeout, route }
}

function checkName (name: string, value: unknown): void {
  if (value === undefined || KNOWN.includes(name)) return
  const nearest = closest(name, KNOWN)
  const expected = distance(name, nearest) > 3 ? 'left out: there is no such option' : `left out, or named "${nearest}"`
  throw new InvalidOption(name, expected, describe(value))
}

/** Throws an InvalidOption that names the option, what was expected and what it is, unless it is of this kind. */
export function demand (option: string, value: unknown, kind: Kind): void {
  if (!KINDS[kind](value)) throw new InvalidOption(option, kind, describe(value))
}

// The value itself is not shown where it may be a secret, or long.
function describe (value: unknown): string {
  if (value === undefined) return 'missing'
  if (Array.isArray(value)) return 'an array'
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return String(value)
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`
}
