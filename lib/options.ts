import { type FastifyBaseLogger, type FastifyRequest } from 'fastify'
import { demand, isFunction, isObject, isOptional, isPositiveInteger, isRecord, isString } from './option-checks.js'
import { type ImportDataStore, type ImportOperation } from './store.js'

/** Who says to be calling: the two headers, as they came. */
export interface Credentials {
  /** Header `X-User-Id`. */
  userId: string
  /** Header `X-Auth-Token`: a secret, to be compared as a hash only and never to be logged. */
  authToken: string
}

/**
 * Prepares an operation whose file is loaded: reads the file and stages its records, and moves the operation's status on. Called
 * once for an operation, in the background, while callers are told to wait; when it fails they are told so, until the operation
 * changes. With several instances of the server each may call it, so it is to be idempotent, or to take a lock.
 */
export type Prepare = (operation: ImportOperation, context: PrepareContext) => Promise<void>

/** What `prepare` is told beside the operation. */
export interface PrepareContext {
  /** Those of the caller who came first. */
  readonly credentials: Credentials
  /** Aborted when the server closes, which then waits for `prepare` to end. */
  readonly signal: AbortSignal
  /** The logger of the first caller's request. */
  readonly log: FastifyBaseLogger
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

/**
 * Checks what a host passed in, and fills in the defaults. Unknown options are let be: `prefix` and others are Fastify's.
 *
 * @throws InvalidOption, which names the first option that is missing or of the wrong kind
 */
export function resolveOptions (options: ImportFileDataOptions): ResolvedOptions {
  const { lookupUser, hasPermission, store, importers = rocketChatImporters, prepare } = options
  const { stalledAfter = 600_000, writeTimeout = 60_000 } = options
  demand('lookupUser', lookupUser, isFunction, 'a function')
  demand('hasPermission', hasPermission, isFunction, 'a function')
  demand('store', store, isObject, 'an object')
  for (const method of ['latestOperation', 'users', 'channels', 'countMessages'] as const) {
    demand(`store.${method}`, store[method], isFunction, 'a function')
  }
  demand('store.contacts', store.contacts, isOptional(isFunction), 'a function, or left out')
  demand('importers', importers, isRecord, 'an object of display names by importer key')
  for (const [key, name] of Object.entries(importers)) demand(`importers.${key}`, name, isString, 'a string')
  demand('prepare', prepare, isOptional(isFunction), 'a function, or left out')
  demand('stalledAfter', stalledAfter, isPositiveInteger, 'a whole number of milliseconds above 0')
  demand('writeTimeout', writeTimeout, isPositiveInteger, 'a whole number of milliseconds above 0')
  return { lookupUser, hasPermission, store, importers: new Map(Object.entries(importers)), prepare, stalledAfter, writeTimeout }
}
