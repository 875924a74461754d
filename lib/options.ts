import { type FastifyRequest } from 'fastify'
import { InvalidOption } from './errors.js'
import { type ImportDataStore } from './store.js'

/** Who says to be calling: the two headers, as they came. */
export interface Credentials {
  /** Header `X-User-Id`. */
  userId: string
  /** Header `X-Auth-Token`: a secret, to be compared as a hash only and never to be logged. */
  authToken: string
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
}

/** The options as the plugin works with them: checked, and with every default in place. */
export interface ResolvedOptions {
  lookupUser: ImportFileDataOptions['lookupUser']
  hasPermission: ImportFileDataOptions['hasPermission']
  store: ImportDataStore
  importers: ReadonlyMap<string, string>
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
  const { lookupUser, hasPermission, store, importers = rocketChatImporters } = options
  demand('lookupUser', lookupUser, isFunction, 'a function')
  demand('hasPermission', hasPermission, isFunction, 'a function')
  demand('store', store, isObject, 'an object')
  for (const method of ['latestOperation', 'users', 'channels', 'countMessages'] as const) {
    demand(`store.${method}`, store[method], isFunction, 'a function')
  }
  demand('store.contacts', store.contacts, isOptional(isFunction), 'a function, or left out')
  demand('importers', importers, isObject, 'an object of display names by importer key')
  for (const [key, name] of Object.entries(importers)) demand(`importers.${key}`, name, isString, 'a string')
  return { lookupUser, hasPermission, store, importers: new Map(Object.entries(importers)) }
}

function demand (option: string, value: unknown, isRight: (value: unknown) => boolean, expected: string): void {
  if (!isRight(value)) throw new InvalidOption(option, expected, describe(value))
}

function isFunction (value: unknown): boolean {
  return typeof value === 'function'
}

function isString (value: unknown): boolean {
  return typeof value === 'string'
}

function isObject (value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isOptional (isRight: (value: unknown) => boolean): (value: unknown) => boolean {
  return value => value === undefined || isRight(value)
}

// The value itself is left out where it might be a secret or large.
function describe (value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`
}
