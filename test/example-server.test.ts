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
import { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { demoImport } from '../examples/demo-import.js'
import { answerClientError } from '../examples/error-replies.js'
import { closer } from '../examples/launch.js'
import { type Serve, buildServer, start, startIfRun } from '../examples/server.js'
import { SAMPLE_IMPORT, readSettings } from '../examples/settings.js'
import { StartupError, listenFailure } from '../examples/startup-error.js'
import { type UserItem } from '../lib/index.js'
import { hashLoginToken } from '../lib/rocketchat/index.js'
import { FORBIDDEN, UNAUTHORIZED, call, caller, callerLines, requestText, sendText } from './fixtures/build.js'

const script = fileURLToPath(new URL('../examples/server.ts', import.meta.url))

/** The sample's user who may not run imports. */
const secondUser = { 'x-user-id': 'kQ7mWZs4hNbT9eRfx', 'x-auth-token': 'Hb2-vXq7LrT0sYw4PzN8cKdJ5mUeG1aFi3oQ6RtZx9E' }

/** Where a server of these tests writes to: a pipe, or what it takes for a terminal; `written()` is what has come. */
function outputOf ({ isTTY = false } = {}) {
  const output = Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY })
  let written = ''
  output.on('data', chunk => { written += chunk })
  return Object.assign(output, { written: () => written })
}

/** A server as the environment says, closed when the test ends. */
async function build (t: Test, env: NodeJS.ProcessEnv = {}, output = outputOf(), serve?: Serve): Promise<FastifyInstance> {
  const app = await buildServer(readSettings(env), output, serve)
  t.teardown(() => app.close())
  return app
}

const hashedToken = hashLoginToken(caller['x-auth-token'])

/** The files of a folder as mongoexport writes it, with the documented user and nothing staged; with what a test wants changed. */
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

/** An operation that is ready, as mongoexport writes it; with what a test wants changed. */
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

/** What keeps a server over this folder from starting. */
async function problemOf (dataDir: string): Promise<string> {
  return buildServer(readSettings({ DATA_DIR: dataDir }), outputOf()).then(
    () => 'none', failure => failure instanceof StartupError ? failure.message : `not a StartupError: ${failure}`)
}

/** What is wrong with an environment. */
function problemIn (env: NodeJS.ProcessEnv): string {
  try {
    readSettings(env)
    return 'none'
  } catch (failure) {
    return failure instanceof StartupError ? failure.message : `not a StartupError: ${failure}`
  }
}

/** The example as a process of its own, ended when the test is. */
function run (t: Test, env: NodeJS.ProcessEnv, { cwd = process.cwd(), path = script, args = [] as string[] } = {}) {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), path, ...args], {
    cwd,
    // Coverage of it, which tap would see to, is of another translation of the same files, and cannot be added up.
    env: { PATH: process.env.PATH, _TAPJS_PROCESSINFO_COVERAGE_: '0', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  t.teardown(() => child.kill('SIGKILL'))
  const end = Promise.all([once(child, 'close'), text(child.stderr)]).then(([[code], errors]) => ({ code, errors }))
  return {
    stdout: child.stdout,
    /** Its exit code, and what it has written to stderr, when it has ended. */
    end,
    /** Ends it by a signal. */
    async signal (name: NodeJS.Signals) {
      child.kill(name)
      return end
    },
    /** What it has written to stdout, up to the curl command, and the URL in that. */
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
      throw new Error(`it has ended: ${(await end).errors}`)
    }
  }
}

/** A server of TCP that listens until the test ends. */
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

/** Starts a server within the test, to be closed when it ends; gives it, and what it has written. */
async function startHere (t: Test, env: NodeJS.ProcessEnv, output = outputOf(), args: string[] = []) {
  const errors = outputOf()
  const app = await start({ PORT: '0', ...env }, output, errors, undefined, args)
  t.teardown(() => app?.close())
  const { exitCode } = process
  process.exitCode = undefined
  return { app, written: output.written(), errors: errors.written(), exitCode }
}

// The sample.

t.test('the sample answers the documented call with everything that it has staged', async t => {
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
  t.ok(users.length >= 20 && messages >= 200, 'it is rich enough to show everything')
})

t.test('the sample refuses a call without the headers by the documented bytes', async t => {
  const reply = await call(await build(t), { headers: { 'x-user-id': undefined, 'x-auth-token': undefined } })
  t.equal(reply.statusCode, 401)
  t.equal(reply.body, UNAUTHORIZED)
})

t.test('the sample refuses its second user by the documented bytes', async t => {
  const reply = await call(await build(t), { headers: secondUser })
  t.equal(reply.statusCode, 403)
  t.equal(reply.body, FORBIDDEN)
})

// A folder of one's own.

t.test('a folder of one\'s own is served', async t => {
  const app = await build(t, { DATA_DIR: t.testdir(dump()) })
  const reply = await call(app)
  t.equal(reply.body, '{"name":"Slack","users":[],"channels":[],"message_count":0,"success":true}')
})

t.test('an import that is being prepared is served as such', async t => {
  const status = 'importer_preparing_messages'
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import.json': [operation({ status })] })) })
  const reply = await call(app)
  t.equal(reply.statusCode, 200)
  t.match(reply.json(), { waiting: true, step: status, updated_at: '2026-03-01T08:30:00.000Z', success: true })
})

t.test('an import that has failed is served as such', async t => {
  const status = 'importer_import_failed'
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import.json': [operation({ status })] })) })
  const reply = await call(app)
  t.equal(reply.statusCode, 400)
  t.equal(reply.json().errorType, 'error-import-file-format-invalid')
})

t.test('a folder without an import operation is served as such', async t => {
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import.json': '' })) })
  const reply = await call(app)
  t.equal(reply.statusCode, 400)
  t.equal(reply.json().errorType, 'error-operation-not-found')
})

t.test('the newest of several operations is served, by their Extended JSON dates', async t => {
  const older = operation({ ts: { $date: '2025-12-31T00:00:00Z' }, status: 'importer_import_failed' })
  const newer = operation({ ts: { $date: { $numberLong: '1772400000000' } }, importerKey: 'csv' })
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import.json': [older, newer, older] })) })
  t.equal((await call(app)).json().name, 'CSV')
})

t.test('ill records of a folder fail no reply', async t => {
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

t.test('blank lines, line ends of Windows and a last line without an end are read', async t => {
  const [one, two, three] = ['U1', 'U2', 'U3'].map(id => JSON.stringify(staged('user', { importIds: [id] })))
  const app = await build(t, {
    DATA_DIR: t.testdir(dump({ 'rocketchat_import_data.json': `\n${one}\r\n  \n${two}\n\n${three}` }))
  })
  t.same((await call(app)).json().users.map((user: { user_id: string }) => user.user_id), ['U1', 'U2', 'U3'])
})

t.test('a name may hold U+2028, which ends no line', async t => {
  const username = 'one\u2028line'
  const app = await build(t, {
    DATA_DIR: t.testdir(dump({ 'rocketchat_import_data.json': [staged('user', { importIds: ['U1'], username })] }))
  })
  t.equal((await call(app)).json().users[0].username, username)
})

t.test('lines that are longer than what one read of the file brings are read whole', async t => {
  const username = 'é'.repeat(100_000)
  const app = await build(t, {
    DATA_DIR: t.testdir(dump({
      'rocketchat_import_data.json': ['U1', 'U2'].map(id => staged('user', { importIds: [id], username }))
    }))
  })
  t.same((await call(app)).json().users.map((user: { username: string }) => user.username), [username, username])
})

// A folder that cannot be served.

t.test('a folder that is not there is named, and so are the files to put into one', async t => {
  const dataDir = join(t.testdir(), 'nowhere')
  t.equal(await problemOf(dataDir), `${dataDir} is not a folder: set DATA_DIR to one with rocketchat_import.json, ` +
    'rocketchat_import_data.json, users.json and rocketchat_permissions.json, as mongoexport writes them.')
})

t.test('a file in place of the folder is named', async t => {
  const dataDir = join(t.testdir({ file: '' }), 'file')
  t.match(await problemOf(dataDir), `${dataDir} is not a folder: `)
})

t.test('each of the four files is named when it is missing, and so is the command that writes it', async t => {
  for (const file of Object.keys(dump())) {
    const { [file]: _missing, ...others } = dump()
    const dataDir = t.testdir(others)
    const collection = file.replace('.json', '')
    t.equal(await problemOf(dataDir), `${join(dataDir, file)} cannot be read (Error: ENOENT: no such file or directory): write it ` +
      `with mongoexport --collection=${collection} --out=${file}, and set DATA_DIR to its folder.`)
  }
})

t.test('a folder in place of a file is named', async t => {
  const dataDir = t.testdir({ ...dump(), 'users.json': {} })
  t.match(await problemOf(dataDir), `${join(dataDir, 'users.json')} cannot be read (Error: EISDIR: `)
})

t.test('a line that is not JSON is named by its file and its number', async t => {
  const dataDir = t.testdir(dump({ 'users.json': '{"_id":"1"}\n\n{"_id":x}\n' }))
  t.match(await problemOf(dataDir), `${join(dataDir, 'users.json')}, line 3: not Extended JSON (document 2, `)
})

t.test('a line that is JSON, but not Extended JSON, is named', async t => {
  const dataDir = t.testdir(dump({ 'rocketchat_import.json': '{"_id":{"$oid":"short"}}' }))
  t.match(await problemOf(dataDir), `${join(dataDir, 'rocketchat_import.json')}, line 1: not Extended JSON (`)
})

t.test('what is not a document is named, with the command that writes documents', async t => {
  for (const line of ['[{"_id":"1"}]', 'null', '3', '"text"', '{"$oid":"507f1f77bcf86cd799439011"}', '{"$date":"2026-01-01T00:00:00Z"}']) {
    const dataDir = t.testdir(dump({ 'rocketchat_permissions.json': `{"_id":"run-import"}\n${line}\n` }))
    t.equal(await problemOf(dataDir), `${join(dataDir, 'rocketchat_permissions.json')}, line 2: not a JSON object (document 2). ` +
      'Write it with mongoexport --collection=rocketchat_permissions --out=rocketchat_permissions.json.')
  }
})

// What mongoexport and Compass write.

const oneALine = dump({
  'rocketchat_import_data.json': [
    staged('user', { importIds: ['U1'], username: 'zoë\u2028', emails: ['zoe@example.com'], name: 'Zoë' }), staged('message', { msg: 'Hello' })
  ]
})

/** The documents of a file, each as text. */
const linesOf = (text: string) => text.split('\n').filter(line => line !== '')

const forms: Record<string, (text: string) => string | Buffer> = {
  'one document a line': text => text,
  'without a line end after the last': text => text.trimEnd(),
  'with CRLF': text => text.replaceAll('\n', '\r\n'),
  'with a UTF-8 BOM': text => `\ufeff${text}`,
  'as --jsonArray': text => `[${linesOf(text).join(',')}]\n`,
  'as --jsonArray with a BOM and line ends': text => `\ufeff\r\n[\r\n${linesOf(text).join(',\r\n')}\r\n]\r\n`,
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

t.test('integers beyond 2^53 keep their digits, however they are written', async t => {
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

t.test('a file in another format is refused in one line that names the format and what to do', async t => {
  const text = oneALine['users.json'] ?? ''
  const bson = BSON.serialize({ _id: 'ada' })
  const utf16 = Buffer.from(text, 'utf16le')
  const rows: Array<[files: Record<string, string | Buffer>, problem: RegExp]> = [
    [{ 'users.json': Buffer.concat([Buffer.from([0xff, 0xfe]), utf16]) }, /users\.json is in UTF-16, .*mongoexport --collection=users/],
    [{ 'users.json': utf16 }, /users\.json is in UTF-16/],
    [{ 'users.json': Buffer.from(utf16).swap16() }, /users\.json is in UTF-16/],
    [{ 'users.json': Buffer.from(bson) }, /users\.json is BSON, as mongodump writes it: .*bsondump/],
    [{ 'users.bson': Buffer.from(bson) }, /users\.bson is BSON/],
    [{ 'users.bson.gz': gzipSync(bson) }, /users\.bson\.gz is BSON/],
    [{ 'users.json': Buffer.from('{"_id":"zo\u00eb"}\n', 'latin1') }, /users\.json is not in UTF-8: write it with mongoexport --collection=users/],
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

t.test('of a file that is one long line, time grows with its length', async t => {
  const users = Array.from({ length: 100_000 }, (_, number) => staged('user', { importIds: [`U${number}`], bio: 'x'.repeat(100) }))
  const app = await build(t, { DATA_DIR: t.testdir(dump({ 'rocketchat_import_data.json': JSON.stringify(users) })) })
  t.equal((await call(app)).json().users.length, 100_000)
})

t.test('what is wrong with a line is told in one line, whatever is in it', async t => {
  const dataDir = t.testdir(dump({ 'users.json': '\u001b[2J\r\u2028x' }))
  t.match(await problemOf(dataDir), /^[^\p{Cc}\p{Zl}\p{Zp}]+$/u)
})

// The environment.

t.test('without an environment the sample is served on port 3000, to this machine alone', async t => {
  t.match(readSettings({}), {
    host: '127.0.0.1', port: 3000, dataDir: SAMPLE_IMPORT, mongodbUrl: undefined, rateLimit: 120, trustProxy: false, logLevel: 'info'
  })
})

t.test('a variable that is empty counts as one that is not set', async t => {
  t.same(readSettings({ HOST: '', PORT: '', DATA_DIR: '', RATE_LIMIT: '', TRUST_PROXY: '', MONGODB_URL: '', ROCKETCHAT_URL: '', LOG_LEVEL: '', METRICS_PORT: '' }), readSettings({}))
})

t.test('DATA_DIR is looked for in the working directory', async t => {
  t.equal(readSettings({ DATA_DIR: 'data' }).dataDir, join(process.cwd(), 'data'))
})

t.test('a PORT that is none is told in one line', async t => {
  for (const port of ['65536', '-1', '3000.5', '3e3', '0x10', 'http', ' 3000']) {
    t.equal(problemIn({ PORT: port }), `PORT is "${port}": set it to a whole number from 0 to 65535.`)
  }
})

t.test('a RATE_LIMIT that is none is told in one line', async t => {
  for (const limit of ['-1', '1.5', 'none', '1000001']) {
    t.equal(problemIn({ RATE_LIMIT: limit }),
      `RATE_LIMIT is "${limit}": set it to a whole number from 0 to 1000000 (calls per minute and address; 0 for no limit).`)
  }
})

t.test('a LOG_LEVEL that is none is told in one line', async t => {
  t.equal(problemIn({ LOG_LEVEL: 'loud' }),
    'LOG_LEVEL is "loud": set it to one of trace, debug, info, warn, error, fatal, silent.')
})

// The rate limit.

t.test('calls beyond RATE_LIMIT are refused in the envelope, with the seconds to wait', async t => {
  const app = await build(t, { RATE_LIMIT: '2' })
  const first = await call(app)
  t.equal(first.statusCode, 200)
  t.match(first.headers, { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '1', 'x-ratelimit-reset': '60' })
  t.equal((await call(app)).statusCode, 200)
  const reply = await call(app)
  const seconds = reply.headers['retry-after']
  t.equal(reply.statusCode, 429)
  t.match(seconds, /^[1-9]\d?$/)
  t.match(reply.headers, { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': seconds })
  t.equal(reply.body, `{"success":false,"error":"Error, too many requests. Please slow down. You must wait ${seconds} seconds ` +
    'before trying this endpoint again. [error-too-many-requests]","errorType":"error-too-many-requests"}')
})

t.test('RATE_LIMIT=0 is no limit', async t => {
  const app = await build(t, { RATE_LIMIT: '0' })
  const replies = await Promise.all(Array.from({ length: 150 }, () => call(app)))
  t.ok(replies.every(reply => reply.statusCode === 200))
  t.notOk(replies.some(reply => Object.keys(reply.headers).some(name => name.startsWith('x-ratelimit'))))
})

t.test('guesses of a token are limited: the limit runs before the look-up (S10)', async t => {
  const app = await build(t, { RATE_LIMIT: '2' })
  const guess = async () => (await call(app, { headers: { 'x-auth-token': 'guess' } })).statusCode
  t.same([await guess(), await guess(), await guess()], [401, 401, 429])
})

t.test('what is not the API is not limited: the page has a dozen files', async t => {
  const app = await build(t, { RATE_LIMIT: '1' })
  for (const url of ['/', '/page.js', '/style.css', '/docs/json']) t.equal((await app.inject(url)).statusCode, 200, url)
})

t.test('behind a proxy that is trusted the limit is for the address that the proxy names', async t => {
  const app = await build(t, { RATE_LIMIT: '1', TRUST_PROXY: 'true' })
  const from = async (address: string) => (await call(app, { headers: { 'x-forwarded-for': address } })).statusCode
  t.strictSame([await from('192.0.2.1'), await from('192.0.2.1'), await from('192.0.2.2')], [200, 429, 200])
})

/** The statuses of calls, one after the other, that reach the server from an address with these `X-Forwarded-For`. */
async function statusesOf (app: FastifyInstance, remoteAddress: string, forwarded: string[]): Promise<number[]> {
  const statuses: number[] = []
  for (const value of forwarded) {
    statuses.push((await call(app, { remoteAddress, headers: { 'x-forwarded-for': value } })).statusCode)
  }
  return statuses
}

/** What a proxy sends on for three calls of one caller who forges another address each time. */
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
    t.strictSame(await statusesOf(app, proxy, appended), [200, 200, 429], 'an address that the proxy appends')
    t.strictSame(await statusesOf(app, proxy, ['203.0.113.7', '203.0.113.7', '203.0.113.7']), [200, 200, 429], 'one that it sets')
    const direct = await statusesOf(app, '203.0.113.8', ['198.51.100.1', '198.51.100.2', '198.51.100.3'])
    t.strictSame(direct, [200, 200, 429], 'a caller who does not come through the proxy')
  })
}

t.test('with two proxies that are named the limit is for the address that the outer one saw', async t => {
  const app = await build(t, { RATE_LIMIT: '2', TRUST_PROXY: '127.0.0.1, 10.0.0.2' })
  const through = appended.map(value => `${value}, 10.0.0.2`)
  t.strictSame(await statusesOf(app, '127.0.0.1', through), [200, 200, 429])
})

t.test('with TRUST_PROXY=false no X-Forwarded-For counts', async t => {
  const app = await build(t, { RATE_LIMIT: '2' })
  t.strictSame(await statusesOf(app, '127.0.0.1', ['198.51.100.1', '198.51.100.2', '198.51.100.3']), [200, 200, 429])
})

t.test('TRUST_PROXY=true, with which callers can forge their address, is warned about', async t => {
  const [trusting, careful] = [outputOf(), outputOf()]
  await build(t, { TRUST_PROXY: 'true' }, trusting)
  await build(t, { TRUST_PROXY: 'loopback' }, careful)
  t.match(trusting.written(), /"level":40.*TRUST_PROXY is true: callers can forge their address and bypass the rate limit/)
  t.notMatch(careful.written(), 'TRUST_PROXY')
})

t.test('a TRUST_PROXY that Fastify does not take is told in one line', async t => {
  for (const value of ['yes', 'nginx', 'loopback,', '10.0.0.1 10.0.0.2', '10.1', '10.0.0.0/33', '10.0.0.0/0', '10.0.0.0/x', '::1/129', 'True']) {
    t.equal(problemIn({ TRUST_PROXY: value }), `TRUST_PROXY is "${value}": set it to the addresses of your reverse proxies, ` +
      'separated by commas: IP addresses, CIDR ranges, or the names loopback, linklocal and uniquelocal.')
  }
})

t.test('a number of hops as TRUST_PROXY, with which Fastify would trust nobody, is told in one line', async t => {
  for (const value of ['0', '1', '2']) {
    t.match(problemIn({ TRUST_PROXY: value }), new RegExp(`^TRUST_PROXY is "${value}": a number of hops is not supported, because ` +
      'a caller who connects without the proxy could forge an address\\. Set it to the addresses of your reverse proxies, [^\\n]+$'))
  }
})

// Settings that are ignored.

t.test('settings that are ignored are said to be', async t => {
  const dataDir = t.testdir(dump())
  const [besideDatabase, besideDemo, used] = [outputOf(), outputOf(), outputOf()]
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

t.test('the demo serves its import even when MONGODB_URL is set', async t => {
  const app = await build(t, { MONGODB_URL: 'mongodb://127.0.0.1:1/rocketchat' }, outputOf(), demoImport)
  t.match((await call(app)).json(), { waiting: true, step: 'importer_downloading_file' })
})

// The credentials of the sample.

t.test('the sample and the demo over it offer credentials with which they can be called', async t => {
  for (const serve of [undefined, demoImport]) {
    const app = await build(t, {}, outputOf(), serve)
    const { statusCode, headers, body } = await app.inject('/sample-credentials.json')
    t.equal(statusCode, 200)
    t.match(headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store' })
    t.equal(body, JSON.stringify({ userId: caller['x-user-id'], authToken: caller['x-auth-token'] }))
    const { userId, authToken } = JSON.parse(body)
    t.equal((await call(app, { headers: { 'x-user-id': userId, 'x-auth-token': authToken } })).statusCode, 200)
    t.notMatch((await app.inject('/docs/json')).body, 'sample-credentials', 'they are no part of the API')
  }
})

t.test('no other import offers credentials', async t => {
  const dataDir = t.testdir(dump())
  const others = [
    await build(t, { DATA_DIR: dataDir }),
    await build(t, { DATA_DIR: dataDir }, outputOf(), demoImport),
    await build(t, { MONGODB_URL: 'mongodb://127.0.0.1:1/rocketchat' })
  ]
  for (const app of others) {
    const reply = await app.inject('/sample-credentials.json')
    t.equal(reply.statusCode, 404)
    t.equal(reply.body, (await app.inject('/nowhere')).body)
  }
})

// Replies that are not the plugin's.

t.test('what goes wrong elsewhere in the server is told as far as it is the caller\'s to know', async t => {
  const app = await build(t)
  app.get('/broken', () => { throw new Error('mongodb://user:pw@host') })
  app.get('/gone', () => { throw Object.assign(new Error('It has moved'), { statusCode: 410 }) })
  const answers = await Promise.all(['/broken', '/gone'].map(async url => (await app.inject(url)).body))
  t.strictSame(answers, [
    '{"success":false,"error":"Internal Server Error [error-internal-server-error]","errorType":"error-internal-server-error"}',
    '{"success":false,"error":"It has moved [error-gone]","errorType":"error-gone"}'
  ])
})

t.test('a call for which there is no route is told which there is', async t => {
  const app = await build(t)
  const replies = await Promise.all([app.inject('/api/v1'), app.inject({ method: 'POST', url: '/api/v1/startImport', payload: {} })])
  for (const { statusCode, headers, body } of replies) {
    t.equal(statusCode, 404)
    t.match(headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
    t.equal(body, '{"success":false,"error":"No such route: there is GET /api/v1/getImportFileData. [error-not-found]",' +
      '"errorType":"error-not-found"}')
  }
})

t.test('a URL that cannot be decoded is refused in the envelope', async t => {
  const reply = await (await build(t)).inject('/%')
  t.equal(reply.statusCode, 400)
  t.same(reply.json(), {
    success: false, error: "'/%' is not a valid url component [FST_ERR_BAD_URL]", errorType: 'FST_ERR_BAD_URL'
  })
})

t.test('a fault of a route added later is told in the log, and not to the caller', async t => {
  const output = outputOf()
  const app = await build(t, {}, output)
  app.get('/later', async () => { throw new Error('a secret') })
  const reply = await app.inject('/later')
  t.equal(reply.statusCode, 500)
  t.equal(reply.body, '{"success":false,"error":"Internal Server Error [error-internal-server-error]",' +
    '"errorType":"error-internal-server-error"}')
  t.match(output.written(), 'a secret')
})

t.test('headers that are too large are refused in the envelope', async t => {
  const app = await build(t)
  const [reply] = await sendText(app, requestText([...callerLines, `X-Large: ${'x'.repeat(20_000)}`]))
  t.equal(reply?.status, 431)
  t.match(reply?.headers.get('content-type'), /^application\/json/)
  t.equal(reply?.body, '{"success":false,"error":"The headers of the request are too large. ' +
    '[error-request-header-fields-too-large]","errorType":"error-request-header-fields-too-large"}')
})

t.test('what is not HTTP is refused in the envelope', async t => {
  const [reply] = await sendText(await build(t), 'hello\r\n\r\n')
  t.equal(reply?.status, 400)
  t.equal(reply?.headers.get('connection'), 'close')
  t.equal(reply?.body, '{"success":false,"error":"The request is not valid HTTP. [error-bad-request]","errorType":"error-bad-request"}')
})

t.test('a refused request after an answered one on the same connection has a reply of its own', async t => {
  const app = await build(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const socket = connectTo(app.server)
  socket.write(requestText(callerLines, { start: 'GET /a HTTP/1.1' }))
  const [first] = await once(socket, 'data')
  socket.write('hello\r\n\r\n')
  t.match(String(first), /^HTTP\/1\.1 404 /)
  t.match(await text(socket), /^HTTP\/1\.1 400 /)
})

t.test('a reply that is under way is not mixed with the refusal of the next request', async t => {
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

t.test('a request that took too long to arrive is refused in the envelope', async t => {
  const app = await build(t)
  const server = await tcpServer(t, socket => answerClientError.call(app, { code: 'ERR_HTTP_REQUEST_TIMEOUT' }, socket))
  const reply = await text(connectTo(server))
  t.match(reply, /^HTTP\/1\.1 408 Request Timeout\r\n/)
  t.match(reply, '"error":"The request took too long to arrive. [error-request-timeout]"')
})

// The log.

t.test('the log is JSON, one object a line, when it goes to no terminal', async t => {
  const output = outputOf()
  await call(await build(t, {}, output))
  const records = output.written().trim().split('\n').map(line => JSON.parse(line))
  t.match(records.at(-1), { level: 30, msg: 'request completed', res: { statusCode: 200 } })
})

t.test('the log is for a person to read when it goes to a terminal', async t => {
  const output = outputOf({ isTTY: true })
  await call(await build(t, {}, output))
  t.match(output.written(), /\d\d:\d\d:\d\d.* INFO.* req-1 incoming request GET \/api\/v1\/getImportFileData/)
  t.match(output.written(), /req-1 request completed 200/)
})

t.test('the log holds no token, even when somebody logs a request\'s headers', async t => {
  const output = outputOf()
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

t.test('a start says how to call the sample, as a person reads it in a terminal', async t => {
  const { written } = await startHere(t, {}, outputOf({ isTTY: true }))
  const [command, url = ''] = written.match(/curl -H 'X-User-Id: d26x6zSkaPSe5gCyy' \\\n.*\\\n\s+'(http:\S+)'\n/) ?? []
  t.match(command, `-H 'X-Auth-Token: ${caller['x-auth-token']}'`)
  t.equal((await fetch(url, { headers: caller })).status, 200)
})

t.test('a start says how to call it in the log when that is JSON', async t => {
  const { written } = await startHere(t, {})
  const messages = written.trim().split('\n').map(line => JSON.parse(line).msg)
  t.match(messages.at(-1), `curl -H 'X-User-Id: ${caller['x-user-id']}' -H 'X-Auth-Token: ${caller['x-auth-token']}' 'http://127.0.0.1:`)
})

t.test('a start over a folder of one\'s own says how to call it with placeholders', async t => {
  const { written } = await startHere(t, { DATA_DIR: t.testdir(dump()) }, outputOf({ isTTY: true }))
  t.match(written, /curl -H 'X-User-Id: <user id>' \\\n\s+-H 'X-Auth-Token: <token>' \\\n\s+'http:/)
  t.notMatch(written, caller['x-auth-token'])
})

t.test('a start on a port that is in use says so in one line', async t => {
  const port = await usedPort(t)
  const { app, errors, exitCode } = await startHere(t, { PORT: port })
  t.equal(app, undefined)
  t.equal(exitCode, 1)
  t.equal(errors, `Port ${port} on 127.0.0.1 is already in use: set PORT to another port, or to 0 for any free port.\n`)
})

t.test('a start on a host that is none of this machine says so in one line', async t => {
  const { errors, exitCode } = await startHere(t, { HOST: '192.0.2.1' })
  t.equal(exitCode, 1)
  t.equal(errors, 'HOST is "192.0.2.1", which is not an address of this machine (EADDRNOTAVAIL): ' +
    'set it to 127.0.0.1 to accept connections from this machine only, or to 0.0.0.0 to accept them from other machines.\n')
})

t.test('a port that this user may not use is told in one line', async t => {
  const failure = Object.assign(new Error('permission denied'), { code: 'EACCES', syscall: 'listen' })
  t.strictSame(listenFailure(failure, { host: '127.0.0.1', port: 80 }),
    new StartupError('This user may not listen on port 80 of 127.0.0.1: set PORT to 1024 or higher.'))
})

t.test('a failure to start that has nothing to do with the settings is thrown as it is', async t => {
  const failure = new Error('of another kind')
  t.equal(listenFailure(failure, { host: '127.0.0.1', port: 80 }), failure)
  const env = Object.defineProperty({}, 'HOST', { get () { throw failure } })
  await t.rejects(start(env, outputOf(), outputOf()), failure)
})

t.test('--help and -h print every setting with its default, and start nothing', async t => {
  for (const arg of ['--help', '-h']) {
    const { app, written, errors, exitCode } = await startHere(t, { PORT: 'none' }, outputOf(), [arg])
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

t.test('an unknown argument is told in one line', async t => {
  for (const args of [['--port=8080'], ['-x'], ['start'], ['--help', 'more'], ['--']]) {
    const { app, written, errors, exitCode } = await startHere(t, {}, outputOf(), args)
    t.equal(app, undefined)
    t.equal(exitCode, 1)
    t.equal(written, '')
    t.equal(errors, `Unknown argument "${args.at(-1)}": the settings are environment variables, --help lists them.\n`)
  }
})

t.test('a server that is closed leaves no listener of its own on the process', async t => {
  const before = process.listenerCount('SIGTERM')
  const { app } = await startHere(t, {})
  t.equal(process.listenerCount('SIGTERM'), before + 1)
  await app?.close()
  t.equal(process.listenerCount('SIGTERM'), before)
})

t.test('the end is told in the log, with its reason', async t => {
  const output = outputOf()
  const app = await build(t, {}, output)
  await closer(app)({ signal: 'SIGINT' })
  await closer(app)({ err: new Error('that nobody caught') })
  const [first, second] = output.written().trim().split('\n').slice(-2).map(line => JSON.parse(line))
  t.match(first, { level: 30, msg: 'Closing because of SIGINT' })
  t.match(second, { level: 60, err: { message: 'that nobody caught' } })
})

t.test('a file that imports the example starts no server', async t => {
  const exitCode = process.exitCode
  // It would fail to start with these.
  await startIfRun(undefined, { PORT: 'none' })
  await startIfRun(join(t.testdir(), 'nowhere.ts'), { PORT: 'none' })
  await startIfRun(fileURLToPath(import.meta.url), { PORT: 'none' })
  t.equal(process.exitCode, exitCode)
})

t.test('the file itself, when it is run, starts one', async t => {
  const stderr = t.capture(process.stderr, 'write')
  await startIfRun(script, { PORT: 'none' })
  t.equal(process.exitCode, 1)
  process.exitCode = undefined
  t.match(stderr().map(({ args }) => args[0]), [/^PORT is "none": /])
})

// As a process of its own.

t.test('the process says how to call it and serves, from any working directory', async t => {
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

t.test('the process starts by a path that has a symbolic link in it', async t => {
  const path = join(t.testdir({ link: t.fixture('symlink', dirname(script)) }), 'link', 'server.ts')
  const { url } = await run(t, {}, { path }).announcement()
  t.equal((await fetch(url)).status, 401)
})

t.test('the process ends with exit code 1 and one line for a bad PORT', async t => {
  const { code, errors } = await run(t, { PORT: 'none' }).end
  t.equal(code, 1)
  t.equal(errors, 'PORT is "none": set it to a whole number from 0 to 65535.\n')
})

t.test('the process ends with exit code 1 and one line for a port that is in use', async t => {
  const port = await usedPort(t)
  const { code, errors } = await run(t, { PORT: port }).end
  t.equal(code, 1)
  t.match(errors, /^Port \d+ on 127\.0\.0\.1 is already in use: [^\n]+\n$/)
})

t.test('the process ends with exit code 1 and one line for a folder with a broken file', async t => {
  const dataDir = t.testdir(dump({ 'users.json': '{}\nbroken\n' }))
  const { code, errors } = await run(t, { DATA_DIR: dataDir }).end
  t.equal(code, 1)
  t.match(errors, `${join(dataDir, 'users.json')}, line 2: not Extended JSON (`)
  t.match(errors, /^[^\n]+\n$/)
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`the process ends with exit code 0 on ${signal}`, async t => {
    const process = run(t, {})
    await process.announcement()
    t.strictSame(await process.signal(signal), { code: 0, errors: '' })
  })
}
