import { MongoClient } from 'mongodb'
import { WARM_UP_USERS } from './server-process.js'
import { databaseName, fillDatabase } from './work.js'

/** A database server with the selections that were asked for. */
export interface Database {
  readonly url: string
  /** What it is, and its version. */
  readonly version: string
  /** Drops what was filled. */
  stop (): Promise<void>
}

interface BuildInfo {
  version: string
  ferretdb?: { version: string }
}

/** Fills the server of a URL with a selection of so many users, and with that for the warm-up. */
export async function prepareDatabase (url: string, users: number): Promise<Database> {
  const client = await MongoClient.connect(url)
  const { version, ferretdb } = await client.db('admin').command({ buildInfo: 1 }) as BuildInfo
  const filled = [WARM_UP_USERS, users]
  for (const users of filled) await fillDatabase(client.db(databaseName(users)), users)
  return {
    url,
    version: ferretdb === undefined ? `MongoDB ${version}` : `FerretDB ${ferretdb.version}`,
    async stop () {
      for (const users of filled) await client.db(databaseName(users)).dropDatabase()
      await client.close()
    }
  }
}
