import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { type Collection, type Db, MongoClient } from 'mongodb'
import { type RocketChatOptions, rocketChatDatabase } from '../lib/rocketchat/index.js'
import { StartupError } from './startup-error.js'

/** Milliseconds that a call waits for an unreachable database before the 503 reply. */
const AWAY_AFTER = 2000

/** Milliseconds between two attempts to connect for the first time. */
const NEXT_ATTEMPT = 1000

/**
 * The plugin's options for Rocket.Chat's database. The server starts even if the database cannot be reached. Calls get a 503 reply
 * until it can, and the log says when it can. The connection is closed with the server.
 *
 * @param url with the name of the database, such as `mongodb://localhost:27017/rocketchat`
 * @throws StartupError if the URL is not valid or has no database name
 */
export function readDatabase (app: FastifyInstance, url: string): RocketChatOptions {
  const client = createClient(url)
  const closing = new AbortController()
  const connected = keepConnecting(client, app, closing.signal)
  app.addHook('onClose', async () => {
    closing.abort()
    await client.close()
    await connected
  })
  return rocketChatDatabase(client.db())
}

/**
 * A client for Rocket.Chat's database, with a short timeout. It does not connect yet.
 *
 * @throws StartupError if the URL is not valid or has no database name
 */
export function createClient (url: string): MongoClient {
  // The driver would take a part of the password for the host, which the log shows.
  if (/@.*@/.test(url)) throw new StartupError('MONGODB_URL has more than one @: write each as %40, except the one before the host.')
  let client: MongoClient
  try {
    client = new MongoClient(url, { serverSelectionTimeoutMS: AWAY_AFTER, appName: 'fastify-import-file-data' })
  } catch (failure) {
    // Without the URL, which may contain a password.
    const form = url.includes('@') ? 'user:password@host:port/database, with user and password percent-encoded' : 'host:port/database'
    throw new StartupError(`MONGODB_URL is not valid (${String(failure)}): set it to mongodb://${form}.`)
  }
  const [, path = ''] = url.split(/^[^/]*\/\/[^/?]*/)
  if (!/^\/[^/?]/.test(path)) throw new StartupError('MONGODB_URL names no database: set it to mongodb://host:port/database.')
  return client
}

/**
 * Whether a collection has no documents. One that cannot be read does not count as empty.
 *
 * @param maxTimeMS the time limit in milliseconds
 */
export async function isEmpty (collection: Collection, maxTimeMS: number): Promise<boolean> {
  return await collection.findOne({}, { projection: { _id: 1 }, maxTimeMS }).catch(() => undefined) === null
}

// The client reconnects by itself, but only after its first connection.
async function keepConnecting (client: MongoClient, app: FastifyInstance, signal: AbortSignal): Promise<void> {
  app.log.info('Connecting to the database')
  let reported: string | undefined
  while (!signal.aborted) {
    try {
      await client.connect()
      app.log.info('Connected to the database: serving the import in it')
      return await warnWithoutUsers(client.db(), app)
    } catch (failure) {
      if (signal.aborted) return
      // Without the stack and the description of the servers, which fill the screen, and only once for each reason.
      const reason = String(failure)
      if (reason !== reported) app.log.warn({ reason }, 'The database cannot be reached: calls get a 503 reply until it can')
      reported = reason
      await wait(NEXT_ATTEMPT, undefined, { signal }).catch(() => {})
    }
  }
}

// MongoDB reports no error for a database that does not exist, so a wrong name only shows in the data.
async function warnWithoutUsers (db: Db, app: FastifyInstance): Promise<void> {
  if (!await isEmpty(db.collection('users'), AWAY_AFTER)) return
  app.log.warn(`The database ${db.databaseName} has no users, so no call is authorized: set MONGODB_URL to that of Rocket.Chat`)
}
