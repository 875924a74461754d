import { CursorClosed } from '../errors.js'
import { demand, isFunction, isObject, isPositiveInteger } from '../option-checks.js'
import { type StoreContext } from '../store.js'
import {
  type OperationDocument,
  type PermissionDocument,
  type RocketChatOptions,
  type StagedData,
  type StagedDocument,
  type UserDocument,
  dataOf,
  rolesMeet,
  toOperation
} from './documents.js'
import { hashLoginToken } from './login-token.js'
import { ReadLimit } from './read-limit.js'

/** Settings that the host's client may have otherwise. With them the driver returns documents, and their numbers as plain values. */
const PLAIN = { raw: false, promoteValues: true, promoteLongs: true }

/** For documents: a 64-bit integer becomes a bigint, since a number would round it. */
const EXACT = { ...PLAIN, useBigInt64: true }

/** The part of a `Db` of the MongoDB driver that is needed, so that a host without MongoDB needs no driver either. */
export interface DatabaseLike {
  collection (name: string): CollectionLike
}

interface CollectionLike {
  findOne<Found> (filter: object, options: object): Promise<Found | null>
  find (filter: object, options: object): CursorLike
  countDocuments (filter: object, options: object): Promise<number>
}

interface CursorLike {
  /** Whether somebody has closed it before its end. */
  readonly killed: boolean
  hasNext (): Promise<boolean>
  readBufferedDocuments (): StagedDocument[]
  close (): Promise<void>
}

/** How the database is read. */
export interface RocketChatDatabaseOptions {
  /**
   * How many staged records one read brings, and a reply holds in memory at once.
   * @default 2000
   */
  batchSize?: number
  /**
   * Milliseconds that a read may take: each look-up, the count, and the time until a cursor's next batch. MongoDB is told,
   * too; it counts the time that it works for a cursor as a whole.
   * @default 30000
   */
  maxTimeMS?: number
}

/**
 * A live Rocket.Chat database as what the plugin wants injected. It is never written to.
 *
 * @param db a `Db` of the `mongodb` driver, version 7; its read preference and read concern are used as they are, and its
 *   client is the host's to connect and to close
 * @throws InvalidOption when an argument is of the wrong kind
 */
export function rocketChatDatabase (
  db: DatabaseLike,
  { batchSize = 2000, maxTimeMS = 30_000 }: RocketChatDatabaseOptions = {}
): RocketChatOptions {
  demand('db', db, isObject, 'a Db of the mongodb driver')
  demand('db.collection', db.collection, isFunction, 'a function')
  demand('batchSize', batchSize, isPositiveInteger, 'a whole number above 0')
  demand('maxTimeMS', maxTimeMS, isPositiveInteger, 'a whole number of milliseconds above 0')

  const users = db.collection('users')
  const permissions = db.collection('rocketchat_permissions')
  const operations = db.collection('rocketchat_import')
  const data = db.collection('rocketchat_import_data')

  function findOne<Found> (collection: CollectionLike, filter: object, options: object, signal?: AbortSignal) {
    const limit = new ReadLimit(maxTimeMS, signal)
    return limit.wait(collection.findOne<Found>(filter, { ...options, ...EXACT, maxTimeMS, signal: limit.signal }))
  }

  async function * staged (filter: object, fields: readonly string[], { signal }: StoreContext): AsyncGenerator<StagedData[]> {
    const limit = new ReadLimit(maxTimeMS, signal)
    const projection = { _id: 0, ...Object.fromEntries(fields.map(field => [`data.${field}`, 1])) }
    const cursor = data.find(filter, { ...EXACT, projection, batchSize, maxTimeMS, signal: limit.signal })
    try {
      while (await limit.wait(cursor.hasNext())) {
        yield cursor.readBufferedDocuments().map(dataOf)
      }
      // The driver tells it by no error: what has been read would be taken for the whole.
      if (cursor.killed) throw new CursorClosed()
    } finally {
      // At the signal the driver closes the cursor itself, and a second time would end the session in which it kills it. Not
      // waited for: a server that stands still would hold the reply up.
      if (!limit.signal.aborted) cursor.close().catch(() => {})
    }
  }

  return {
    lookupUser ({ userId, authToken }) {
      const filter = {
        _id: userId,
        'services.resume.loginTokens.hashedToken': hashLoginToken(authToken),
        active: { $ne: false }
      }
      return findOne<UserDocument>(users, filter, { projection: { roles: 1 } })
    },
    async hasPermission (user, permission) {
      return rolesMeet(user, await findOne<PermissionDocument>(permissions, { _id: permission }, { projection: { roles: 1 } }))
    },
    store: {
      async latestOperation ({ signal }) {
        const newest = await findOne<OperationDocument>(operations, {}, { sort: { ts: -1 } }, signal)
        return newest && toOperation(newest)
      },
      users: context => staged({ dataType: 'user' }, ['importIds', 'username', 'emails', 'deleted', 'type'], context),
      async * channels (context) {
        const direct = findOne<StagedDocument>(data, { dataType: 'channel', 'data.t': 'd' }, { projection: { 'data.t': 1 } }, context.signal)
        direct.catch(() => {})
        yield * staged({ dataType: 'channel', 'data.t': { $ne: 'd' } }, ['importIds', 'name', 't', 'archived'], context)
        const document = await direct
        if (document !== null) yield [dataOf(document)]
      },
      contacts: context => staged({ dataType: 'contact' }, ['importIds', 'name', 'emails', 'phones'], context),
      countMessages ({ signal }) {
        const limit = new ReadLimit(maxTimeMS, signal)
        return limit.wait(data.countDocuments({ dataType: 'message' }, { ...PLAIN, useBigInt64: false, maxTimeMS, signal: limit.signal }))
      }
    }
  }
}
