import { existsSync, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Collection, type Db, type Document } from 'mongodb'
import { createClient } from './read-database.js'
import { StartupError } from './startup-error.js'

/** How long MongoDB may work for one question: milliseconds. */
const maxTimeMS = 30_000

/** From which difference of the clocks on `stalled` may be wrong: milliseconds. */
const CLOCK_TOLERANCE = 30_000

const COLLECTIONS = ['users', 'rocketchat_permissions', 'rocketchat_import', 'rocketchat_import_data'] as const
const DATA_TYPES = ['user', 'channel', 'contact', 'message']
const WRITES = ['insert', 'update', 'remove', 'createCollection', 'dropCollection', 'createIndex', 'dropDatabase']

/** `fix` is for what keeps the server from its work, or makes it slow; `note` for what is only good to know. */
type Mark = 'ok' | 'note' | 'fix'
type Tell = (mark: Mark, subject: string, finding: string) => void

/**
 * Looks whether the server could do its work on the database of `MONGODB_URL`: connects, reads, and says a line about each thing
 * that it has found, with what to do about it. It never writes.
 *
 * @param output where the lines are written
 * @returns whether there is nothing to be fixed
 */
export async function check (env: NodeJS.ProcessEnv, output: Pick<NodeJS.WritableStream, 'write'>): Promise<boolean> {
  let toFix = 0
  const tell: Tell = (mark, subject, finding) => {
    if (mark === 'fix') toFix++
    output.write(`${mark.padEnd(6)}${subject}: ${finding}\n`)
  }
  try {
    if (!env.MONGODB_URL) throw new StartupError('MONGODB_URL is not set: set it to mongodb://host:port/database.')
    await checkDatabase(env.MONGODB_URL, env.ROCKETCHAT_URL, tell)
  } catch (failure) {
    if (!(failure instanceof StartupError)) throw failure
    tell('fix', 'settings', failure.message)
  }
  output.write(toFix === 0 ? 'Nothing to fix.\n' : `To fix: ${toFix}.\n`)
  return toFix === 0
}

async function checkDatabase (url: string, rocketchatUrl: string | undefined, tell: Tell): Promise<void> {
  const client = createClient(url)
  try {
    const db = client.db()
    try {
      await client.connect()
    } catch (failure) {
      return tell('fix', 'connection', `${reasonOf(failure)}. Check host, port, user, password and authSource in MONGODB_URL, and whether MongoDB runs.`)
    }
    await checkServer(db, tell)
    await checkRights(db, tell)
    for (const name of COLLECTIONS) await checkCollection(db.collection(name), tell)
    await checkIndex(db.collection('rocketchat_import'), 'ts', '{ ts: -1 }', 'each call', tell)
    await checkIndex(db.collection('rocketchat_import_data'), 'dataType', '{ dataType: 1 }', 'each selection', tell)
    await checkPermission(db, tell)
    await checkOperation(db, rocketchatUrl, tell)
  } finally {
    await client.close()
  }
}

/** Asks a question, and tells when it cannot be answered. */
async function ask<Answer> (question: Promise<Answer>, subject: string, tell: Tell, mark: Mark = 'note', advice = ''): Promise<Answer | undefined> {
  try {
    return await question
  } catch (failure) {
    tell(mark, subject, `could not be read (${reasonOf(failure)}).${advice}`)
    return undefined
  }
}

async function checkServer (db: Db, tell: Tell): Promise<void> {
  const info = await ask(db.command({ buildInfo: 1 }), 'version', tell)
  const before = Date.now()
  const hello = await ask(db.command({ hello: 1 }), 'clock', tell)
  const now = (before + Date.now()) / 2
  const kind = hello?.msg === 'isdbgrid' ? 'a sharded cluster' : hello?.setName === undefined ? 'a single server' : `the replica set ${hello.setName}`
  tell('ok', 'connection', `MongoDB ${info?.version ?? '(version unknown)'}, ${kind}, database ${db.databaseName}`)
  if (!(hello?.localTime instanceof Date)) return
  const difference = Math.round(hello.localTime.getTime() - now)
  if (Math.abs(difference) < CLOCK_TOLERANCE) tell('ok', 'clock', `differs from the database's by ${difference} ms`)
  else tell('fix', 'clock', `differs from the database's by ${difference} ms, so that callers are told wrongly whether an import stalls. Synchronize both by NTP.`)
}

async function checkRights (db: Db, tell: Tell): Promise<void> {
  const status = await ask(db.command({ connectionStatus: 1, showPrivileges: true }), 'rights', tell)
  if (status === undefined) return
  const { authenticatedUsers: [user] = [], authenticatedUserPrivileges: privileges = [] } = Object(status.authInfo)
  if (user === undefined) {
    return tell('note', 'rights', 'nobody is logged in. If this MongoDB asks nobody for a password, everybody who reaches it may read and change everything.')
  }
  const writable = COLLECTIONS.filter(name => WRITES.some(action => mayDo(privileges, db.databaseName, name, action)))
  if (writable.length === 0) tell('ok', 'rights', `${user.user} may not write`)
  else tell('note', 'rights', `${user.user} may write to ${writable.join(', ')}, which the server never does. Give it a user of its own, by deploy/mongo-role.js.`)
}

interface Privilege {
  resource: { db?: string, collection?: string, anyResource?: boolean }
  actions: string[]
}

function mayDo (privileges: Privilege[], database: string, collection: string, action: string): boolean {
  return privileges.some(({ resource, actions }) => actions.includes(action) && (resource.anyResource === true ||
    ((resource.db === '' || resource.db === database) && (resource.collection === '' || resource.collection === collection))))
}

async function checkCollection (collection: Collection, tell: Tell): Promise<void> {
  const name = collection.collectionName
  const advice = ' Give the user of MONGODB_URL the role that deploy/mongo-role.js creates.'
  // Asked for before the count, which a user may be allowed who may not read.
  const found = await ask(collection.findOne({}, { projection: { _id: 1 }, maxTimeMS }), name, tell, 'fix', advice)
  if (found === undefined) return
  if (found === null) {
    if (name.startsWith('rocketchat_import')) return tell('note', name, 'is empty: no import has been started yet, or nothing is staged')
    return tell('fix', name, `is empty, as it is in no Rocket.Chat. Is ${collection.dbName} the right database in MONGODB_URL?`)
  }
  if (name !== 'rocketchat_import_data') {
    const count = await ask(collection.estimatedDocumentCount({ maxTimeMS }), name, tell)
    if (count !== undefined) tell('ok', name, `can be read, documents: ${count}`)
    return
  }
  const counts = []
  for (const dataType of DATA_TYPES) {
    const count = await ask(collection.countDocuments({ dataType }, { maxTimeMS }), `${name}, ${dataType}`, tell)
    if (count !== undefined) counts.push(`${dataType} ${count}`)
  }
  tell('ok', name, `can be read, staged: ${counts.join(', ')}`)
}

async function checkIndex (collection: Collection, field: string, key: string, slow: string, tell: Tell): Promise<void> {
  const subject = `${collection.collectionName}, index ${key}`
  const found = await ask<Document[] | null>(collection.listIndexes().toArray().catch(nullIfMissing), subject, tell)
  if (found === undefined) return
  if (found === null) return tell('note', subject, 'the collection is not there yet')
  if (found.some(index => Object.keys(Object(index.key))[0] === field)) tell('ok', subject, 'is there')
  else tell('fix', subject, `is missing, so that ${slow} reads the whole collection. Rocket.Chat creates it at its start; or, as an administrator: db.${collection.collectionName}.createIndex(${key})`)
}

/** MongoDB's code for a collection that is not there. */
function nullIfMissing (failure: unknown): null {
  if (failure instanceof Error && 'code' in failure && failure.code === 26) return null
  throw failure
}

async function checkPermission (db: Db, tell: Tell): Promise<void> {
  const found = await ask(db.collection<{ _id: string, roles?: unknown }>('rocketchat_permissions')
    .findOne({ _id: 'run-import' }, { projection: { roles: 1 }, maxTimeMS }), 'permission run-import', tell, 'fix')
  if (found === undefined) return
  const roles = Array.isArray(found?.roles) ? found.roles : []
  if (roles.length > 0) tell('ok', 'permission run-import', `is with the roles ${roles.join(', ')}`)
  else tell('fix', 'permission run-import', 'is with no role, so that every call is answered 403. Give it to one in Rocket.Chat: Administration, Permissions.')
}

async function checkOperation (db: Db, rocketchatUrl: string | undefined, tell: Tell): Promise<void> {
  const options = { sort: { ts: -1 }, projection: { importerKey: 1, status: 1, valid: 1, _updatedAt: 1 }, maxTimeMS } as const
  const operation = await ask(db.collection('rocketchat_import').findOne({}, options), 'newest operation', tell, 'fix')
  if (operation === undefined) return
  if (operation === null) return tell('note', 'newest operation', 'there is none: every call is answered 400 until an import is started')
  const { importerKey = '(none)', status, valid, _updatedAt: changed } = operation
  const change = changed instanceof Date ? `, last changed ${changed.toISOString()}` : ''
  tell('ok', 'newest operation', `importer ${importerKey}, status ${status}, ${valid === true ? 'valid' : 'not valid'}${change}`)
  if (status === 'importer_file_loaded' && !rocketchatUrl) {
    tell('note', 'newest operation', 'its file is read by nobody: set ROCKETCHAT_URL, so that Rocket.Chat is asked to')
  }
}

function reasonOf (failure: unknown): string {
  return String(Object(failure).message).replace(/\s+/g, ' ').replace(/\.$/, '')
}

/** Checks when this file is what Node.js was told to run, and not when another one imports it: the exit code is 0 or 1. */
export async function checkIfRun (script: string | undefined, env: NodeJS.ProcessEnv, output: Pick<NodeJS.WritableStream, 'write'>): Promise<void> {
  if (script === undefined || !existsSync(script) || realpathSync(script) !== fileURLToPath(import.meta.url)) return
  process.exitCode = await check(env, output) ? 0 : 1
}

await checkIfRun(process.argv[1], process.env, process.stdout)
