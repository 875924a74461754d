import { MongoClient } from 'mongodb'
import { WARM_UP_USERS } from './server-process.js'
import { databaseName, fillDatabase } from './work.js'

/** A database server that holds the selections for the benchmark. */
export interface Database {
  readonly url: string
  /** Its product and version. */
  readonly version: string
  /** Drops the databases of the benchmark. */
  stop (): Promise<void>
}

interface BuildInfo {
  version: string
  ferretdb?: { version: string }
}

/** Fills databases with a selection of `users` users, and with the selection for the warm-up. */
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
