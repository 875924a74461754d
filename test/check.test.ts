import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Document } from 'mongodb'
import t, { type Test } from 'tap'
import { check, checkIfRun } from '../examples/check.js'
import { importSample, startMongo } from './fixtures/mongodb.js'
import { type Script, cursorOf, startScriptedMongo } from './fixtures/scripted-mongo.js'

const mongo = await startMongo(t)
const needsServer = { skip: mongo.missing }

/** Runs the check. Returns its output, and whether nothing has to be fixed. */
async function run (env: NodeJS.ProcessEnv, args: readonly string[] = []) {
  let text = ''
  const isFine = await check(env, { write: (chunk: string) => { text += chunk; return true } }, args)
  const line = (subject: string) => text.split('\n').find(line => line.slice(6).startsWith(`${subject}: `)) ?? ''
  return { text, isFine, line }
}

const PRIVILEGES = (...actions: string[]) => ['users', 'rocketchat_permissions', 'rocketchat_import', 'rocketchat_import_data']
  .map(collection => ({ resource: { db: 'rocketchat', collection }, actions }))

const authInfo = (user: string, privileges: Document[]) =>
  ({ authInfo: { authenticatedUsers: [{ user, db: 'admin' }], authenticatedUserPrivileges: privileges } })

/** The replies of a Rocket.Chat database without problems. */
const healthy: Script = (command, request) => {
  switch (command) {
    case 'buildInfo': return { version: '7.0.5' }
    case 'connectionStatus': return authInfo('importreader', PRIVILEGES('find', 'listIndexes'))
    case 'count': return { n: 7 }
    case 'aggregate': return cursorOf({ _id: 1, n: 3 })
    case 'listIndexes':
      return cursorOf({ v: 2, key: { _id: 1 } }, { v: 2, key: request.listIndexes === 'rocketchat_import' ? { ts: -1 } : { dataType: 1 } })
    case 'find': switch (request.find) {
      case 'rocketchat_permissions': return cursorOf({ _id: 'run-import', roles: ['admin'] })
      case 'rocketchat_import':
        return cursorOf({ _id: '1', importerKey: 'slack', status: 'importer_file_loaded', valid: true, _updatedAt: new Date('2026-03-02T09:14:05.120Z') })
      default: return cursorOf({ _id: '1' })
    }
    default: return undefined
  }
}

/** Runs the check with a database without problems, and a test's changes. */
async function runScripted (t: Test, changes: Script, env: NodeJS.ProcessEnv = { ROCKETCHAT_URL: 'http://localhost:3000' }) {
  const server = await startScriptedMongo(t, (command, request) => changes(command, request) ?? healthy(command, request))
  return { commands: server.commands, ...await run({ MONGODB_URL: server.url(), ...env }) }
}

t.test('a database without problems has nothing to fix', async t => {
  const { text, isFine } = await runScripted(t, () => undefined)
  t.ok(isFine)
  t.equal(text.replace(/by -?\d+ ms/, 'by 0 ms'), `
ok    connection: MongoDB 7.0.5, a single server, database rocketchat
ok    clock: differs from the database's by 0 ms
ok    rights: importreader may not write
ok    users: can be read, documents: 7
ok    rocketchat_permissions: can be read, documents: 7
ok    rocketchat_import: can be read, documents: 7
ok    rocketchat_import_data: can be read, staged: user 3, channel 3, contact 3, message 3
ok    rocketchat_import, index { ts: -1 }: exists
ok    rocketchat_import_data, index { dataType: 1 }: exists
ok    permission run-import: is granted to the roles admin
ok    newest operation: importer slack, status importer_file_loaded, valid, last changed 2026-03-02T09:14:05.120Z
Nothing to fix.
`.trimStart())
})

t.test('the check sends no command that could write', async t => {
  const { commands } = await runScripted(t, () => undefined)
  const known = ['hello', 'ismaster', 'isMaster', 'buildInfo', 'connectionStatus', 'count', 'aggregate', 'listIndexes', 'find', 'endSessions', 'killCursors', 'ping']
  t.strictSame([...commands].filter(command => !known.includes(command)), [])
  t.ok(commands.has('find') && commands.has('listIndexes'))
})

t.test('collections that cannot be read have to be fixed, with the role', async t => {
  const { isFine, line } = await runScripted(t, (command, { find }) => command === 'find' && find !== 'users' ? 13 : undefined)
  t.notOk(isFine)
  t.match(line('users'), /^ok {4}/)
  t.match(line('rocketchat_import'), /^fix {3}.* could not be read \(error 13 on find\)\. Give the user .* deploy\/mongo-role\.js/)
  t.match(line('rocketchat_import_data'), /^fix {3}/)
  t.match(line('permission run-import'), /^fix {3}/)
  t.match(line('newest operation'), /^fix {3}/)
})

t.test('other commands that a server does not support or allow are reported, but do not have to be fixed', async t => {
  const refused = ['buildInfo', 'connectionStatus', 'count', 'aggregate', 'listIndexes']
  const { isFine, line } = await runScripted(t, command => refused.includes(command) ? 59 : undefined)
  t.ok(isFine)
  for (const subject of ['version', 'rights', 'users', 'rocketchat_import_data, user', 'rocketchat_import, index { ts: -1 }']) {
    t.match(line(subject), /^note {2}.*could not be read \(error 59 on/, subject)
  }
  t.match(line('connection'), 'MongoDB (version unknown)')
})

t.test('a missing index has to be fixed, and the output has the command', async t => {
  const { isFine, line } = await runScripted(t, command => command === 'listIndexes' ? cursorOf({ v: 2, key: { _id: 1 } }) : undefined)
  t.notOk(isFine)
  t.match(line('rocketchat_import, index { ts: -1 }'), /^fix .*db\.rocketchat_import\.createIndex\(\{ ts: -1 \}\)$/)
  t.match(line('rocketchat_import_data, index { dataType: 1 }'), /^fix .*db\.rocketchat_import_data\.createIndex\(\{ dataType: 1 \}\)$/)
})

t.test('a database without any import has nothing to fix', async t => {
  const { isFine, line } = await runScripted(t, (command, request) => {
    if (command === 'listIndexes') return 26
    return String(request.find).startsWith('rocketchat_import') ? cursorOf() : undefined
  })
  t.ok(isFine)
  t.match(line('rocketchat_import'), /^note {2}.*no import has been started/)
  t.match(line('rocketchat_import, index { ts: -1 }'), /^note {2}.*does not exist yet/)
  t.match(line('newest operation'), /^note {2}newest operation: none: /)
})

t.test('an empty database is reported as the wrong database, in one line', async t => {
  const { isFine, text } = await runScripted(t, command => command === 'find' ? cursorOf() : undefined)
  t.notOk(isFine)
  t.strictSame(text.trim().split('\n').filter(line => !/^ok|^note/.test(line)), [
    'fix   database: rocketchat has no users and no permissions, as every database of Rocket.Chat has. ' +
      'Set MONGODB_URL to that of Rocket.Chat: upper and lower case matter.',
    'To fix: 1.'
  ])
  t.notMatch(text, /rocketchat_import|run-import/)
})

t.test('one empty collection has to be fixed, and the others are checked', async t => {
  for (const [empty, other] of [['users', 'rocketchat_permissions'], ['rocketchat_permissions', 'users']] as const) {
    const { isFine, line } = await runScripted(t, (command, { find }) => command === 'find' && find === empty ? cursorOf() : undefined)
    t.notOk(isFine)
    t.match(line(empty), /^fix .*Is rocketchat the right database in MONGODB_URL\?$/)
    t.match(line(other), /^ok {4}/)
    t.match(line('newest operation'), /^ok {4}/)
  }
})

t.test('a collection that cannot be read does not count as empty', async t => {
  const { isFine, line } = await runScripted(t, (command, { find }) => {
    if (command !== 'find') return undefined
    return find === 'users' ? 13 : cursorOf()
  })
  t.notOk(isFine)
  t.equal(line('database'), '')
  t.match(line('users'), /^fix {3}.* could not be read \(error 13 on find\)/)
  t.match(line('rocketchat_permissions'), /^fix .*Is rocketchat the right database in MONGODB_URL\?$/)
})

t.test('a permission that is missing or granted to no role has to be fixed', async t => {
  for (const permission of [cursorOf(), cursorOf({ _id: 'run-import', roles: [] })]) {
    const { isFine, line } = await runScripted(t, (_command, { find, filter }) =>
      find === 'rocketchat_permissions' && Object(filter)._id === 'run-import' ? permission : undefined)
    t.notOk(isFine)
    t.match(line('permission run-import'), /^fix .*every call gets a 403 reply/)
  }
})

t.test('rights to write are reported', async t => {
  for (const [privileges, found] of [
    [PRIVILEGES('find', 'insert'), 'users, rocketchat_permissions, rocketchat_import, rocketchat_import_data'],
    [[{ resource: { db: 'rocketchat', collection: 'users' }, actions: ['update'] }, { resource: { cluster: true }, actions: ['insert'] }], 'users'],
    [[{ resource: { db: '', collection: 'users' }, actions: ['remove'] }], 'users'],
    [[{ resource: { anyResource: true }, actions: ['insert'] }], 'users, rocketchat_permissions, rocketchat_import, rocketchat_import_data']
  ] as const) {
    const { isFine, line } = await runScripted(t, command => command === 'connectionStatus' ? authInfo('root', [...privileges]) : undefined)
    t.ok(isFine)
    t.match(line('rights'), `root may write to ${found}, but`)
  }
  const other = [{ resource: { db: 'other', collection: '' }, actions: ['insert'] }]
  const { line } = await runScripted(t, command => command === 'connectionStatus' ? authInfo('reader', other) : undefined)
  t.match(line('rights'), /^ok {4}/)
})

t.test('a server without access control is reported', async t => {
  for (const answer of [{ authInfo: { authenticatedUsers: [] } }, {}]) {
    const { isFine, line } = await runScripted(t, command => command === 'connectionStatus' ? { authInfo: undefined, ...answer } : undefined)
    t.ok(isFine)
    t.match(line('rights'), /^note {2}.*not logged in/)
  }
})

t.test('clocks that differ have to be fixed', async t => {
  const { isFine, line } = await runScripted(t, (_command, { hello }) => hello ? { localTime: new Date(Date.now() - 90_000) } : undefined)
  t.notOk(isFine)
  t.match(line('clock'), /^fix .* by -(89|9\d)\d{3} ms.*NTP/)
  const { line: without } = await runScripted(t, (_command, { hello }) => hello ? { localTime: undefined } : undefined)
  t.equal(without('clock'), '')
})

t.test('a replica set and a sharded cluster are reported', async t => {
  const { line } = await runScripted(t, (_command, { hello }) => hello ? { setName: 'rs0', hosts: ['a:1'] } : undefined)
  t.match(line('connection'), 'the replica set rs0')
  const { line: sharded } = await runScripted(t, (_command, { hello }) => hello ? { msg: 'isdbgrid' } : undefined)
  t.match(sharded('connection'), 'a sharded cluster')
})

t.test('an uploaded file that would not be read is reported', async t => {
  const { isFine, text } = await runScripted(t, () => undefined, {})
  t.ok(isFine)
  t.match(text, /^note {2}newest operation: its file is not read: set ROCKETCHAT_URL/m)
})

t.test('an operation with a few fields only is reported', async t => {
  const { line } = await runScripted(t, (_command, { find }) =>
    find === 'rocketchat_import' ? cursorOf({ _id: '1', status: 'importer_new', valid: false }) : undefined)
  t.match(line('newest operation'), /importer \(none\), status importer_new, not valid$/)
})

/**
 * A port of 127.0.0.1 that refuses connections until the test ends. It is the client's end of a connection, so no other process can
 * begin to listen on it, as it can on a fixed port.
 */
async function refusingPort (t: Test): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  // With `localAddress` the port is bound explicitly, and so is not taken for the local end of another connection either.
  const client = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.1' })
  t.teardown(() => {
    client.destroy()
    server.close()
  })
  await once(client, 'connect')
  return (client.address() as AddressInfo).port
}

t.test('a database that is down has to be fixed', async t => {
  const port = await refusingPort(t)
  const { isFine, text } = await run({ MONGODB_URL: `mongodb://reader:canary@127.0.0.1:${port}/rocketchat` })
  t.notOk(isFine)
  t.match(text, new RegExp(`^fix {3}connection: connect ECONNREFUSED 127\\.0\\.0\\.1:${port}\\. Check host, port`))
  t.notMatch(text, 'canary')
})

t.test('missing and invalid settings have to be fixed', async t => {
  for (const [env, problem] of [
    [{}, /^fix {3}settings: MONGODB_URL is not set/],
    [{ MONGODB_URL: 'mongodb://localhost:27017' }, /^fix {3}settings: MONGODB_URL names no database/],
    [{ MONGODB_URL: 'mongodb://localhost/rocketchat', ROCKETCHAT_URL: 'rocketchat:3000' }, /^fix {3}settings: ROCKETCHAT_URL is not an HTTP/]
  ] as const) {
    const { isFine, text } = await run(env)
    t.notOk(isFine)
    t.match(text, problem)
    t.match(text, /To fix: 1\.\n$/)
  }
})

t.test('--help and -h print the settings of the check and its commands, and check nothing', async t => {
  for (const arg of ['--help', '-h']) {
    const { text, isFine } = await run({ MONGODB_URL: 'not a URL' }, [arg])
    t.ok(isFine)
    t.match(text, /^Checks whether the server can work with Rocket\.Chat's database\./)
    for (const command of ['npm run start:check', 'npm run start:check -- --help', 'node examples/check.js', 'node examples/check.js --help']) {
      t.match(text, new RegExp(`^(Usage:| {6}) ${command} {2,}(check|print) `, 'm'))
    }
    t.strictSame(text.match(/^ {2}[A-Z_]+/gm), ['  MONGODB_URL', '  ROCKETCHAT_URL'])
    t.notMatch(text, 'To fix')
  }
})

t.test('an unknown argument has to be fixed, and the database is not checked', async t => {
  for (const args of [['--database=rocketchat'], ['mongodb://localhost/rocketchat'], ['--help', 'more']]) {
    const { text, isFine } = await run({ MONGODB_URL: 'not a URL' }, args)
    t.notOk(isFine)
    t.equal(text, `fix   settings: Unknown argument "${args.at(-1)}": the settings are environment variables, --help lists them.\nTo fix: 1.\n`)
  }
})

t.test('an error in the program is not reported as a finding', async t => {
  await t.rejects(check({ MONGODB_URL: 'mongodb://127.0.0.1:1/rocketchat' }, { write: () => { throw new Error('the pipe is closed') } }), /the pipe is closed/)
})

t.test('on a real server the sample import is checked, and nothing is written', needsServer, async t => {
  const { db } = mongo.database(t)
  await importSample(db)
  await db.collection('rocketchat_import').createIndex({ ts: -1 })
  await db.collection('rocketchat_import_data').createIndex({ dataType: 1 })
  const dump = async () => {
    const found: Record<string, unknown> = {}
    for (const { collectionName } of await db.collections()) {
      const collection = db.collection(collectionName)
      found[collectionName] = [await collection.find().sort({ _id: 1 }).toArray(), await collection.indexes()]
    }
    return found
  }
  const before = await dump()
  const { isFine, line } = await run({ MONGODB_URL: mongo.url(db.databaseName) })
  t.strictSame(await dump(), before)
  t.ok(isFine)
  t.match(line('rocketchat_import_data'), /^ok .*staged: user 30, channel \d+, contact 4, message 331$/)
  t.match(line('rocketchat_import, index { ts: -1 }'), 'exists')
  t.match(line('newest operation'), /importer slack, status importer_\w+/)
})

t.test('on a real server an empty database is reported as the wrong database, and stays empty', needsServer, async t => {
  const { db } = mongo.database(t)
  const { isFine, line } = await run({ MONGODB_URL: mongo.url(db.databaseName) })
  t.notOk(isFine)
  t.match(line('database'), `${db.databaseName} has no users and no permissions`)
  t.strictSame(await db.collections(), [])
})

t.test('as a script the check sets the exit code to 1 if something has to be fixed, and otherwise to 0', async t => {
  const script = fileURLToPath(new URL('../examples/check.ts', import.meta.url))
  const exitCodeOf = async (...args: Parameters<typeof checkIfRun>) => {
    await checkIfRun(...args)
    const { exitCode } = process
    process.exitCode = undefined
    return exitCode
  }
  const { url } = await startScriptedMongo(t, healthy)
  t.equal(await exitCodeOf(script, { MONGODB_URL: url() }, new PassThrough()), 0)
  t.equal(await exitCodeOf(script, {}, new PassThrough()), 1)
  t.equal(await exitCodeOf(script, {}, new PassThrough(), ['--help']), 0)
  t.equal(await exitCodeOf(script, { MONGODB_URL: url() }, new PassThrough(), ['--hepl']), 1)
  t.equal(await exitCodeOf('elsewhere.js', {}, new PassThrough()), undefined)
  t.equal(await exitCodeOf(undefined, {}, new PassThrough()), undefined)
})
