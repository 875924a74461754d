import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { BSON } from 'bson'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { demoImport } from '../examples/demo-import.js'
import { answerClientError } from '../examples/error-replies.js'
import { closer } from '../examples/launch.js'
import { type Serve, buildServer, start, startIfRun } from '../examples/server.js'
import { SAMPLE_IMPORT, readSettings } from '../examples/settings.js'
import { StartupError, listenFailure } from '../examples/startup-error.js'
import type { UserItem } from '../lib/index.js'
import { hashLoginToken } from '../lib/rocketchat/index.js'
import { FORBIDDEN, UNAUTHORIZED, call, caller, callerLines, matchEach, requestText, sendText } from './fixtures/build.js'
import { captureOutput } from './fixtures/output.js'

const script = fileURLToPath(new URL('../examples/server.ts', import.meta.url))

/** The user of the sample import who may not run imports. */
const secondUser = { 'x-user-id': 'kQ7mWZs4hNbT9eRfx', 'x-auth-token': 'Hb2-vXq7LrT0sYw4PzN8cKdJ5mUeG1aFi3oQ6RtZx9E' }

/** A server with the settings of an environment. It is closed when the test ends. */
async function build (t: Test, env: NodeJS.ProcessEnv = {}, output = captureOutput(), serve?: Serve): Promise<FastifyInstance> {
  const app = await buildServer(readSettings(env), output, serve)
  t.teardown(() => app.close())
  return app
}

const hashedToken = hashLoginToken(caller['x-auth-token'])

/** The files of a folder as mongoexport writes them, with the documented user and no staged records, and a test's changes. */
function dump (changes: Record<string, string | object[]> = {}): Record<string, string> {
  const files = {
    'rocketchat_import.json': [operation()],
    'rocketchat_import_data.json': [],
    'users.json': [{ _id: caller['x-user-id'], roles: ['admin'], services: { resume: { loginTokens: [{ hashedToken }] } } }],
    'rocketchat_permissions.json': [{ _id: 'run-import', roles: ['admin'] }],
    ...changes
  }
  return Object.fromEntries(Object.entries(files).map(([name, content]) =>
    [name, typeof content === 'string' ? content : content.map(document => `${JSON.stringify(document)}\n`).join('')]))
}

/** An operation that is ready for selection, as mongoexport writes it, with a test's changes. */
function operation (changes: object = {}): object {
  return {
    _id: { $oid: '507f1f77bcf86cd799439011' },
    importerKey: 'slack',
    ts: { $date: '2026-03-01T08:00:00Z' },
    status: 'importer_user_selection',
    valid: true,
    _updatedAt: { $date: { $numberLong: '1772353800000' } },
    ...changes
  }
}

function staged (dataType: string, data: object | null): object {
  return { _id: { $oid: '507f1f77bcf86cd799439012' }, dataType, data }
}

/** The start-up error of a server with this folder. */
async function problemOf (dataDir: string): Promise<string> {
  return buildServer(readSettings({ DATA_DIR: dataDir }), captureOutput()).then(
    () => 'none', failure => failure instanceof StartupError ? failure.message : `not a StartupError: ${failure}`)
}

/** The start-up error for an environment. */
function problemIn (env: NodeJS.ProcessEnv): string {
  try {
    readSettings(env)
    return 'none'
  } catch (failure) {
    return failure instanceof StartupError ? failure.message : `not a StartupError: ${failure}`
  }
}

/** Starts the example as a separate process. It is killed when the test ends. */
function run (t: Test, env: NodeJS.ProcessEnv, { cwd = process.cwd(), path = script, args = [] as string[] } = {}) {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), path, ...args], {
    cwd,
    // Its coverage would refer to differently compiled files, and cannot be merged.
    env: { PATH: process.env.PATH, _TAPJS_PROCESSINFO_COVERAGE_: '0', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  t.teardown(() => child.kill('SIGKILL'))
  const end = Promise.all([once(child, 'close'), text(child.stderr)]).then(([[code], errors]) => ({ code, errors }))
  return {
    stdout: child.stdout,
    /** Resolves with its exit code and its stderr when it has exited. */
    end,
    /** Sends a signal, and waits for its exit. */
    async signal (name: NodeJS.Signals) {
      child.kill(name)
      return end
    },
    /** Its stdout up to the curl command, and the URL in the command. */
    async announcement () {
      let written = ''
      child.stdout.setEncoding('utf8')
      for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
        written += chunk
        const url = written.match(/curl .*'(http:\S+getImportFileData)'/)?.[1]
        if (url !== undefined) {
          child.stdout.resume()
          return { written, url }
        }
      }
      throw new Error(`The process exited: ${(await end).errors}`)
    }
  }
}

/** A TCP server that listens until the test ends. */
async function tcpServer (t: Test, onConnection: (socket: Socket) => void = () => {}): Promise<Server> {
  const server = createServer(onConnection).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return server
}

/** A port that is in use until the test ends. */
async function usedPort (t: Test): Promise<string> {
  return String(portOf(await tcpServer(t)))
}

function portOf (server: Server): number {
  const { port } = server.address() as AddressInfo
  return port
}

function connectTo (server: Server): Socket {
  return connect(portOf(server), '127.0.0.1')
}

/** Starts a server in this process, until the test ends. Returns it and its output. */
async function startHere (t: Test, env: NodeJS.ProcessEnv, output = captureOutput(), args: string[] = []) {
  const errors = captureOutput()
  const app = await start({ PORT: '0', ...env }, output, errors, undefined, args)
  t.teardown(() => app?.close())
  const { exitCode } = process
  process.exitCode = undefined
  return { app, written: output.written(), errors: errors.written(), exitCode }
}

// The sample import.

t.test('with the sample import the documented call gets all staged records', async t => {
  const documents: Array<{ dataType: string, data: { t?: string } }> =
    readFileSync(join(SAMPLE_IMPORT, 'rocketchat_import_data.json'), 'utf8').trim().split('\n').map(line => JSON.parse(line))
  const count = (dataType: string) => documents.filter(document => document.dataType === dataType).length
  const rooms = documents.filter(({ dataType, data }) => dataType === 'channel' && data.t !== 'd').length
  const reply = await call(await build(t))
  t.equal(reply.statusCode, 200)
  const { name, users, channels, contacts, message_count: messages, success } = reply.json()
  t.same({
    name, users: users.length, channels: channels.length, contacts: contacts.length, messages, success
  }, {
    name: 'Slack', users: count('user'), channels: rooms + 1, contacts: count('contact'), messages: count('message'), success: true
  })
  t.equal(channels.at(-1).channel_id, '__directMessages__')
  t.ok(users.length >= 20 && messages >= 200, 'it has enough records for a demonstration')
})

t.test('with the sample import a call without the headers gets the documented 401 reply', async t => {
  const reply = await call(await build(t), { headers: { 'x-user-id': undefined, 'x-auth-token': undefined } })
  t.equal(reply.statusCode, 401)
  t.equal(reply.body, UNAUTHORIZED)
})

t.test('with the sample import the second user gets the documented 403 reply', async t => {
  const reply = await call(await build(t), { headers: secondUser })
  t.equal(reply.statusCode, 403)
  t.equal(reply.body, FORBIDDEN)
})

// Another folder.

t.test('another folder can be served', async t => {
  const app = await build(t, { DATA_DIR: t.testdir(dump()) })
  const reply = await call(app)
  t.equal(reply.body, '{"name":"Slack","users":[],"channels":[],"message_count":0,"success":true}')
})

t.test('an import that is being prepared gets a waiting reply', async t => {
  const status = 'importer_preparing_messages'
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import.json': [operation({ status })] })) })
  const reply = await call(app)
  t.equal(reply.statusCode, 200)
  t.match(reply.json(), { waiting: true, step: status, updated_at: '2026-03-01T08:30:00.000Z', success: true })
})

t.test('an import that has failed gets the error reply', async t => {
  const status = 'importer_import_failed'
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import.json': [operation({ status })] })) })
  const reply = await call(app)
  t.equal(reply.statusCode, 400)
  t.equal(reply.json().errorType, 'error-import-file-format-invalid')
})

t.test('a folder without an import operation gets the error reply', async t => {
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import.json': '' })) })
  const reply = await call(app)
  t.equal(reply.statusCode, 400)
  t.equal(reply.json().errorType, 'error-operation-not-found')
})

t.test('the newest of several operations by its Extended JSON date is served', async t => {
  const older = operation({ ts: { $date: '2025-12-31T00:00:00Z' }, status: 'importer_import_failed' })
  const newer = operation({ ts: { $date: { $numberLong: '1772400000000' } }, importerKey: 'csv' })
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import.json': [older, newer, older] })) })
  t.equal((await call(app)).json().name, 'CSV')
})

t.test('malformed records in a folder do not cause an error reply', async t => {
  const app = await build(t, {
    DATA_DIR: t.testdir(dump({
      'rocketchat_import_data.json': [
        staged('user', null),
        staged('user', { importIds: [] }),
        staged('user', { importIds: ['U1'], username: { $numberLong: '42' } }),
        staged('channel', { importIds: ['C1'], name: null, t: 'p' }),
        staged('unknown', {}),
        {}
      ]
    }))
  })
  const reply = await call(app)
  t.equal(reply.statusCode, 200)
  t.match(reply.json(), { users: [{ user_id: 'U1', username: '42', email: '' }], channels: [{ channel_id: 'C1' }] })
  t.equal(reply.json().users.length, 1)
})

t.test('blank lines, Windows line endings and a last line without a line ending are accepted', async t => {
  const [one, two, three] = ['U1', 'U2', 'U3'].map(id => JSON.stringify(staged('user', { importIds: [id] })))
  const app = await build(t, {
    DATA_DIR: t.testdir(dump({ 'rocketchat_import_data.json': `\n${one}\r\n  \n${two}\n\n${three}` }))
  })
  t.same((await call(app)).json().users.map((user: { user_id: string }) => user.user_id), ['U1', 'U2', 'U3'])
})

t.test('a name may contain U+2028, which is not a line ending', async t => {
  const username = 'one\u2028line'
  const app = await build(t, {
    DATA_DIR: t.testdir(dump({ 'rocketchat_import_data.json': [staged('user', { importIds: ['U1'], username })] }))
  })
  t.equal((await call(app)).json().users[0].username, username)
})

t.test('lines that are longer than one read of the file are read completely', async t => {
  const username = 'é'.repeat(100_000)
  const app = await build(t, {
    DATA_DIR: t.testdir(dump({
      'rocketchat_import_data.json': ['U1', 'U2'].map(id => staged('user', { importIds: [id], username }))
    }))
  })
  t.same((await call(app)).json().users.map((user: { username: string }) => user.username), [username, username])
})

// Folders that cannot be served.

t.test('the error for a missing folder names it and the files that it must contain', async t => {
  const dataDir = join(t.testdir(), 'nowhere')
  t.equal(await problemOf(dataDir), `${dataDir} is not a folder: set DATA_DIR to one with rocketchat_import.json, ` +
    'rocketchat_import_data.json, users.json and rocketchat_permissions.json, as mongoexport writes them.')
})

t.test('the error for a file in place of the folder names it', async t => {
  const dataDir = join(t.testdir({ file: '' }), 'file')
  t.match(await problemOf(dataDir), `${dataDir} is not a folder: `)
})

t.test('the error for each missing file names it and the command that writes it', async t => {
  for (const file of Object.keys(dump())) {
    const { [file]: _missing, ...others } = dump()
    const dataDir = t.testdir(others)
    const collection = file.replace('.json', '')
    t.equal(await problemOf(dataDir), `${join(dataDir, file)} cannot be read (Error: ENOENT: no such file or directory): write it ` +
      `with mongoexport --db=rocketchat --collection=${collection} --out=${file}, and set DATA_DIR to its folder.`)
  }
})

t.test('the error for a folder in place of a file names it', async t => {
  const dataDir = t.testdir({ ...dump(), 'users.json': {} })
  t.match(await problemOf(dataDir), `${join(dataDir, 'users.json')} cannot be read (Error: EISDIR: `)
})

t.test('the error for a line that is not JSON names the file and the line number', async t => {
  const dataDir = t.testdir(dump({ 'users.json': '{"_id":"1"}\n\n{"_id":x}\n' }))
  t.match(await problemOf(dataDir), `${join(dataDir, 'users.json')}, line 3: not Extended JSON (document 2, `)
})

t.test('the error for a line that is JSON, but not Extended JSON, names it', async t => {
  const dataDir = t.testdir(dump({ 'rocketchat_import.json': '{"_id":{"$oid":"short"}}' }))
  t.match(await problemOf(dataDir), `${join(dataDir, 'rocketchat_import.json')}, line 1: not Extended JSON (`)
})

t.test('the error for a value that is not a document names it and the command that writes documents', async t => {
  for (const line of ['[{"_id":"1"}]', 'null', '3', '"text"', '{"$oid":"507f1f77bcf86cd799439011"}', '{"$date":"2026-01-01T00:00:00Z"}']) {
    const dataDir = t.testdir(dump({ 'rocketchat_permissions.json': `{"_id":"run-import"}\n${line}\n` }))
    t.equal(await problemOf(dataDir), `${join(dataDir, 'rocketchat_permissions.json')}, line 2: not a JSON object (document 2). ` +
      'Write it with mongoexport --db=rocketchat --collection=rocketchat_permissions --out=rocketchat_permissions.json.')
  }
})

// Formats of mongoexport and Compass.

const oneALine = dump({
  'rocketchat_import_data.json': [
    staged('user', { importIds: ['U1'], username: 'zoë\u2028', emails: ['zoe@example.com'], name: 'Zoë' }), staged('message', { msg: 'Hello' })
  ]
})

/** The documents of a file, each as text. */
const linesOf = (text: string) => text.split('\n').filter(line => line !== '')

const forms: Record<string, (text: string) => string | Buffer> = {
  'as one document per line': text => text,
  'without a last line ending': text => text.trimEnd(),
  'with CRLF': text => text.replaceAll('\n', '\r\n'),
  'with a UTF-8 BOM': text => `\ufeff${text}`,
  'as --jsonArray': text => `[${linesOf(text).join(',')}]\n`,
  'as --jsonArray with a BOM and line endings': text => `\ufeff\r\n[\r\n${linesOf(text).join(',\r\n')}\r\n]\r\n`,
  'as --pretty': text => linesOf(text).map(line => JSON.stringify(JSON.parse(line), undefined, '\t')).join('\n'),
  'as --jsonArray --pretty': text => JSON.stringify(linesOf(text).map(line => JSON.parse(line)), undefined, 2),
  'as Compass writes it': text => JSON.stringify(linesOf(text).map(line => JSON.parse(line)), undefined, 2).replace(/^\[\n/, '[')
}

for (const [name, write] of Object.entries(forms)) {
  for (const isCompressed of [false, true]) {
    t.test(`DATA_DIR is read ${name}${isCompressed ? ', compressed by gzip' : ''}`, async t => {
      const files = Object.entries(oneALine).map(([file, text]) =>
        isCompressed ? [`${file}.gz`, gzipSync(write(text))] : [file, write(text)])
      const { users, message_count: messages } = (await call(await build(t, { DATA_DIR: t.testdir(Object.fromEntries(files)) }))).json()
      t.strictSame(users.map((user: UserItem) => [user.user_id, user.username]), [['U1', 'zoë\u2028']])
      t.equal(messages, 1)
    })
  }
}

t.test('of the files of a collection, JSON is preferred to gzip, and both to BSON', async t => {
  const { 'users.json': users = '', ...others } = dump()
  for (const files of [{ 'users.json': users, 'users.json.gz': 'not read' }, { 'users.json.gz': gzipSync(users), 'users.bson': 'not read' }]) {
    t.equal((await call(await build(t, { DATA_DIR: t.testdir({ ...others, ...files }) }))).statusCode, 200)
  }
})

t.test('the files may have the name of the database in front, as MongoDB Compass writes it', async t => {
  const files = Object.entries(dump()).map(([name, text]) => [`rocketchat.${name}`, text])
  t.equal((await call(await build(t, { DATA_DIR: t.testdir(Object.fromEntries(files)) }))).statusCode, 200)
  const exact = dump({ 'rocketchat_import_data.json': [staged('user', { importIds: ['U1'] })] })
  const both = await build(t, { DATA_DIR: t.testdir({ ...Object.fromEntries(files), ...exact }) })
  t.equal((await call(both)).json().users.length, 1, 'a file without it is preferred')
})

t.test('integers beyond 2^53 keep their digits in every notation', async t => {
  const ids = ['9007199254740993', '-9223372036854775808', '9223372036854775807', '18446744073709551616', '7', '1.5']
  const written = [
    '9007199254740993', '{"$numberLong":"-9223372036854775808"}', '9223372036854775807', '18446744073709551616', '{"$numberInt":"7"}',
    '{"$numberDouble":"1.5"}'
  ]
  const users = written.map(number =>
    `{"dataType":"user","data":{"importIds":[${number}],"username":${number},"emails":[${number}]}}`)
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import_data.json': users.join('\n') })) })
  t.strictSame((await call(app)).json().users.map((user: UserItem) => [user.user_id, user.username, user.email]), ids.map(id => [id, id, id]))
})

t.test('a file in another format is rejected with a one-line message that names the format and the solution', async t => {
  const text = oneALine['users.json'] ?? ''
  const bson = BSON.serialize({ _id: 'ada' })
  const utf16 = Buffer.from(text, 'utf16le')
  const rows: Array<[files: Record<string, string | Buffer>, problem: RegExp]> = [
    [{ 'users.json': Buffer.concat([Buffer.from([0xff, 0xfe]), utf16]) }, /users\.json is in UTF-16, .*mongoexport --db=rocketchat --collection=users/],
    [{ 'users.json': utf16 }, /users\.json is in UTF-16/],
    [{ 'users.json': Buffer.from(utf16).swap16() }, /users\.json is in UTF-16/],
    [{ 'users.json': Buffer.from(bson) }, /users\.json is BSON, as mongodump writes it: .*bsondump/],
    [{ 'users.bson': Buffer.from(bson) }, /users\.bson is BSON/],
    [{ 'users.bson.gz': gzipSync(bson) }, /users\.bson\.gz is BSON/],
    [{ 'users.json': Buffer.from('{"_id":"zo\u00eb"}\n', 'latin1') }, /users\.json is not in UTF-8: write it with mongoexport --db=rocketchat --collection=users/],
    [{ 'users.json': Buffer.from(`${' '.repeat(100_000)}{"_id":"zo\u00eb is read"}`, 'latin1') }, /users\.json is not in UTF-8/],
    [{ 'users.json': gzipSync(text) }, /users\.json is compressed by gzip: name it users\.json\.gz/],
    [{ 'users.json': text.slice(0, -20) }, /users\.json, line 1: the file ends here, but the document does not: it is cut off/],
    [{ 'users.json': '3' }, /users\.json, line 1: not a JSON object \(document 1\)/],
    [{ 'users.json': `[${text.trim()}` }, /users\.json, line \d: the file ends here, but the document does not/],
    [{ 'users.json.gz': gzipSync(text).subarray(0, -12) }, /users\.json\.gz is cut off/],
    [{ 'users.json.gz': text }, /users\.json\.gz cannot be read \(/]
  ]
  for (const [files, problem] of rows) {
    const { 'users.json': _left, ...others } = oneALine
    const message = await problemOf(t.testdir({ ...others, ...files }))
    t.match(message, problem)
    t.notMatch(message, '\n')
  }
})

t.test('a file with a single long line is read in linear time', async t => {
  const users = Array.from({ length: 40_000 }, (_, number) => staged('user', { importIds: [`U${number}`], bio: 'x'.repeat(100) }))
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import_data.json': JSON.stringify(users) })) })
  t.equal((await call(app)).json().users.length, 40_000)
})

t.test('the error for a line is a one-line message, whatever the line contains', async t => {
  const dataDir = t.testdir(dump({ 'users.json': '\u001b[2J\r\u2028x' }))
  t.match(await problemOf(dataDir), /^[^\p{Cc}\p{Zl}\p{Zp}]+$/u)
})

// The environment.

t.test('by default the sample import is served on port 3000 of 127.0.0.1', async t => {
  t.match(readSettings({}), {
    host: '127.0.0.1', port: 3000, dataDir: SAMPLE_IMPORT, mongodbUrl: undefined, rateLimit: 120, trustProxy: false, logLevel: 'info'
  })
})

t.test('an empty variable counts as not set', async t => {
  t.same(readSettings({ HOST: '', PORT: '', DATA_DIR: '', RATE_LIMIT: '', TRUST_PROXY: '', MONGODB_URL: '', ROCKETCHAT_URL: '', LOG_LEVEL: '', METRICS_PORT: '' }), readSettings({}))
})

t.test('DATA_DIR is relative to the working directory', async t => {
  t.equal(readSettings({ DATA_DIR: 'data' }).dataDir, join(process.cwd(), 'data'))
})

t.test('an invalid PORT is reported with a one-line message', async t => {
  for (const port of ['65536', '-1', '3000.5', '3e3', '0x10', 'http', ' 3000']) {
    t.equal(problemIn({ PORT: port }), `PORT is "${port}": set it to a whole number from 0 to 65535.`)
  }
})

t.test('an invalid RATE_LIMIT is reported with a one-line message', async t => {
  for (const limit of ['-1', '1.5', 'none', '1000001']) {
    t.equal(problemIn({ RATE_LIMIT: limit }),
      `RATE_LIMIT is "${limit}": set it to a whole number from 0 to 1000000 (calls per minute and address; 0 for no limit).`)
  }
})

t.test('an invalid LOG_LEVEL is reported with a one-line message', async t => {
  t.equal(problemIn({ LOG_LEVEL: 'loud' }),
    'LOG_LEVEL is "loud": set it to one of trace, debug, info, warn, error, fatal, silent.')
})

// The rate limit.

t.test('calls beyond RATE_LIMIT get a 429 reply in the error format, with the seconds to wait and the time when the limit is reset', async t => {
  const now = Date.UTC(2026, 0, 1)
  t.intercept(Date, 'now', { value: () => now })
  const app = await build(t, { RATE_LIMIT: '2' })
  const first = await call(app)
  t.equal(first.statusCode, 200)
  t.match(first.headers, { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '1', 'x-ratelimit-reset': String(now + 60_000) })
  t.equal((await call(app)).statusCode, 200)
  const reply = await call(app)
  const seconds = reply.headers['retry-after']
  t.equal(reply.statusCode, 429)
  t.match(seconds, /^[1-9]\d?$/)
  t.match(reply.headers, { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(now + Number(seconds) * 1000) })
  t.equal(reply.body, `{"success":false,"error":"Error, too many requests. Please slow down. You must wait ${seconds} seconds ` +
    'before trying this endpoint again. [error-too-many-requests]","errorType":"error-too-many-requests"}')
})

t.test('RATE_LIMIT=0 disables the limit', async t => {
  const app = await build(t, { RATE_LIMIT: '0' })
  const replies = await Promise.all(Array.from({ length: 150 }, () => call(app)))
  t.ok(replies.every(reply => reply.statusCode === 200))
  t.notOk(replies.some(reply => Object.keys(reply.headers).some(name => name.startsWith('x-ratelimit'))))
})

t.test('S10: guesses of a token are limited, because the limit runs before the look-up', async t => {
  const app = await build(t, { RATE_LIMIT: '2' })
  const guess = async () => (await call(app, { headers: { 'x-auth-token': 'guess' } })).statusCode
  t.same([await guess(), await guess(), await guess()], [401, 401, 429])
})

t.test('other routes are not limited, because the page has a dozen files', async t => {
  const app = await build(t, { RATE_LIMIT: '1' })
  for (const url of ['/', '/page.js', '/style.css', '/docs/json']) t.equal((await app.inject(url)).statusCode, 200, url)
})

t.test('behind a trusted proxy the limit applies to the address that the proxy sends', async t => {
  const app = await build(t, { RATE_LIMIT: '1', TRUST_PROXY: 'true' })
  const from = async (address: string) => (await call(app, { headers: { 'x-forwarded-for': address } })).statusCode
  t.strictSame([await from('192.0.2.1'), await from('192.0.2.1'), await from('192.0.2.2')], [200, 429, 200])
})

/** The statuses of successive calls from an address with these `X-Forwarded-For`. */
async function statusesOf (app: FastifyInstance, remoteAddress: string, forwarded: string[]): Promise<number[]> {
  const statuses: number[] = []
  for (const value of forwarded) {
    statuses.push((await call(app, { remoteAddress, headers: { 'x-forwarded-for': value } })).statusCode)
  }
  return statuses
}

/** What a proxy forwards for three calls of a caller that forges a different address each time. */
const appended = ['198.51.100.1, 203.0.113.9', '198.51.100.2, 203.0.113.9', 'forged,, 198.51.100.3, 203.0.113.9']

for (const [value, proxy] of [
  ['loopback', '127.0.0.1'],
  ['loopback', '::1'],
  ['10.0.0.2', '10.0.0.2'],
  ['10.0.0.2', '::ffff:10.0.0.2'],
  ['192.0.2.1, 10.0.0.0/24', '10.0.0.2'],
  ['linklocal,uniquelocal', '172.18.0.5'],
  ['2001:db8::/32', '2001:db8::1']
] as const) {
  t.test(`with TRUST_PROXY=${value} no forged address bypasses the limit behind a proxy at ${proxy}`, async t => {
    const app = await build(t, { RATE_LIMIT: '2', TRUST_PROXY: value })
    t.strictSame(await statusesOf(app, proxy, appended), [200, 200, 429], 'the proxy appends the address')
    t.strictSame(await statusesOf(app, proxy, ['203.0.113.7', '203.0.113.7', '203.0.113.7']), [200, 200, 429], 'the proxy sets the address')
    const direct = await statusesOf(app, '203.0.113.8', ['198.51.100.1', '198.51.100.2', '198.51.100.3'])
    t.strictSame(direct, [200, 200, 429], 'the caller bypasses the proxy')
  })
}

t.test('with two trusted proxies the limit applies to the address that the outer one sees', async t => {
  const app = await build(t, { RATE_LIMIT: '2', TRUST_PROXY: '127.0.0.1, 10.0.0.2' })
  const through = appended.map(value => `${value}, 10.0.0.2`)
  t.strictSame(await statusesOf(app, '127.0.0.1', through), [200, 200, 429])
})

t.test('with TRUST_PROXY=false, X-Forwarded-For is ignored', async t => {
  const app = await build(t, { RATE_LIMIT: '2' })
  t.strictSame(await statusesOf(app, '127.0.0.1', ['198.51.100.1', '198.51.100.2', '198.51.100.3']), [200, 200, 429])
})

t.test('TRUST_PROXY=true, which lets callers forge their address, logs a warning', async t => {
  const [trusting, careful] = [captureOutput(), captureOutput()]
  await build(t, { TRUST_PROXY: 'true' }, trusting)
  await build(t, { TRUST_PROXY: 'loopback' }, careful)
  t.match(trusting.written(), /"level":40.*TRUST_PROXY is true: callers can forge their address and bypass the rate limit/)
  t.notMatch(careful.written(), 'TRUST_PROXY')
})

t.test('the same METRICS_PORT as PORT is reported with a one-line message', async t => {
  const problem = 'METRICS_PORT is 3000, and so is PORT: set METRICS_PORT to another port, or to 0 for any free port.'
  t.equal(problemIn({ PORT: '3000', METRICS_PORT: '3000' }), problem)
  t.equal(problemIn({ METRICS_PORT: '03000' }), problem, '3000 is the default of PORT')
})

t.test('PORT and METRICS_PORT may both be 0, which means different free ports', async t => {
  t.match(readSettings({ PORT: '0', METRICS_PORT: '0' }), { port: 0, metricsPort: 0 })
})

t.test('an invalid TRUST_PROXY is reported with a one-line message', async t => {
  for (const value of ['yes', 'nginx', 'loopback,', '10.0.0.1 10.0.0.2', '10.1', '10.0.0.0/33', '10.0.0.0/0', '10.0.0.0/x', '::1/129', 'True']) {
    t.equal(problemIn({ TRUST_PROXY: value }), `TRUST_PROXY is "${value}": set it to the addresses of your reverse proxies, ` +
      'separated by commas: IP addresses, CIDR ranges, or the names loopback, linklocal and uniquelocal.')
  }
})

t.test('a number of hops as TRUST_PROXY, with which Fastify would trust nobody, is reported with a one-line message', async t => {
  for (const value of ['0', '1', '2']) {
    t.match(problemIn({ TRUST_PROXY: value }), new RegExp(`^TRUST_PROXY is "${value}": a number of hops is not supported, because ` +
      'a caller who connects without the proxy could forge an address\\. Set it to the addresses of your reverse proxies, [^\\n]+$'))
  }
})

// Ignored settings.

t.test('ignored settings log a warning', async t => {
  const dataDir = t.testdir(dump())
  const [besideDatabase, besideDemo, used] = [captureOutput(), captureOutput(), captureOutput()]
  const unreachable = 'mongodb://127.0.0.1:1/rocketchat'
  await build(t, { MONGODB_URL: unreachable, DATA_DIR: dataDir }, besideDatabase)
  await build(t, { MONGODB_URL: unreachable, ROCKETCHAT_URL: 'http://localhost:3001', DATA_DIR: dataDir }, besideDemo, demoImport)
  await build(t, { DATA_DIR: dataDir, ROCKETCHAT_URL: 'http://localhost:3001' }, used)
  t.match(besideDatabase.written(), /"level":40.*DATA_DIR is ignored, because MONGODB_URL is set/)
  t.match(besideDemo.written(), /"level":40.*MONGODB_URL is ignored, because the demo serves a folder/)
  t.match(besideDemo.written(), /"level":40.*ROCKETCHAT_URL is ignored, because the demo has no file to read/)
  t.notMatch(besideDemo.written(), 'DATA_DIR')
  t.notMatch(used.written(), 'ignored')
})

t.test('a folder without users is reported in the log', async t => {
  const dataDir = t.testdir(dump({ 'users.json': '' }))
  const output = captureOutput()
  await build(t, { DATA_DIR: dataDir }, output)
  t.match(output.written(), `"msg":"${dataDir} has no users, so no call is authorized: export the collection users of Rocket.Chat"`)
  const sample = captureOutput()
  await build(t, {}, sample)
  t.notMatch(sample.written(), 'has no users')
})

t.test('the demo serves its import even when MONGODB_URL is set', async t => {
  const app = await build(t, { MONGODB_URL: 'mongodb://127.0.0.1:1/rocketchat' }, captureOutput(), demoImport)
  t.match((await call(app)).json(), { waiting: true, step: 'importer_downloading_file' })
})

t.test('the demo says at the start that it is one', async t => {
  const output = captureOutput()
  const app = await start({ PORT: '0' }, output, captureOutput(), demoImport)
  t.teardown(() => app?.close())
  t.match(output.written(), /Serving a demo, with an import that makes progress again and again, from \S+sample-import\. Try it/)
})

// The sample credentials.

t.test('with the sample import, the server and the demo offer valid sample credentials', async t => {
  for (const serve of [undefined, demoImport]) {
    const app = await build(t, {}, captureOutput(), serve)
    const { statusCode, headers, body } = await app.inject('/sample-credentials.json')
    t.equal(statusCode, 200)
    t.match(headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
    t.equal(body, JSON.stringify({ userId: caller['x-user-id'], authToken: caller['x-auth-token'] }))
    const { userId, authToken } = JSON.parse(body)
    t.equal((await call(app, { headers: { 'x-user-id': userId, 'x-auth-token': authToken } })).statusCode, 200)
    t.notMatch((await app.inject('/docs/json')).body, 'sample-credentials', 'they are not part of the API')
  }
})

t.test('with other imports there are no sample credentials', async t => {
  const dataDir = t.testdir(dump())
  const others = [
    await build(t, { DATA_DIR: dataDir }),
    await build(t, { DATA_DIR: dataDir }, captureOutput(), demoImport),
    await build(t, { MONGODB_URL: 'mongodb://127.0.0.1:1/rocketchat' })
  ]
  for (const app of others) {
    const reply = await app.inject('/sample-credentials.json')
    t.equal(reply.statusCode, 404)
    t.equal(reply.body, (await app.inject('/nowhere')).body)
  }
})

// Replies of other routes.

t.test('errors of other routes are in the error format, with the message of client errors only', async t => {
  const app = await build(t)
  app.get('/broken', () => { throw new Error('mongodb://user:pw@host') })
  app.get('/gone', () => { throw Object.assign(new Error('It has moved'), { statusCode: 410 }) })
  const answers = await Promise.all(['/broken', '/gone'].map(async url => (await app.inject(url)).body))
  t.strictSame(answers, [
    '{"success":false,"error":"Internal Server Error [error-internal-server-error]","errorType":"error-internal-server-error"}',
    '{"success":false,"error":"It has moved [error-gone]","errorType":"error-gone"}'
  ])
})

t.test('a 404 reply names the route', async t => {
  const app = await build(t)
  const replies = await Promise.all([app.inject('/api/v1'), app.inject({ method: 'POST', url: '/api/v1/startImport', payload: {} })])
  for (const { statusCode, headers, body } of replies) {
    t.equal(statusCode, 404)
    t.match(headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
    t.equal(body, '{"success":false,"error":"Route not found: this server has GET /api/v1/getImportFileData. [error-not-found]",' +
      '"errorType":"error-not-found"}')
  }
})

t.test('a URL that cannot be decoded gets a 400 reply in the error format', async t => {
  const reply = await (await build(t)).inject('/%')
  t.equal(reply.statusCode, 400)
  t.same(reply.json(), {
    success: false, error: "'/%' is not a valid url component [FST_ERR_BAD_URL]", errorType: 'FST_ERR_BAD_URL'
  })
})

t.test('an error of a route that is added later is logged, and not sent to the caller', async t => {
  const output = captureOutput()
  const app = await build(t, {}, output)
  app.get('/later', async () => { throw new Error('a secret') })
  const reply = await app.inject('/later')
  t.equal(reply.statusCode, 500)
  t.equal(reply.body, '{"success":false,"error":"Internal Server Error [error-internal-server-error]",' +
    '"errorType":"error-internal-server-error"}')
  t.match(output.written(), 'a secret')
})

t.test('headers that are too large get a 431 reply in the error format', async t => {
  const app = await build(t)
  const [reply] = await sendText(app, requestText([...callerLines, `X-Large: ${'x'.repeat(20_000)}`]))
  t.equal(reply?.status, 431)
  t.match(reply?.headers.get('content-type'), /^application\/json/)
  t.equal(reply?.body, '{"success":false,"error":"The headers of the request are too large. ' +
    '[error-request-header-fields-too-large]","errorType":"error-request-header-fields-too-large"}')
})

t.test('invalid HTTP gets a 400 reply in the error format', async t => {
  const [reply] = await sendText(await build(t), 'hello\r\n\r\n')
  t.equal(reply?.status, 400)
  t.match(Object.fromEntries(reply?.headers ?? []), { connection: 'close', 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
  t.equal(reply?.body, '{"success":false,"error":"The request is not valid HTTP. [error-bad-request]","errorType":"error-bad-request"}')
})

t.test('Node.js itself replies to a request without Host, with an unknown Expect, or with CONNECT, and nothing is logged', async t => {
  const output = captureOutput()
  const app = await build(t, {}, output)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const before = output.written()
  for (const [lines, status] of [
    [['GET / HTTP/1.1', 'Connection: close'], 400],
    [['GET / HTTP/1.1', 'Host: localhost', 'Expect: more', 'Connection: close'], 417]
  ] as const) {
    const [reply] = await sendText(app, [...lines, '', ''].join('\r\n'))
    t.equal(reply?.status, status)
    t.match(reply?.body, /^(0\r\n\r\n)?$/, 'it is empty, perhaps in chunks')
  }
  t.strictSame(await sendText(app, 'CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n'), [])
  t.equal(output.written(), before)
})

t.test('an invalid request after a valid one on the same connection gets its own reply', async t => {
  const app = await build(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const socket = connectTo(app.server)
  socket.write(requestText(callerLines, { start: 'GET /a HTTP/1.1' }))
  const [first] = await once(socket, 'data')
  socket.write('hello\r\n\r\n')
  t.match(String(first), /^HTTP\/1\.1 404 /)
  t.match(await text(socket), /^HTTP\/1\.1 400 /)
})

t.test('an error reply to the next request is not mixed into a reply in progress', async t => {
  const app = await build(t)
  app.get('/begun', (_request, reply) => {
    const body = new PassThrough()
    body.write('begun')
    reply.send(body)
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const socket = connectTo(app.server)
  socket.write(requestText([], { start: 'GET /begun HTTP/1.1' }))
  await once(socket, 'data')
  socket.write('hello\r\n\r\n')
  t.notMatch(await text(socket), 'HTTP/1.1 400')
})

t.test('a request that takes too long to arrive gets a 408 reply in the error format', async t => {
  const app = await build(t)
  const server = await tcpServer(t, socket => answerClientError.call(app, { code: 'ERR_HTTP_REQUEST_TIMEOUT' }, socket))
  const reply = await text(connectTo(server))
  t.match(reply, /^HTTP\/1\.1 408 Request Timeout\r\n/)
  t.match(reply, '"error":"The request took too long to arrive. [error-request-timeout]"')
})

// The log.

t.test('without a terminal the log is JSON, one object per line', async t => {
  const output = captureOutput()
  await call(await build(t, {}, output))
  const records = output.written().trim().split('\n').map(line => JSON.parse(line))
  t.match(records.at(-1), { level: 30, msg: 'request completed', res: { statusCode: 200 } })
})

t.test('in a terminal the log is readable text', async t => {
  const output = captureOutput({ isTTY: true })
  await call(await build(t, {}, output))
  t.match(output.written(), /\d\d:\d\d:\d\d.* INFO.* req-1 incoming request GET \/api\/v1\/getImportFileData from 127\.0\.0\.1/)
  t.match(output.written(), /req-1 request completed 200/)
})

t.test('a URL that cannot be decoded is logged with its reply, like any other', async t => {
  const output = captureOutput()
  const app = await build(t, {}, output)
  await app.inject('/nowhere')
  await app.inject('/%zz')
  const records = output.written().trim().split('\n').map(line => JSON.parse(line)).filter(({ reqId }) => reqId !== undefined)
  t.match(records, [
    { reqId: 'req-1', msg: 'incoming request', req: { url: '/nowhere' } },
    { reqId: 'req-1', msg: 'request completed', res: { statusCode: 404 }, responseTime: Number },
    { reqId: 'req-2', msg: 'incoming request', req: { url: '/%zz' } },
    { reqId: 'req-2', msg: 'request completed', res: { statusCode: 400 }, responseTime: Number }
  ])
  t.equal(records.length, 4)
})

t.test('a request that cannot be parsed is logged with the caller\'s address and the reason', async t => {
  const output = captureOutput()
  const app = await build(t, {}, output)
  await sendText(app, 'hello\r\n\r\n')
  await sendText(app, requestText([...callerLines, `X-Large: ${'x'.repeat(20_000)}`]))
  const records = output.written().trim().split('\n').map(line => JSON.parse(line)).filter(({ code }) => code !== undefined)
  matchEach(t, records, [
    { level: 30, remoteAddress: '127.0.0.1', code: 'HPE_INVALID_METHOD', msg: 'The request is not valid HTTP. [error-bad-request]' },
    { level: 30, remoteAddress: '127.0.0.1', code: 'HPE_HEADER_OVERFLOW', msg: /^The headers of the request are too large\./ }
  ])
})

t.test('a connection that the client resets is not logged as a request that cannot be parsed', async t => {
  const output = captureOutput()
  const app = await build(t, {}, output)
  const server = await tcpServer(t, socket => answerClientError.call(app, { code: 'ECONNRESET' }, socket))
  t.equal(await text(connectTo(server)), '')
  t.equal(output.written(), '')
})

t.test('the log does not contain the token, even if request headers are logged', async t => {
  const output = captureOutput()
  const app = await build(t, { LOG_LEVEL: 'trace' }, output)
  app.addHook('onRequest', async ({ log, headers }) => {
    log.info({ headers }, 'the headers')
    log.info({ call: { headers } }, 'the headers again')
  })
  await call(app)
  await sendText(app, requestText([...callerLines, `X-Large: ${'x'.repeat(20_000)}`]))
  await sendText(app, requestText([...callerLines, 'not a header']))
  t.match(output.written(), '[Redacted]')
  t.notMatch(output.written(), caller['x-auth-token'])
})

// Start and end.

t.test('in a terminal the start prints how to call the sample import', async t => {
  const { written } = await startHere(t, {}, captureOutput({ isTTY: true }))
  const [command, url = ''] = written.match(/curl -H 'X-User-Id: d26x6zSkaPSe5gCyy' \\\n.*\\\n\s+'(http:\S+)'\n/) ?? []
  t.match(command, `-H 'X-Auth-Token: ${caller['x-auth-token']}'`)
  t.equal((await fetch(url, { headers: caller })).status, 200)
})

t.test('without a terminal the start logs how to call the server', async t => {
  const { written } = await startHere(t, {})
  const messages = written.trim().split('\n').map(line => JSON.parse(line).msg)
  t.match(messages.at(-1), `curl -H 'X-User-Id: ${caller['x-user-id']}' -H 'X-Auth-Token: ${caller['x-auth-token']}' 'http://127.0.0.1:`)
})

t.test('with another folder the start prints placeholders for the credentials', async t => {
  const { written } = await startHere(t, { DATA_DIR: t.testdir(dump()) }, captureOutput({ isTTY: true }))
  t.match(written, /curl -H 'X-User-Id: <user id>' \\\n\s+-H 'X-Auth-Token: <token>' \\\n\s+'http:/)
  t.notMatch(written, caller['x-auth-token'])
})

t.test('a port that is in use is reported with a one-line message', async t => {
  const port = await usedPort(t)
  const { app, errors, exitCode } = await startHere(t, { PORT: port })
  t.equal(app, undefined)
  t.equal(exitCode, 1)
  t.equal(errors, `Port ${port} on 127.0.0.1 is already in use: set PORT to another port, or to 0 for any free port.\n`)
})

t.test('a HOST that is not an address of this machine is reported with a one-line message', async t => {
  const { errors, exitCode } = await startHere(t, { HOST: '192.0.2.1' })
  t.equal(exitCode, 1)
  t.equal(errors, 'HOST is "192.0.2.1", which is not an address of this machine (EADDRNOTAVAIL): ' +
    'set it to 127.0.0.1 to accept connections from this machine only, or to 0.0.0.0 to accept them from other machines.\n')
})

t.test('a port that this user may not use is reported with a one-line message', async t => {
  const failure = Object.assign(new Error('permission denied'), { code: 'EACCES', syscall: 'listen' })
  t.strictSame(listenFailure(failure, { host: '127.0.0.1', port: 80 }),
    new StartupError('This user may not listen on port 80 of 127.0.0.1: set PORT to 1024 or higher.'))
  t.strictSame(listenFailure(failure, { host: '127.0.0.1', port: 81 }, 'METRICS_PORT'),
    new StartupError('This user may not listen on port 81 of 127.0.0.1: set METRICS_PORT to 1024 or higher.'))
})

t.test('a failure to start that the settings do not cause is rethrown', async t => {
  const failure = new Error('of another kind')
  t.equal(listenFailure(failure, { host: '127.0.0.1', port: 80 }), failure)
  const env = Object.defineProperty({}, 'HOST', { get () { throw failure } })
  await t.rejects(start(env, captureOutput(), captureOutput()), failure)
})

t.test('--help and -h print all settings with their defaults, and do not start a server', async t => {
  for (const arg of ['--help', '-h']) {
    const { app, written, errors, exitCode } = await startHere(t, { PORT: 'none' }, captureOutput(), [arg])
    t.equal(app, undefined)
    t.equal(errors, '')
    t.equal(exitCode, undefined)
    t.match(written, /^Serves Rocket\.Chat's GET \/api\/v1\/getImportFileData\.\n/)
    for (const [name, initial] of [
      ['HOST', '127.0.0.1'], ['PORT', '3000'], ['MONGODB_URL', 'not set'], ['DATA_DIR', 'examples/sample-import'],
      ['ROCKETCHAT_URL', 'not set'], ['RATE_LIMIT', '120'], ['TRUST_PROXY', 'false'], ['LOG_LEVEL', 'info'], ['METRICS_PORT', 'not set']
    ]) t.match(written, new RegExp(`^  ${name} .+ \\(default: ${initial}\\)$`, 'm'))
  }
})

t.test('the usage names the commands of a clone and of the compiled server, and those of the demo and of the server in front of Rocket.Chat', async t => {
  const { written } = await startHere(t, {}, captureOutput(), ['--help'])
  for (const command of [
    'npm start', 'npm start -- --help', 'npm run demo', 'node --import tsx examples/in-front.ts', 'node examples/server.js', 'node examples/server.js --help'
  ]) {
    t.match(written, new RegExp(`^(Usage:| {6}) ${command} {2,}(start|print) `, 'm'))
  }
})

t.test('an unknown argument is reported with a one-line message', async t => {
  for (const args of [['--port=8080'], ['-x'], ['start'], ['--help', 'more'], ['--']]) {
    const { app, written, errors, exitCode } = await startHere(t, {}, captureOutput(), args)
    t.equal(app, undefined)
    t.equal(exitCode, 1)
    t.equal(written, '')
    t.equal(errors, `Unknown argument "${args.at(-1)}": the settings are environment variables, --help lists them.\n`)
  }
})

t.test('a closed server leaves no listeners on the process', async t => {
  const before = process.listenerCount('SIGTERM')
  const { app } = await startHere(t, {})
  t.equal(process.listenerCount('SIGTERM'), before + 1)
  await app?.close()
  t.equal(process.listenerCount('SIGTERM'), before)
})

t.test('closing is logged with its reason', async t => {
  const output = captureOutput()
  const app = await build(t, {}, output)
  await closer(app)({ signal: 'SIGINT' })
  await closer(app)({ err: new Error('that nobody caught') })
  const [first, second] = output.written().trim().split('\n').slice(-2).map(line => JSON.parse(line))
  t.match(first, { level: 30, msg: 'Closing because of SIGINT' })
  t.match(second, { level: 60, err: { message: 'that nobody caught' } })
})

t.test('importing the example does not start a server', async t => {
  const exitCode = process.exitCode
  // It would fail to start with these.
  await startIfRun(undefined, { PORT: 'none' })
  await startIfRun(join(t.testdir(), 'nowhere.ts'), { PORT: 'none' })
  await startIfRun(fileURLToPath(import.meta.url), { PORT: 'none' })
  t.equal(process.exitCode, exitCode)
})

t.test('running the example starts a server', async t => {
  const stderr = t.capture(process.stderr, 'write')
  await startIfRun(script, { PORT: 'none' })
  t.equal(process.exitCode, 1)
  process.exitCode = undefined
  matchEach(t, stderr().map(({ args }) => args[0]), [/^PORT is "none": /])
})

// As a separate process.

t.test('the process prints how to call it and serves, from any working directory', async t => {
  const { url } = await run(t, {}, { cwd: t.testdir() }).announcement()
  const reply = await fetch(url, { headers: caller })
  t.equal(reply.status, 200)
  t.match(await reply.json(), { name: 'Slack', success: true })
})

t.test('the process prints its usage with --help, and exits with code 0', async t => {
  const { stdout, end } = run(t, {}, { args: ['--help'] })
  t.match(await text(stdout), /^Serves .*\n\nUsage: npm start/)
  t.strictSame(await end, { code: 0, errors: '' })
})

t.test('the process exits with code 1 for an unknown argument', async t => {
  const { code, errors } = await run(t, {}, { args: ['--port'] }).end
  t.equal(code, 1)
  t.match(errors, /^Unknown argument "--port": [^\n]+\n$/)
})

t.test('the process starts with a path that contains a symbolic link', async t => {
  const path = join(t.testdir({ link: t.fixture('symlink', dirname(script)) }), 'link', 'server.ts')
  const { url } = await run(t, {}, { path }).announcement()
  t.equal((await fetch(url)).status, 401)
})

t.test('the process exits with code 1 and one line for an invalid PORT', async t => {
  const { code, errors } = await run(t, { PORT: 'none' }).end
  t.equal(code, 1)
  t.equal(errors, 'PORT is "none": set it to a whole number from 0 to 65535.\n')
})

t.test('the process exits with code 1 and one line for a port that is in use', async t => {
  const port = await usedPort(t)
  const { code, errors } = await run(t, { PORT: port }).end
  t.equal(code, 1)
  t.match(errors, /^Port \d+ on 127\.0\.0\.1 is already in use: [^\n]+\n$/)
})

t.test('the process exits with code 1 and one line for a folder with a malformed file', async t => {
  const dataDir = t.testdir(dump({ 'users.json': '{}\nbroken\n' }))
  const { code, errors } = await run(t, { DATA_DIR: dataDir }).end
  t.equal(code, 1)
  t.match(errors, `${join(dataDir, 'users.json')}, line 2: not Extended JSON (`)
  t.match(errors, /^[^\n]+\n$/)
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`the process exits with code 0 on ${signal}`, async t => {
    const process = run(t, {})
    await process.announcement()
    t.strictSame(await process.signal(signal), { code: 0, errors: '' })
  })
}

t.test('a second signal ends the process at once, with code 1 and a line of JSON in the log', async t => {
  const { announcement, stdout, signal } = run(t, {})
  const { port } = new URL((await announcement()).url)
  let log = ''
  const closing = new Promise<void>(resolve => stdout.on('data', chunk => {
    log += chunk
    if (log.includes('Closing because of SIGINT')) resolve()
  }))
  // A caller that does not read its replies, so that the server does not close yet.
  const socket = connect(Number(port), '127.0.0.1').on('error', () => {})
  t.teardown(() => socket.destroy())
  socket.write(requestText([], { start: 'GET /docs/static/swagger-ui-bundle.js HTTP/1.1' }).repeat(40))
  await once(socket, 'readable')
  const end = signal('SIGINT')
  await closing
  await signal('SIGINT')
  t.strictSame(await end, { code: 1, errors: '' })
  t.match(log.trim().split('\n').map(line => JSON.parse(line)).at(-1), { level: 50, msg: 'second SIGINT, exiting' })
})
