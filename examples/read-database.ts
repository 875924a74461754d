import { setTimeout as wait } from 'node:timers/promises'
import { type FastifyInstance } from 'fastify'
import { MongoClient } from 'mongodb'
import { type RocketChatOptions, rocketChatDatabase } from '../lib/rocketchat/index.js'
import { StartupError } from './startup-error.js'

/** How long a call waits for a database that is away before it is answered 503: milliseconds. */
const AWAY_AFTER = 2000

/** How long until the next attempt at a first connection: milliseconds. */
const NEXT_ATTEMPT = 1000

/**
 * Rocket.Chat's database as what the plugin wants injected. The server starts whether or not the database is there: until it is,
 * calls are answered 503. The connection ends with the server.
 *
 * @param url names the database, too: `mongodb://localhost:27017/rocketchat`
 * @throws StartupError when the URL is none, or names no database
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
    // The URL itself is not repeated: there may be a password in it.
    throw new StartupError(`MONGODB_URL cannot be read (${String(failure)}): set it to mongodb://host:port/database.`)
  }
  const [, path = ''] = url.split(/^[^/]*\/\/[^/?]*/)
  if (!/^\/[^/?]/.test(path)) throw new StartupError('MONGODB_URL names no database: set it to mongodb://host:port/database.')
  return client
}

// A client whose first connection failed never tries again by itself; once connected, it comes back alone.
async function keepConnecting (client: MongoClient, app: FastifyInstance, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await client.connect()
      app.log.info('Connected to the database')
      return
    } catch (failure) {
      if (signal.aborted) return
      app.log.warn({ err: failure }, 'The database is not to be had: calls are answered 503 until it is')
      await wait(NEXT_ATTEMPT, undefined, { signal }).catch(() => {})
    }
  }
}
