import pTimeout from 'p-timeout'
import { CursorClosed, ReadTimeout } from '../errors.js'
import { demand, isFunction, isObject, isPositiveInteger } from '../options.js'
import * as rocketChat from './documents.js'

/** The part of a `Db` of the MongoDB driver that is used. A host without MongoDB needs no driver, not even its types. */
export interface DatabaseLike { collection (name: string): CollectionLike }

interface CollectionLike {
  findOne<Found> (filter: object, options: object): Promise<Found | null>
  find (filter: object, options: object): CursorLike
  countDocuments (filter: object, options: object): Promise<number>
}

interface CursorLike {
  /** Whether it was closed before its end. */
  readonly killed: boolean
  hasNext (): Promise<boolean>
  readBufferedDocuments (): rocketChat.StagedDocument[]
  close (): Promise<void>
}

/** How the database is read. */
export interface RocketChatDatabaseOptions {
  /**
   * How many staged records one read returns, which is how many a reply holds in memory.
   * @default 2000
   */
  batchSize?: number
  /**
   * The limit of a read in milliseconds: of each look-up, of the count, and of each batch. MongoDB gets the limit of look-ups and of the
   * count, too.
   * @default 30000
   */
  maxTimeMS?: number
}

/**
 * The options of the plugin for a live Rocket.Chat database. It is never written to.
 *
 * @param db a `Db` of the `mongodb` driver, version 7. Its read preference and read concern are used; the host connects and closes
 *   its client
 * @throws InvalidOption when an argument is wrong
 */
export function rocketChatDatabase (db: DatabaseLike, options: RocketChatDatabaseOptions = {}): rocketChat.RocketChatOptions {
  const { batchSize = 2000, maxTimeMS = 30_000 } = options
  demand('a Db of the mongodb driver', isObject, { db }, ['db'])
  demand('a function', isFunction, db, ['collection'], 'db.')
  demand('a whole number above 0', isPositiveInteger, { batchSize }, ['batchSize'])
  demand('a whole number of milliseconds above 0', isPositiveInteger, { maxTimeMS }, ['maxTimeMS'])
  const data = db.collection('rocketchat_import_data')

  // MongoDB's own limit, `maxTimeMS`, does not help if the network or MongoDB itself hangs. So a read also ends here, at once, if it takes
  // longer or the caller has disconnected. With the signal the driver gives up, too. MongoDB gets the limit of a read that has one result.
  function limitReads (caller?: AbortSignal) {
    const deadline = new AbortController()
    const signal = caller === undefined ? deadline.signal : AbortSignal.any([caller, deadline.signal])
    // Overrides settings of the host's client, so that the driver returns documents whose numbers are plain values. A 64-bit integer that a
    // number would round stays a Long.
    const options = { raw: false, promoteValues: true, promoteLongs: true, useBigInt64: false, signal }
    // p-timeout cancels a read that takes longer. The signal then rejects with this error, before p-timeout does with its own.
    const cancel = () => deadline.abort(new ReadTimeout(maxTimeMS))
    const read = <Result>(start: (options: object) => Promise<Result>) =>
      pTimeout(Object.assign(start({ ...options, maxTimeMS }), { cancel }), { milliseconds: maxTimeMS, signal })
    return { options, read }
  }

  // By default reads all batches, without `maxTimeMS`: for a cursor MongoDB counts it for all batches together, so that a large selection would
  // never be complete.
  async function * staged (filter: object, fields: readonly string[], caller: AbortSignal, own: object = { batchSize }) {
    const { options, read } = limitReads(caller)
    const projection = { _id: 0, ...Object.fromEntries(fields.map(field => [`data.${field}`, 1])) }
    const cursor = data.find(filter, { ...options, projection, ...own })
    try {
      while (await read(() => cursor.hasNext())) yield cursor.readBufferedDocuments().map(rocketChat.dataOf)
      // For a closed cursor the driver throws no error, so the records would look complete.
      if (cursor.killed) throw new CursorClosed()
    } finally {
      // When the signal is aborted, the driver closes the cursor itself; closing it twice would end the session that the driver needs for
      // that. Not awaited: a server that hangs would delay the reply.
      if (!options.signal.aborted) cursor.close().catch(() => {})
    }
  }

  return {
    lookupUser: ({ userId, authToken }) => limitReads().read(options => db.collection('users').findOne({
      _id: userId,
      'services.resume.loginTokens.hashedToken': rocketChat.hashLoginToken(authToken),
      active: { $ne: false }
    }, { ...options, projection: { roles: 1 } })),
    hasPermission: async (user, permission) => rocketChat.hasRoleOf(user, await limitReads().read(options =>
      db.collection('rocketchat_permissions').findOne({ _id: permission }, { ...options, projection: { roles: 1 } }))),
    store: {
      latestOperation: async ({ signal }) => rocketChat.toOperation(await limitReads(signal).read(options =>
        db.collection('rocketchat_import').findOne({}, { ...options, sort: { ts: -1 } }))),
      users: ({ signal }) => staged({ dataType: 'user' }, ['importIds', 'username', 'emails', 'deleted', 'type'], signal),
      async * channels ({ signal }) {
        yield * staged({ dataType: 'channel', 'data.t': { $ne: 'd' } }, ['importIds', 'name', 't', 'archived'], signal)
        yield * staged({ dataType: 'channel', 'data.t': 'd' }, ['t'], signal, { limit: 1, maxTimeMS })
      },
      contacts: ({ signal }) => staged({ dataType: 'contact' }, ['importIds', 'name', 'emails', 'phones'], signal),
      countMessages: ({ signal }) => limitReads(signal).read(options => data.countDocuments({ dataType: 'message' }, options))
    }
  }
}
