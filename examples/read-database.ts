import { setTimeout as wait } from 'node:timers/promises'
import { type FastifyInstance } from 'fastify'
import { MongoClient } from 'mongodb'
import { type RocketChatOptions, rocketChatDatabase } from '../lib/rocketchat/index.js'
import { StartupError } from './startup-error.js'

/** How long a call waits for a database that cannot be reached before it is answered 503: milliseconds. */
const AWAY_AFTER = 2000

/** How long it takes until the next attempt to connect for the first time: milliseconds. */
const NEXT_ATTEMPT = 1000

/**
 * The plugin's options for Rocket.Chat's database. The server starts even if the database cannot be reached: calls are answered
 * 503 until it can. The log says when the database has answered. The connection is closed with the server.
 *
 * @param url includes the name of the database: `mongodb://localhost:27017/rocketchat`
 * @throws StartupError when the URL is not valid, or names no database
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
 * A client for Rocket.Chat's database that does not connect yet, and gives up soon when the database is away.
 *
 * @throws StartupError when the URL is none, or names no database
 */
export function createClient (url: string): MongoClient {
  let client: MongoClient
  try {
    client = new MongoClient(url, { serverSelectionTimeoutMS: AWAY_AFTER, appName: 'fastify-import-file-data' })
  } catch (failure) {
    // The URL itself is not repeated: it may contain a password.
    throw new StartupError(`MONGODB_URL is not valid (${String(failure)}): set it to mongodb://host:port/database.`)
  }
  const [, path = ''] = url.split(/^[^/]*\/\/[^/?]*/)
  if (!/^\/[^/?]/.test(path)) throw new StartupError('MONGODB_URL names no database: set it to mongodb://host:port/database.')
  return client
}

// A client whose first connection failed does not try again by itself. Once connected, it reconnects by itself.
async function keepConnecting (client: MongoClient, app: FastifyInstance, signal: AbortSignal): Promise<void> {
  app.log.info('Connecting to the database')
  while (!signal.aborted) {
    try {
      await client.connect()
      app.log.info('Connected to the database: serving the import in it')
      return
    } catch (failure) {
      if (signal.aborted) return
      app.log.warn({ err: failure }, 'The database cannot be reached: calls are answered 503 until it can')
      await wait(NEXT_ATTEMPT, undefined, { signal }).catch(() => {})
    }
  }
}
