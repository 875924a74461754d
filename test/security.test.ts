import dns from 'node:dns'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyServerOptions, type LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'
import { Value } from 'typebox/value'
import { importFileData, type ImportFileDataOptions, type ImportStatus, type StagedContact, type StagedChannel, type StagedUser } from '../lib/index.js'
import { errorReplySchema } from '../lib/schemas.js'
import {
  build, call, caller, callerLines, captureLog, FORBIDDEN, matchEach, operation, optionsOf, requestText, sendText, storeOf, UNAUTHORIZED, URL
} from './fixtures/build.js'

const EMAIL = 'canary@mail.example'
const MONGO_URI = 'mongodb://import:pw-canary@db.internal:27017/rocketchat'

/** An error like those of a database driver, with many internal details. */
function driverError (): Error {
  return Object.assign(new Error(`${MONGO_URI}: connection 7 closed while reading rocketchat_import_data`), {
    name: 'MongoNetworkError',
    code: 11600,
    codeName: 'InterruptedAtShutdown',
    ns: 'rocketchat.rocketchat_import_data'
  })
}

const fail = async (): Promise<never> => { throw driverError() }

async function * failingBatches (): AsyncGenerator<never[]> {
  yield await fail()
}

const staged: StagedUser = { importIds: ['U1'], username: 'ada', emails: [EMAIL] }
const withoutId = { username: 'eve', emails: [EMAIL] } as unknown as StagedUser

const withOperation = (changes: object) => storeOf({ latestOperation: async () => operation(changes) })

/** A scenario of a call: the set-up, and the status of the reply. */
interface Scenario {
  status: number
  options?: Partial<ImportFileDataOptions>
  prepare?: (app: FastifyInstance) => unknown
  headers?: Record<string, string | undefined>
}

const scenarios: Record<string, Scenario> = {
  'the selection': { status: 200, options: { store: storeOf({ users: () => [[staged]] }) } },
  'a large selection': { status: 200, options: { store: storeOf({ users: () => [Array(5000).fill(staged)] }) } },
  'a selection with malformed records': { status: 200, options: { store: storeOf({ users: () => [[withoutId, withoutId, staged]] }) } },
  'an unknown status': { status: 200, options: { store: withOperation({ status: 'importer_thinking', file: '/uploads/import.zip' }) } },
  waiting: { status: 200, options: { store: withOperation({ status: 'importer_preparing_users', file: '/uploads/import.zip' }) } },
  'no operation': { status: 400, options: { store: storeOf({ latestOperation: async () => null }) } },
  'an importer that is not registered': { status: 400, options: { store: withOperation({ importerKey: 'mine' }) } },
  'an invalid operation': { status: 400, options: { store: withOperation({ status: 'importer_preparing_users', valid: false }) } },
  'a file that could not be read': { status: 400, options: { store: withOperation({ status: 'importer_import_failed' }) } },
  'no headers': { status: 401, headers: { 'x-user-id': undefined, 'x-auth-token': undefined } },
  'no user id': { status: 401, headers: { 'x-user-id': undefined } },
  'an unknown user': { status: 401, options: { lookupUser: () => null } },
  'no permission': { status: 403, options: { hasPermission: () => false } },
  'a hook of the host that replies 413': {
    status: 413,
    prepare: app => app.addHook('onRequest', async () => { throw Object.assign(new Error('Too large'), { statusCode: 413 }) })
  },
  'too many calls': { status: 429, prepare: app => app.register(rateLimit, { max: 0 }) },
  'a hook of the host that fails': { status: 500, prepare: app => app.addHook('onRequest', fail) },
  'a look-up that fails': { status: 503, options: { lookupUser: fail } },
  'a permission check that fails': { status: 503, options: { hasPermission: fail } },
  'an operation that cannot be read': { status: 503, options: { store: storeOf({ latestOperation: fail }) } },
  'records that cannot be read': { status: 503, options: { store: storeOf({ users: failingBatches }) } },
  'a count that cannot be read': { status: 503, options: { store: storeOf({ countMessages: fail }) } }
}

/** Makes a call in a scenario. */
async function callIn (t: Test, { options, prepare, headers = {} }: Scenario, server: FastifyServerOptions = {}): Promise<LightMyRequestResponse> {
  const app: FastifyInstance = Fastify(server)
  t.teardown(() => app.close())
  await prepare?.(app)
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf(options) })
  return await call(app, { headers })
}

t.test('S4: the log does not contain the token, the user id or a staged e-mail address, and the database\'s address only as the cause of an error', async t => {
  for (const [name, scenario] of Object.entries(scenarios)) {
    const log = captureLog()
    t.equal((await callIn(t, scenario, log.server)).statusCode, scenario.status, name)
    t.ok(log.lines.length > 0)
    for (const { err, ...ours } of log.records()) {
      for (const canary of [...Object.values(caller), EMAIL]) t.notMatch(JSON.stringify({ err, ...ours }), canary, name)
      // Errors of the host's functions are logged unchanged.
      t.notMatch(JSON.stringify(ours), MONGO_URI, name)
    }
  }
})

t.test('S4: no body or header contains the token, the user id or the database\'s address, and only the selection contains the e-mail address', async t => {
  for (const [name, scenario] of Object.entries(scenarios)) {
    const { headers, body } = await callIn(t, scenario)
    for (const canary of [...Object.values(caller), MONGO_URI]) t.notMatch(JSON.stringify(headers) + body, canary, name)
    t.equal(body.includes(EMAIL), name.includes('selection'), name)
  }
})

t.test('S4: a host that logs headers, or invalid HTTP at the level trace, can redact the token and the user id', async t => {
  const serializers = { req: ({ headers }: { headers: object }) => ({ headers }) }
  const redact = ['req.headers["x-user-id"]', 'req.headers["x-auth-token"]', 'err.rawPacket']
  for (const options of [{ serializers }, { serializers, redact }]) {
    const log = captureLog(options)
    const app = await build(t, {}, log.server)
    await call(app)
    await sendText(app, requestText([...callerLines, 'X-Other: a\0b']))

    const rawPacket = log.records().flatMap(({ err }) => Object(err).rawPacket?.data ?? [])
    t.match(log.lines.join(), 'HPE_INVALID_HEADER_TOKEN')
    for (const [name, value] of Object.entries(caller)) {
      t.equal(log.lines.join().includes(value), options.redact === undefined, `${name} in a log line`)
      t.equal(Buffer.from(rawPacket).toString().includes(value), options.redact === undefined, `${name} in the raw bytes`)
    }
  }
})

t.test('S5: every error body matches a closed schema, and has no internal details', async t => {
  const { NODE_ENV } = process.env
  process.env.NODE_ENV = 'development'
  t.teardown(() => {
    if (NODE_ENV === undefined) delete process.env.NODE_ENV
    else process.env.NODE_ENV = NODE_ENV
  })
  t.equal(Value.Check(errorReplySchema, { success: false, error: 'boom', stack: 'at boom' }), false, 'the schema is closed')
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (scenario.status < 400) continue
    const prepare = async (app: FastifyInstance) => {
      app.setErrorHandler(async error => error)
      await scenario.prepare?.(app)
    }
    const { statusCode, body } = await callIn(t, { ...scenario, prepare })
    t.equal(statusCode, scenario.status, name)
    t.equal(Value.Check(errorReplySchema, JSON.parse(body)), true, name)
    t.notMatch(body, /stack|\.[jt]s\b|node_modules|\bat \S+ \(|mongo|Interrupted|11600|rocketchat|canary/i, name)
  }
})

t.test('S6: every reply is private, must be revalidated, and has nosniff', async t => {
  for (const [name, scenario] of Object.entries(scenarios)) {
    const { statusCode, headers } = await callIn(t, scenario)
    t.strictSame({
      statusCode,
      'cache-control': headers['cache-control'],
      vary: headers.vary,
      'x-content-type-options': headers['x-content-type-options'],
      'content-type': headers['content-type']
    }, {
      statusCode: scenario.status,
      'cache-control': 'private, no-cache',
      vary: 'X-User-Id, X-Auth-Token',
      'x-content-type-options': 'nosniff',
      'content-type': 'application/json; charset=utf-8'
    }, name)
  }
})

t.test('S6: the host\'s Vary is kept', async t => {
  const rows: Array<[hosts: string | string[], sent: string[]]> = [
    ['Origin', ['Origin', 'X-User-Id', 'X-Auth-Token']],
    ['Origin,Accept-Encoding', ['Origin', 'Accept-Encoding', 'X-User-Id', 'X-Auth-Token']],
    ['x-auth-token , Origin', ['x-auth-token', 'Origin', 'X-User-Id']],
    [['Origin', 'Accept-Encoding'], ['Origin', 'Accept-Encoding', 'X-User-Id', 'X-Auth-Token']],
    ['*', ['*']]
  ]
  for (const [hosts, sent] of rows) {
    for (const hook of ['onRequest', 'onSend'] as const) {
      const prepare = (app: FastifyInstance) => hook === 'onRequest'
        ? app.addHook(hook, async (_request, reply) => { reply.header('Vary', hosts) })
        : app.addHook(hook, async (_request, reply) => { reply.header('Vary', hosts) })
      const { vary } = (await callIn(t, { status: 200, prepare })).headers
      t.strictSame(String(vary).split(/ *, */), sent, `${hook}: ${hosts}`)
    }
    const route = { onSend: async (_request: unknown, reply: FastifyReply) => { reply.header('Vary', hosts) } }
    const { vary } = (await callIn(t, { status: 200, options: { route } })).headers
    t.strictSame(String(vary).split(/ *, */), sent, `the option route: ${hosts}`)
  }
})

t.test('S6: the host\'s own caching headers do not apply to the route', async t => {
  const prepare = (app: FastifyInstance) => app.addHook('onSend', async (_request, reply) => {
    reply.headers({ 'Cache-Control': 'public, max-age=3600', 'X-Content-Type-Options': 'sniff' })
  })
  t.match((await callIn(t, { status: 200, prepare })).headers, { 'cache-control': 'private, no-cache', 'x-content-type-options': 'nosniff' })
})

/** A shared HTTP cache (RFC 9111). It honours `Cache-Control`, or is careless and honours only `Vary`. */
class SharedCache {
  hits = 0
  readonly #app: FastifyInstance
  readonly #isCareless: boolean
  readonly #stored: Array<{ varying: Array<[name: string, value: unknown]>, reply: LightMyRequestResponse }> = []

  constructor (app: FastifyInstance, { isCareless }: { isCareless: boolean }) {
    this.#app = app
    this.#isCareless = isCareless
  }

  async get (headers: Record<string, string>): Promise<LightMyRequestResponse> {
    const stored = this.#stored.find(({ varying }) => varying.every(([name, value]) => headers[name] === value))
    if (stored !== undefined) {
      this.hits++
      return stored.reply
    }
    const reply = await this.#app.inject({ url: URL, headers })
    if (this.#isCareless || !/private|no-store/.test(String(reply.headers['cache-control']))) {
      const names = String(reply.headers.vary ?? '').toLowerCase().split(/\s*,\s*/).filter(name => name !== '')
      this.#stored.push({ reply, varying: names.map(name => [name, headers[name]]) })
    }
    return reply
  }
}

t.test('S6: a shared cache never gives a caller the reply to another caller', async t => {
  const tokens: Record<string, string> = { ada: 'ada-s-token', guest: 'guest-s-token' }
  const app = await build(t, {
    lookupUser: ({ userId, authToken }) => tokens[userId] === authToken ? { userId } : null,
    hasPermission: user => 'userId' in user && user.userId === 'ada',
    store: storeOf({ users: () => [[staged]] })
  })
  const ada = { 'x-user-id': 'ada', 'x-auth-token': 'ada-s-token' }
  const callers: Array<[name: string, headers: Record<string, string>, status: number]> = [
    ['ada', ada, 200],
    ['a guest', { 'x-user-id': 'guest', 'x-auth-token': 'guest-s-token' }, 403],
    ['nobody', {}, 401],
    ['ada without a token', { 'x-user-id': 'ada' }, 401],
    ['ada\'s token without her id', { 'x-auth-token': 'ada-s-token' }, 401],
    ['ada with another token', { ...ada, 'x-auth-token': 'another' }, 401],
    ['another with ada\'s token', { ...ada, 'x-user-id': 'guest' }, 401]
  ]
  for (const isCareless of [false, true]) {
    for (const order of [callers, callers.toReversed()]) {
      const cache = new SharedCache(app, { isCareless })
      for (const [name, headers, status] of [...order, ...order]) {
        const { statusCode, body } = await cache.get(headers)
        t.equal(statusCode, status, name)
        if (status === 200) t.match(body, EMAIL)
        else t.equal(body, status === 403 ? FORBIDDEN : UNAUTHORIZED, name)
      }
      t.equal(cache.hits, isCareless ? callers.length : 0, 'the cache works')
    }
  }
})

t.test('S7: only the documented fields are sent', async t => {
  const secret = {
    _id: 'canary',
    password: 'canary',
    services: { resume: { loginTokens: [{ hashedToken: 'canary' }] }, password: { bcrypt: 'canary' } },
    roles: ['canary'],
    customFields: { canary: true },
    bio: 'canary',
    statusText: 'canary',
    avatarUrl: 'https://canary.example',
    topic: 'canary',
    u: { _id: 'canary' },
    do_import: 'canary',
    is_email_taken: 'canary',
    toJSON: () => 'canary'
  }
  const user = { importIds: ['U1', 'canary'], username: 'ada', emails: ['ada@example.com', 'canary'], name: 'canary', type: 'user', ...secret }
  const channel = { importIds: ['C1', 'canary'], name: 'general', t: 'c', users: ['canary'], ...secret }
  const direct = { importIds: ['canary'], name: 'canary', t: 'd', users: ['canary'], ...secret }
  const contact = { importIds: ['c-1', 'canary'], name: 'Grace', emails: ['grace@example.com'], phones: ['1'], contactManager: 'canary', ...secret }
  const latest = Object.assign(operation({ file: '/uploads/canary.zip', reading: 'canary' }), { user: 'canary', ...secret })
  const app = await build(t, {
    store: storeOf({
      latestOperation: async () => latest,
      users: () => [[user]],
      channels: () => [[channel, direct]],
      contacts: () => [[contact]]
    })
  })
  t.strictSame((await call(app)).json(), {
    users: [{ user_id: 'U1', username: 'ada', email: 'ada@example.com', is_deleted: false, is_bot: false, do_import: true, is_email_taken: false }],
    channels: [
      { channel_id: 'C1', name: 'general', is_archived: false, do_import: true, is_private: false, is_direct: false },
      { channel_id: '__directMessages__', name: 'Direct Messages', is_archived: false, do_import: true, is_private: true, is_direct: true }
    ],
    contacts: [{ id: 'c-1', name: 'Grace', emails: ['grace@example.com'], phones: ['1'], do_import: true }],
    message_count: 0,
    success: true
  })
})

/** Records every call of the functions of an object until the test ends. */
function spy (t: Test, target: object, calls: unknown[][]): void {
  for (const [name, { value, writable }] of Object.entries(Object.getOwnPropertyDescriptors(target))) {
    if (typeof value !== 'function' || writable !== true || !/^[a-z]/.test(name) || name === 'constructor') continue
    Object.assign(target, {
      [name] (this: unknown, ...args: unknown[]): unknown {
        calls.push([name, args[0]])
        return Reflect.apply(value, this, args)
      }
    })
    t.teardown(() => Object.assign(target, { [name]: value }))
  }
}

t.test('S9: the file of an operation is never opened, whatever its path', async t => {
  const files = ['/etc/passwd', '../package.json', 'package.json', 'file:///etc/passwd', 'http://127.0.0.1:9/import.zip', '\\\\host\\share\\import.zip']
  const statuses: ImportStatus[] = ['importer_file_loaded', 'importer_preparing_started', 'importer_user_selection', 'importer_done']
  let file = ''
  let status: ImportStatus = 'importer_new'
  const app = await build(t, { store: storeOf({ latestOperation: async () => operation({ status, file }) }) })
  await call(app)

  const calls: unknown[][] = []
  t.teardown(syncBuiltinESMExports)
  for (const target of [fs, fs.promises, net, net.Socket.prototype, dns, dns.promises]) spy(t, target, calls)
  syncBuiltinESMExports()
  fs.existsSync(files[0] ?? '')
  const [seen] = calls.splice(0)

  const bodies: string[] = []
  for (file of files) {
    for (status of statuses) bodies.push((await app.inject({ url: URL, headers: caller })).body)
  }
  const opened = calls.splice(0)
  t.strictSame(seen, ['existsSync', '/etc/passwd'], 'calls are recorded')
  t.strictSame(opened, [])
  t.equal(bodies.length, files.length * statuses.length)
  for (const body of bodies) t.match(body, '"success":true')
  for (const name of files) t.equal(bodies.some(body => body.includes(name)), false, name)
})

t.test('S11: any name is sent as it was staged, in a reply that no browser executes', async t => {
  const names = [
    '</script><!--', '<img src=x onerror=alert(1)>', '\u2028\u2029', '__proto__', 'constructor', '"quoted" \\ back', '\0\b\n\x1f\x7f',
    '漢字 é e\u0301', '👩‍🚀', ' ', '{"$ne":null}', '=cmd|x', ']}'
  ]
  const users = names.map((name): StagedUser => ({ importIds: [name], username: name, emails: [name] }))
  const channels = names.map((name): StagedChannel => ({ importIds: [name], name, t: 'c' }))
  const contacts = names.map((name): StagedContact => ({ importIds: [name], name, emails: [name], phones: [name] }))
  // Each in a small reply, and all together in a large one.
  for (const times of [1, 500]) {
    const batches = <Staged>(list: Staged[]): Staged[][] => Array(times).fill(list)
    for (const name of names) {
      const reply = await call(await build(t, {
        store: storeOf({
          latestOperation: async () => operation({ importerKey: name }),
          users: () => batches(users),
          channels: () => batches(channels),
          contacts: () => batches(contacts)
        }),
        importers: Object.fromEntries([[name, name]])
      }))
      t.match(reply.headers, { 'content-type': 'application/json; charset=utf-8', 'x-content-type-options': 'nosniff' })
      const selection = reply.json()
      t.strictSame([selection.name, selection.users.length], [name, times * names.length])
      t.strictSame(selection.users.slice(-names.length).map((user: Record<string, unknown>) => [user.user_id, user.username, user.email]),
        names.map(name => [name, name, name]))
      t.strictSame(selection.channels.slice(-names.length).map((channel: Record<string, unknown>) => [channel.channel_id, channel.name]),
        names.map(name => [name, name]))
      t.strictSame(selection.contacts.slice(-names.length), names.map(name => ({ id: name, name, emails: [name], phones: [name], do_import: true })))
      if (times > 1) break
    }
  }
})

t.test('S11: a record with the key __proto__ does not pollute prototypes', async t => {
  const record = '{"__proto__":{"polluted":true,"importIds":["U0"],"deleted":true},"importIds":["U1"],"username":"__proto__"}'
  const users: StagedUser[] = [JSON.parse(record), JSON.parse(record)]
  const { body } = await call(await build(t, { store: storeOf({ users: () => [users] }) }))
  matchEach(t, JSON.parse(body).users, [{ user_id: 'U1', username: '__proto__', is_deleted: false }, { user_id: 'U1' }])
  t.notMatch(body, 'polluted')
  t.equal('polluted' in {}, false)
})
