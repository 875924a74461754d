import type { Collection, Db, Document } from 'mongodb'
import { asksForHelp, isScript } from './launch.js'
import { createClient, isEmpty } from './read-database.js'
import { checkUsage, readRocketChatUrl } from './settings.js'
import { StartupError } from './startup-error.js'

/** The time limit of a query, in milliseconds. */
const maxTimeMS = 30_000

/** The difference between the clocks, in milliseconds, from which `stalled` may be wrong. */
const CLOCK_TOLERANCE = 30_000

const COLLECTIONS = ['users', 'rocketchat_permissions', 'rocketchat_import', 'rocketchat_import_data'] as const
const DATA_TYPES = ['user', 'channel', 'contact', 'message']
const WRITES = ['insert', 'update', 'remove', 'createCollection', 'dropCollection', 'createIndex', 'dropDatabase']

/** `fix`: a problem that stops the server from working, or makes it slow. `note`: for information only. */
type Mark = 'ok' | 'note' | 'fix'
type Output = Pick<NodeJS.WritableStream, 'write'>
type Report = (mark: Mark, subject: string, finding: string) => void

/**
 * Checks whether the server can work with the database of `MONGODB_URL`. Writes a line for each finding, with what to do about it.
 * Never writes to the database.
 *
 * @param output where the lines are written
 * @param args the command's arguments. With `--help` the usage is printed instead
 * @returns whether nothing has to be fixed
 */
export async function check (env: NodeJS.ProcessEnv, output: Output, args: readonly string[] = []): Promise<boolean> {
  let toFix = 0
  const report: Report = (mark, subject, finding) => {
    if (mark === 'fix') toFix++
    output.write(`${mark.padEnd(6)}${subject}: ${finding}\n`)
  }
  try {
    if (asksForHelp(args)) {
      output.write(checkUsage())
      return true
    }
    if (!env.MONGODB_URL) throw new StartupError('MONGODB_URL is not set: set it to mongodb://host:port/database.')
    await checkDatabase(env.MONGODB_URL, readRocketChatUrl(env), report)
  } catch (failure) {
    if (!(failure instanceof StartupError)) throw failure
    report('fix', 'settings', failure.message)
  }
  output.write(toFix === 0 ? 'Nothing to fix.\n' : `To fix: ${toFix}.\n`)
  return toFix === 0
}

async function checkDatabase (url: string, rocketchatUrl: string | undefined, report: Report): Promise<void> {
  const client = createClient(url)
  try {
    const db = client.db()
    try {
      await client.connect()
    } catch (failure) {
      return report('fix', 'connection', `${reasonOf(failure)}. Check host, port, user, password and authSource in MONGODB_URL, and whether MongoDB runs.`)
    }
    await checkServer(db, report)
    await checkRights(db, report)
    if (await isOfAnotherProgram(db)) {
      return report('fix', 'database', `${db.databaseName} has no users and no permissions, as every database of Rocket.Chat has. ` +
        'Set MONGODB_URL to that of Rocket.Chat: upper and lower case matter.')
    }
    for (const name of COLLECTIONS) await checkCollection(db.collection(name), report)
    await checkIndex(db.collection('rocketchat_import'), 'ts', '{ ts: -1 }', 'each call', report)
    await checkIndex(db.collection('rocketchat_import_data'), 'dataType', '{ dataType: 1 }', 'each selection', report)
    await checkPermission(db, report)
    await checkOperation(db, rocketchatUrl, report)
  } finally {
    await client.close()
  }
}

/** Waits for a query, and reports its failure. */
async function ask<Answer> (question: Promise<Answer>, subject: string, report: Report, mark: Mark = 'note', advice = ''): Promise<Answer | undefined> {
  try {
    return await question
  } catch (failure) {
    report(mark, subject, `could not be read (${reasonOf(failure)}).${advice}`)
    return undefined
  }
}

async function checkServer (db: Db, report: Report): Promise<void> {
  const info = await ask(db.command({ buildInfo: 1 }), 'version', report)
  const before = Date.now()
  const hello = await ask(db.command({ hello: 1 }), 'clock', report)
  const now = (before + Date.now()) / 2
  const kind = hello?.msg === 'isdbgrid' ? 'a sharded cluster' : hello?.setName === undefined ? 'a single server' : `the replica set ${hello.setName}`
  report('ok', 'connection', `MongoDB ${info?.version ?? '(version unknown)'}, ${kind}, database ${db.databaseName}`)
  if (!(hello?.localTime instanceof Date)) return
  const difference = Math.round(hello.localTime.getTime() - now)
  if (Math.abs(difference) < CLOCK_TOLERANCE) report('ok', 'clock', `differs from the database's by ${difference} ms`)
  else report('fix', 'clock', `differs from the database's by ${difference} ms, so "stalled" in replies may be wrong. Synchronize both clocks with NTP.`)
}

async function checkRights (db: Db, report: Report): Promise<void> {
  const status = await ask(db.command({ connectionStatus: 1, showPrivileges: true }), 'rights', report)
  if (status === undefined) return
  const { authenticatedUsers: [user] = [], authenticatedUserPrivileges: privileges = [] } = Object(status.authInfo)
  if (user === undefined) {
    return report('note', 'rights', 'not logged in. If this MongoDB has no access control, everybody who can reach it can read and change everything.')
  }
  const writable = COLLECTIONS.filter(name => WRITES.some(action => mayDo(privileges, db.databaseName, name, action)))
  if (writable.length === 0) report('ok', 'rights', `${user.user} may not write`)
  else report('note', 'rights', `${user.user} may write to ${writable.join(', ')}, but the server never writes. Create a separate user for it with deploy/mongo-role.js.`)
}

interface Privilege {
  resource: { db?: string, collection?: string, anyResource?: boolean }
  actions: string[]
}

function mayDo (privileges: Privilege[], database: string, collection: string, action: string): boolean {
  return privileges.some(({ resource, actions }) => actions.includes(action) && (resource.anyResource === true ||
    ((resource.db === '' || resource.db === database) && (resource.collection === '' || resource.collection === collection))))
}

/** Whether the collections that Rocket.Chat fills when it is installed are both empty. */
async function isOfAnotherProgram (db: Db): Promise<boolean> {
  return await isEmpty(db.collection('users'), maxTimeMS) && await isEmpty(db.collection('rocketchat_permissions'), maxTimeMS)
}

async function checkCollection (collection: Collection, report: Report): Promise<void> {
  const name = collection.collectionName
  const advice = ' Give the user of MONGODB_URL the role that deploy/mongo-role.js creates.'
  // Before the count: a user may be allowed to count documents, but not to read them.
  const found = await ask(collection.findOne({}, { projection: { _id: 1 }, maxTimeMS }), name, report, 'fix', advice)
  if (found === undefined) return
  if (found === null) {
    if (name.startsWith('rocketchat_import')) return report('note', name, 'is empty: no import has been started yet, or nothing is staged')
    return report('fix', name, `is empty, but a Rocket.Chat database always has documents in it. Is ${collection.dbName} the right database in MONGODB_URL?`)
  }
  if (name !== 'rocketchat_import_data') {
    const count = await ask(collection.estimatedDocumentCount({ maxTimeMS }), name, report)
    if (count !== undefined) report('ok', name, `can be read, documents: ${count}`)
    return
  }
  const counts = []
  for (const dataType of DATA_TYPES) {
    const count = await ask(collection.countDocuments({ dataType }, { maxTimeMS }), `${name}, ${dataType}`, report)
    if (count !== undefined) counts.push(`${dataType} ${count}`)
  }
  report('ok', name, `can be read, staged: ${counts.join(', ')}`)
}

async function checkIndex (collection: Collection, field: string, key: string, slow: string, report: Report): Promise<void> {
  const subject = `${collection.collectionName}, index ${key}`
  const found = await ask<Document[] | null>(collection.listIndexes().toArray().catch(nullIfMissing), subject, report)
  if (found === undefined) return
  if (found === null) return report('note', subject, 'the collection does not exist yet')
  if (found.some(index => Object.keys(Object(index.key))[0] === field)) report('ok', subject, 'exists')
  else report('fix', subject, `is missing, so that ${slow} reads the whole collection. Rocket.Chat creates it when it starts; or create it as an administrator: db.${collection.collectionName}.createIndex(${key})`)
}

function nullIfMissing (failure: unknown): null {
  // NamespaceNotFound
  if (failure instanceof Error && 'code' in failure && failure.code === 26) return null
  throw failure
}

async function checkPermission (db: Db, report: Report): Promise<void> {
  const found = await ask(db.collection<{ _id: string, roles?: unknown }>('rocketchat_permissions')
    .findOne({ _id: 'run-import' }, { projection: { roles: 1 }, maxTimeMS }), 'permission run-import', report, 'fix')
  if (found === undefined) return
  const roles = Array.isArray(found?.roles) ? found.roles : []
  if (roles.length > 0) report('ok', 'permission run-import', `is granted to the roles ${roles.join(', ')}`)
  else report('fix', 'permission run-import', 'is granted to no role, so every call gets a 403 reply. Grant it in Rocket.Chat: Workspace → Permissions.')
}

async function checkOperation (db: Db, rocketchatUrl: string | undefined, report: Report): Promise<void> {
  const options = { sort: { ts: -1 }, projection: { importerKey: 1, status: 1, valid: 1, _updatedAt: 1 }, maxTimeMS } as const
  const operation = await ask(db.collection('rocketchat_import').findOne({}, options), 'newest operation', report, 'fix')
  if (operation === undefined) return
  if (operation === null) return report('note', 'newest operation', 'none: every call gets a 400 reply until an import is started')
  const { importerKey = '(none)', status, valid, _updatedAt: changed } = operation
  const change = changed instanceof Date ? `, last changed ${changed.toISOString()}` : ''
  report('ok', 'newest operation', `importer ${importerKey}, status ${status}, ${valid === true ? 'valid' : 'not valid'}${change}`)
  if (status === 'importer_file_loaded' && !rocketchatUrl) {
    report('note', 'newest operation', 'its file is not read: set ROCKETCHAT_URL, so that Rocket.Chat is asked to read it')
  }
}

function reasonOf (failure: unknown): string {
  return String(Object(failure).message).replace(/\s+/g, ' ').replace(/\.$/, '')
}

/** Runs the check if this file is the script that Node.js runs, and not an import of another file. Sets the exit code to 0 or 1. */
export async function checkIfRun (script: string | undefined, env: NodeJS.ProcessEnv, output: Output, args: readonly string[] = []): Promise<void> {
  if (!isScript(script, import.meta.url)) return
  process.exitCode = await check(env, output, args) ? 0 : 1
}

await checkIfRun(process.argv[1], process.env, process.stdout, process.argv.slice(2))
