import { type FastifyBaseLogger, type FastifyRequest, type RouteShorthandOptions } from 'fastify'
import { closest, distance } from 'fastest-levenshtein'
import { demand, isFunction, isMissing, isObject, isOptional, isPositiveInteger, isRecord, isString } from './option-checks.js'
import { type ImportDataStore, type ImportOperation } from './store.js'

/** Who says to be calling: the two headers, as they came. */
export interface Credentials {
  /** Header `X-User-Id`. */
  userId: string
  /** Header `X-Auth-Token`: a secret, to be compared as a hash only and never to be logged. */
  authToken: string
}

/**
 * Prepares an operation whose file is loaded: reads the file and stages its records, and moves the operation's status on. Called in the
 * background, once for each file, and once more when the operation changes meanwhile and its file is still loaded. Callers are told to
 * wait. When it fails, or the operation has not changed for `stalledAfter` after its end, they get an error until the operation changes.
 * Each instance of the server may call it, so make it idempotent or let it take a lock.
 */
export type Prepare = (operation: ImportOperation, context: PrepareContext) => Promise<void>

/** What `prepare` gets besides the operation. */
export interface PrepareContext {
  /** Those of the caller who came first. */
  readonly credentials: Credentials
  /** Aborted when the server closes, which then waits for `prepare` to end. */
  readonly signal: AbortSignal
  /** The logger of the first caller's request. */
  readonly log: FastifyBaseLogger
}

/** See `ImportFileDataOptions`: as a function's type, which TypeScript checks more strictly than a method's. */
export type HasPermission<User> = (user: User, permission: 'run-import', request: FastifyRequest) => boolean | Promise<boolean>

/** The members of `route` that the plugin sets itself. */
const OWN_SETTINGS =
  ['method', 'url', 'path', 'handler', 'exposeHeadRoute', 'validatorCompiler', 'serializerCompiler', 'errorHandler'] as const

/** The members of `route.schema` that the plugin sets itself. */
const OWN_SCHEMAS = ['headers', 'response'] as const

/** Settings of the route, as Fastify takes them (https://fastify.dev/docs/latest/Reference/Routes). */
export type RouteSettings = Omit<RouteShorthandOptions, typeof OWN_SETTINGS[number] | 'schema'> & {
  /** Members of the route's schema that only describe it, such as `tags`, `operationId`, `security` or `params`. */
  schema?: { [name in typeof OWN_SCHEMAS[number]]?: never } & { [name: string]: unknown }
}

/**
 * What a host passes in. `User` is the host's own kind of user object: `lookupUser` gives it, `hasPermission` gets it.
 *
 * A function that fails (throws, or rejects) never lets the caller in: the reply is a 503, with the cause in the log alone;
 * an error with a 4xx `statusCode` of its own has that status instead.
 */
export interface ImportFileDataOptions<User extends object = object> {
  /**
   * The user with this id and this token, or null or undefined when they do not match. Anything but an object is taken for
   * null. `request` is for what else a host needs, such as its address.
   */
  lookupUser (credentials: Credentials, request: FastifyRequest): User | null | undefined | Promise<User | null | undefined>
  /** Whether the user may run imports. Anything but exactly `true` is a no. */
  hasPermission (user: User, permission: 'run-import', request: FastifyRequest): boolean | Promise<boolean>
  /** Where the import data is. */
  store: ImportDataStore
  /**
   * The importers that there are: the display name of each by its key.
   * @default Rocket.Chat's own: see {@link rocketChatImporters}
   */
  importers?: Record<string, string>
  /**
   * Prepares an operation whose file is loaded, but not read.
   * @default none: the reply to such an operation is the selection of what is staged
   */
  prepare?: Prepare
  /**
   * Milliseconds without a change of the operation after which a waiting reply says that it is stalled.
   * @default 600000
   */
  stalledAfter?: number
  /**
   * Milliseconds that a caller may leave what is sent unread before the connection is dropped. One who waits for the store is not
   * dropped, and one who reads slowly only if the system's socket takes nothing for that long: it takes in lumps.
   * @default 60000
   */
  writeTimeout?: number
  /**
   * Settings of the route: `constraints`, `config`, `logLevel`, `handlerTimeout`, hooks and so on. They hold for every method on
   * its path, but for `schema`, which describes the GET. What the plugin sets itself, such as `handler`, fails the registration.
   * @default tag `import`, operationId `getImportFileData`, and no `handlerTimeout`, whatever the server has
   */
  route?: RouteSettings
}

/** The options as the plugin works with them: checked, and with every default in place. */
export interface ResolvedOptions {
  lookupUser: ImportFileDataOptions['lookupUser']
  hasPermission: ImportFileDataOptions['hasPermission']
  store: ImportDataStore
  importers: ReadonlyMap<string, string>
  prepare: Prepare | undefined
  stalledAfter: number
  writeTimeout: number
  route: RouteSettings
}

/** The importers that are built into Rocket.Chat (contract.md, step 4): the display name of each by its key. */
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

type Check = readonly [isRight: (value: unknown) => boolean, expected: string]

const FUNCTION: Check = [isFunction, 'a function']
const OPTIONAL_FUNCTION: Check = [isOptional(isFunction), 'a function, or left out']
const MILLISECONDS: Check = [isOptional(isPositiveInteger), 'a whole number of milliseconds above 0']

const OPTIONS: Record<keyof ImportFileDataOptions, Check> = {
  lookupUser: FUNCTION,
  hasPermission: FUNCTION,
  store: [isObject, 'an object'],
  importers: [isOptional(isRecord), 'an object of display names by importer key'],
  prepare: OPTIONAL_FUNCTION,
  stalledAfter: MILLISECONDS,
  writeTimeout: MILLISECONDS,
  route: [isOptional(isRecord), 'an object of settings of the route']
}

const STORE: Record<keyof ImportDataStore, Check> = {
  latestOperation: FUNCTION, users: FUNCTION, channels: FUNCTION, countMessages: FUNCTION, contacts: OPTIONAL_FUNCTION
}

/** Every option that `register` takes: the plugin's, and Fastify's own. */
const KNOWN = [...Object.keys(OPTIONS), 'prefix', 'logLevel', 'logSerializers']

/**
 * Checks what a host passed in, and fills in the defaults.
 *
 * @throws InvalidOption, which names the first option that is unknown, missing or of the wrong kind
 */
export function resolveOptions (options: ImportFileDataOptions<never>): ResolvedOptions {
  const { lookupUser, hasPermission, store, importers = rocketChatImporters, prepare } = options
  const { stalledAfter = 600_000, writeTimeout = 60_000, route = {} } = options
  for (const name of Object.keys(options)) if (!KNOWN.includes(name)) demand(name, Reflect.get(options, name), isMissing, insteadOf(name))
  check('', options, OPTIONS)
  check('store.', store, STORE)
  check('importers.', importers, each(Object.keys(importers), isString, 'a string'))
  check('route.', route, each(OWN_SETTINGS, isMissing, 'left out: it is the plugin\'s own'))
  check('route.', route, { schema: [isOptional(isRecord), 'an object of members of a schema'] })
  check('route.schema.', route.schema ?? {}, each(OWN_SCHEMAS, isMissing, 'left out: it is the plugin\'s own'))
  return { lookupUser, hasPermission, store, importers: new Map(Object.entries(importers)), prepare, stalledAfter, writeTimeout, route }
}

function check (path: string, values: object, checks: Record<string, Check>): void {
  for (const [name, [isRight, expected]] of Object.entries(checks)) demand(path + name, Reflect.get(values, name), isRight, expected)
}

function each (names: readonly string[], ...check: Check): Record<string, Check> {
  return Object.fromEntries(names.map(name => [name, check]))
}

function insteadOf (name: string): string {
  const nearest = closest(name, KNOWN)
  return distance(name, nearest) > 3 ? 'left out: there is no such option' : `left out, or named "${nearest}"`
}
