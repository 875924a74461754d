import { MongoClient } from 'mongodb'
import { startMongo } from '../test/fixtures/mongodb.js'
import { WARM_UP } from './server-process.js'
import { databaseOf, fillDatabase } from './work.js'

/** A database server that holds selections: from the start the small one that the servers are warmed up with. */
export interface Database {
  readonly url: string
  /** What it is, and its version. */
  readonly version: string
  /** Sees to it that it holds a selection of so many users. */
  provide (users: number): Promise<void>
  /** Leaves nothing behind. */
  stop (): Promise<void>
}

interface BuildInfo {
  version?: string
  ferretdb?: { version?: string }
  ferretdbVersion?: string
}

/** The server of `MONGODB_URL`, else one of our own; undefined where there is none, which is told. */
export async function startDatabase (): Promise<Database | undefined> {
  const server = await startMongo()
  if (server.missing !== false) {
    console.error(`Without a database: ${server.missing}`)
    return undefined
  }
  const url = server.url()
  const client = new MongoClient(url)
  const provided = new Set<number>()
  const database: Database = {
    url,
    version: versionOf(await client.db('admin').command({ buildInfo: 1 })),
    async provide (users) {
      if (provided.has(users)) return
      provided.add(users)
      await fillDatabase(client.db(databaseOf(users)), users)
    },
    async stop () {
      for (const users of provided) await client.db(databaseOf(users)).dropDatabase()
      await client.close()
      await server.stop()
    }
  }
  await database.provide(WARM_UP.users)
  return database
}

function versionOf ({ version, ferretdb, ferretdbVersion }: BuildInfo): string {
  if (ferretdb !== undefined) return `FerretDB ${ferretdb.version} in place of MongoDB ${version}`
  return ferretdbVersion === undefined ? `MongoDB ${version}` : `FerretDB 1 in place of MongoDB ${version}`
}
