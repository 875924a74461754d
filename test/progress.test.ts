import { once } from 'node:events'
import { Agent, type IncomingHttpHeaders, type IncomingMessage, get } from 'node:http'
import { type AddressInfo } from 'node:net'
import { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import {
  type ImportDataStore,
  type ImportFileDataOptions,
  type ImportOperation,
  type ImportStatus,
  type Prepare,
  type PrepareContext
} from '../lib/index.js'
import { importStatuses, isImportStatus } from '../lib/operation.js'
import { FORBIDDEN, NOTHING_STAGED, UNAUTHORIZED, URL, build, call, caller, operation, storeOf } from './fixtures/build.js'

const WAITING = [
  'importer_downloading_file',
  'importer_preparing_started',
  'importer_preparing_users',
  'importer_preparing_channels',
  'importer_preparing_contacts',
  'importer_preparing_messages'
] as const
const SETTLED = ['importer_user_selection', 'importer_import_cancelled'] as const
const statuses = importStatuses.filter(isImportStatus)

const FILE_FORMAT_INVALID = JSON.stringify({
  success: false,
  error: 'Failed to process import file. Please check the file format and try again. [error-import-file-format-invalid]',
  errorType: 'error-import-file-format-invalid'
})

/** An operation whose messages are being read, with what a test wants changed. */
function preparing (changes: Partial<ImportOperation> = {}): ImportOperation {
  return operation({ status: 'importer_preparing_messages', ...changes })
}

/** An operation whose file waits to be read, with what a test wants changed. */
function loaded (changes: Partial<ImportOperation> = {}): ImportOperation {
  return operation({ status: 'importer_file_loaded', file: 'import.zip', updatedAt: ago(0), ...changes })
}

/** An operation as only a store that does not keep to the types gives it. */
function malformed (operation: ImportOperation, members: Record<string, unknown>): ImportOperation {
  return Object.assign(operation, members)
}

function ago (milliseconds: number): Date {
  return new Date(Date.now() - milliseconds)
}

/** A store that gives whatever operation `current` gives when it is asked. */
function storeWith (current: () => ImportOperation | null, changes: Partial<ImportDataStore> = {}): ImportDataStore {
  return storeOf({ latestOperation: async () => current(), ...changes })
}

/** A server over one operation, and the reply to one call. */
async function replyTo (t: Test, of: ImportOperation, options: Partial<ImportFileDataOptions> = {}) {
  return call(await build(t, { store: storeWith(() => of), ...options }))
}

/** A clock that stands still until the test moves it on. */
function stopClock (t: Test): { now: number } {
  const clock = { now: Date.now() }
  t.intercept(Date, 'now', { value: () => clock.now })
  return clock
}

/** Where a test's server writes its log: one object a line. */
function logInto (lines: Array<Record<string, unknown>>) {
  return { logger: { level: 'trace', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } }
}

function headerOf (headers: IncomingHttpHeaders | Record<string, unknown>, name: string): string {
  const value: unknown = headers[name]
  return typeof value === 'string' ? value : ''
}

/** A promise that the test settles. */
function deferred () {
  let resolve = () => {}
  let reject: (failure: unknown) => void = () => {}
  const promise = new Promise<void>((_resolve, _reject) => { resolve = _resolve; reject = _reject })
  return { promise, resolve, reject }
}

// The waiting reply

t.test('a waiting reply says the step, what is being read, the counts and the time of the last change', async t => {
  const updatedAt = new Date('2026-03-02T09:14:05.120Z')
  t.intercept(Date, 'now', { value: () => updatedAt.getTime() })
  const reply = await replyTo(t, preparing({
    reading: 'general/2023-05-04', count: { total: 12034, users: 320, channels: 41 }, updatedAt
  }))
  t.equal(reply.statusCode, 200)
  t.equal(reply.body, '{"waiting":true,"step":"importer_preparing_messages","reading":"general/2023-05-04",' +
    '"count":{"total":12034,"users":320,"channels":41},"updated_at":"2026-03-02T09:14:05.120Z","success":true}')
  t.equal(reply.headers['content-type'], 'application/json; charset=utf-8')
})

t.test('a waiting reply of an operation that knows nothing but its status says no more than the step', async t => {
  for (const status of WAITING) {
    const reply = await replyTo(t, { id: 'operation-1', status })
    t.equal(reply.body, `{"waiting":true,"step":"${status}","success":true}`)
  }
})

t.test('a waiting reply has each further member only where the operation has it', async t => {
  const updatedAt = ago(0)
  const cases: Array<[has: Partial<ImportOperation>, shown: object]> = [
    [{ reading: 'users.json' }, { reading: 'users.json' }],
    [{ reading: null }, {}],
    [{ count: { users: 3 } }, { count: { users: 3 } }],
    [{ count: {} }, {}],
    [{ updatedAt }, { updated_at: updatedAt.toISOString() }],
    [{ file: '/srv/uploads/import.zip', importerKey: 'slack' }, {}]
  ]
  for (const [has, shown] of cases) {
    const { success, ...body } = (await replyTo(t, preparing(has))).json()
    t.strictSame(body, { waiting: true, step: 'importer_preparing_messages', ...shown }, JSON.stringify(has))
  }
})

t.test('a waiting reply has every count that the operation knows, in one order', async t => {
  const reply = await replyTo(t, preparing({
    count: { contacts: 7, messages: 6, channels: 5, users: 4, error: 3, completed: 2, total: 1 }
  }))
  t.match(reply.body, '"count":{"total":1,"completed":2,"error":3,"users":4,"channels":5,"messages":6,"contacts":7}')
})

t.test('each poll says what is new, whatever of the operation has changed since the last', async t => {
  const updatedAt = ago(0)
  const current = preparing({ reading: 'users.json', count: { users: 1 }, updatedAt })
  const app = await build(t, { store: storeWith(() => current), stalledAfter: 60_000 })
  const changes: Array<[change: Partial<ImportOperation>, shown: object]> = [
    [{}, {}],
    [{ status: 'importer_preparing_users' }, { step: 'importer_preparing_users' }],
    [{ reading: 'channels.json' }, { reading: 'channels.json' }],
    [{ count: { users: 2 } }, { count: { users: 2 } }],
    [{ count: { users: 2, contacts: 1 } }, { count: { users: 2, contacts: 1 } }],
    [{ updatedAt: new Date(updatedAt.getTime() + 1) }, { updated_at: new Date(updatedAt.getTime() + 1).toISOString() }],
    [{ updatedAt: new Date(0) }, { updated_at: '1970-01-01T00:00:00.000Z', stalled: true }]
  ]
  let expected: object = {
    waiting: true, step: current.status, reading: 'users.json', count: { users: 1 }, updated_at: updatedAt.toISOString(), success: true
  }
  for (const [change, shown] of changes) {
    Object.assign(current, change)
    expected = { ...expected, ...shown }
    t.strictSame((await call(app)).json(), expected, JSON.stringify(change))
    t.strictSame((await call(app)).json(), expected, 'and so does the one after it')
  }
})

t.test('F7: a count that is no whole number of records is left out, and nothing else with it', async t => {
  const bad: unknown[] = [-1, 1.5, NaN, Infinity, 2 ** 53, '12', null, undefined, true, [1], { $numberLong: '1' }]
  for (const users of bad) {
    const beside = await replyTo(t, malformed(preparing(), { count: { users, channels: 0 } }))
    t.strictSame(beside.json().count, { channels: 0 }, String(users))
    const alone = await replyTo(t, malformed(preparing(), { count: { users } }))
    t.notOk('count' in alone.json(), `${String(users)} alone`)
  }
})

t.test('F7: counts that are no counts at all, or of kinds that are not known, are left out', async t => {
  for (const count of [null, 'many', 3, [], { emoji: 12 }]) {
    t.notOk('count' in (await replyTo(t, malformed(preparing(), { count }))).json(), String(count))
  }
})

t.test('F7: what is being read is left out unless it is a text', async t => {
  for (const reading of [0, {}, ['general'], true]) {
    t.notOk('reading' in (await replyTo(t, malformed(preparing(), { reading }))).json(), String(reading))
  }
})

t.test('F7: a time of the last change that is no time is left out, and a selection has no ETag by it', async t => {
  for (const updatedAt of [new Date(NaN), null, 1772442845120, '2026-03-02T09:14:05.120Z']) {
    const reply = await replyTo(t, malformed(preparing(), { updatedAt }))
    t.equal(reply.body, '{"waiting":true,"step":"importer_preparing_messages","success":true}')
    t.notOk('etag' in (await replyTo(t, malformed(operation(), { updatedAt }))).headers)
  }
})

t.test('a waiting reply says that the operation is stalled once it has not changed for stalledAfter', async t => {
  const clock = stopClock(t)
  const updatedAt = new Date(clock.now)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })), stalledAfter: 5000 })
  clock.now += 4999
  t.notOk('stalled' in (await call(app)).json())
  clock.now += 1
  t.equal((await call(app)).json().stalled, true)
  t.match((await call(app)).body, `"updated_at":"${updatedAt.toISOString()}","stalled":true,"success":true}`)
})

t.test('an operation stalls after ten minutes unless the host says otherwise', async t => {
  const clock = stopClock(t)
  const updatedAt = new Date(clock.now)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })) })
  clock.now += 599_999
  t.notOk('stalled' in (await call(app)).json())
  clock.now += 1
  t.equal((await call(app)).json().stalled, true)
})

t.test('an operation that moves on is stalled no more', async t => {
  let updatedAt = ago(600_000)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })) })
  t.equal((await call(app)).json().stalled, true)
  updatedAt = ago(0)
  t.notOk('stalled' in (await call(app)).json())
})

t.test('an operation that does not say when it changed is never stalled', async t => {
  t.notOk('stalled' in (await replyTo(t, preparing(), { stalledAfter: 1 })).json())
})

t.test('a selection is never stalled, however old', async t => {
  for (const status of SETTLED) {
    t.equal((await replyTo(t, operation({ status, updatedAt: new Date(0) }))).body, NOTHING_STAGED)
  }
})

t.test('Retry-After grows from 1 to 10 seconds with the time since the last change', async t => {
  const clock = stopClock(t)
  const updatedAt = new Date(clock.now)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })) })
  const seen: number[] = []
  for (let second = 0; second <= 300; second++, clock.now += 1000) {
    seen.push(Number((await call(app)).headers['retry-after']))
  }
  t.equal(seen[0], 1)
  t.equal(seen.at(-1), 10)
  t.strictSame(seen, [...seen].sort((a, b) => a - b), 'never shrinks while nothing changes')
  t.strictSame([...new Set(seen)], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
})

t.test('Retry-After is 10 seconds for an operation that has been silent for hours', async t => {
  t.equal((await replyTo(t, preparing({ updatedAt: new Date(0) }))).headers['retry-after'], '10')
})

t.test('Retry-After is 1 second where the time of the last change is not known, or is yet to come', async t => {
  t.equal((await replyTo(t, preparing())).headers['retry-after'], '1')
  t.equal((await replyTo(t, preparing({ updatedAt: ago(-3_600_000) }))).headers['retry-after'], '1')
})

t.test('Retry-After is on every waiting reply, and on no selection and no error of the contract', async t => {
  for (const status of statuses) {
    const reply = await replyTo(t, operation({ status, updatedAt: ago(0) }))
    t.equal('retry-after' in reply.headers, reply.json().waiting === true, status)
  }
})

t.test('F7: a status that is not known gives the selection, and is logged once', async t => {
  const lines: Array<Record<string, unknown>> = []
  let status = 'importer_from_the_future'
  const app = await build(t, { store: storeWith(() => malformed(operation(), { status })) }, logInto(lines))
  const logged = () => lines.filter(line => Number(line['level']) === 40).map(line => line['status'])
  for (let calls = 0; calls < 5; calls++) t.equal((await call(app)).body, NOTHING_STAGED)
  t.strictSame(logged(), ['importer_from_the_future'])
  status = 'importer_resting'
  await call(app)
  await call(app)
  t.strictSame(logged(), ['importer_from_the_future', 'importer_resting'])
})

t.test('F7: a status that is no text, or that every object has by inheritance, gives the selection', async t => {
  for (const status of [undefined, null, 5, {}, 'constructor', '__proto__', 'toString']) {
    t.equal((await replyTo(t, malformed(operation(), { status }))).body, NOTHING_STAGED)
  }
})

t.test('no status that is known is logged', async t => {
  const lines: Array<Record<string, unknown>> = []
  let status: ImportStatus = 'importer_new'
  const app = await build(t, { store: storeWith(() => operation({ status })) }, logInto(lines))
  for (status of statuses) await call(app)
  t.strictSame(lines.filter(line => Number(line['level']) >= 40), [])
})

// Conditional requests

t.test('an ETag is on waiting replies and on selections that cannot change, and on nothing else', async t => {
  const expected = new Set<string>([...WAITING, ...SETTLED])
  for (const status of statuses) {
    const reply = await replyTo(t, operation({ status, file: null, updatedAt: ago(0) }))
    t.equal('etag' in reply.headers, expected.has(status), status)
  }
  const unknown = await replyTo(t, malformed(operation({ updatedAt: ago(0) }), { status: 'importer_resting' }))
  t.notOk('etag' in unknown.headers, 'a status that is not known')
})

t.test('an error has no ETag', async t => {
  const updatedAt = ago(0)
  const errors: Array<Partial<ImportFileDataOptions>> = [
    { store: storeWith(() => null) },
    { store: storeWith(() => preparing({ valid: false, updatedAt })) },
    { store: storeWith(() => operation({ importerKey: 'fax', updatedAt })) },
    { store: storeWith(() => operation({ updatedAt })), hasPermission: () => false },
    { store: storeWith(() => operation({ updatedAt })), lookupUser: () => null },
    { store: storeWith(() => operation({ updatedAt })), lookupUser: () => { throw new Error('down') } }
  ]
  for (const options of errors) {
    const reply = await call(await build(t, options), { headers: { 'if-none-match': '*' } })
    t.ok(reply.statusCode >= 400, String(reply.statusCode))
    t.notOk('etag' in reply.headers, reply.body)
  }
})

t.test('a selection that fails to be read has neither the ETag of the selection nor its 304', async t => {
  const down = () => { throw new Error('down') }
  const failing: Array<Partial<ImportDataStore>> = [
    { users: down }, { channels: down }, { contacts: down }, { countMessages: async () => down() }
  ]
  for (const changes of failing) {
    const reply = await call(await build(t, { store: storeWith(() => operation({ updatedAt: ago(0) }), changes) }))
    t.equal(reply.statusCode, 503)
    t.notOk('etag' in reply.headers, `${Object.keys(changes)}: a browser may keep the error by it, and show it again at a 304`)
  }
})

t.test('a selection of an operation that does not say when it changed has no ETag, and no 304', async t => {
  for (const status of SETTLED) {
    const app = await build(t, { store: storeWith(() => operation({ status })) })
    const reply = await call(app, { headers: { 'if-none-match': '*' } })
    t.equal(reply.statusCode, 200, status)
    t.notOk('etag' in reply.headers, status)
  }
})

t.test('a waiting reply has another ETag whenever it says something else, though the time of the last change is the same', async t => {
  const updatedAt = ago(0)
  for (const time of [{ updatedAt }, {}]) {
    const tags = [
      preparing({ ...time }),
      preparing({ ...time, reading: 'general/2023-05-04' }),
      preparing({ ...time, reading: 'general/2023-05-05' }),
      preparing({ ...time, reading: 'general/2023-05-05', count: { users: 1 } }),
      preparing({ ...time, reading: 'general/2023-05-05', count: { users: 2 } })
    ].map(async of => (await replyTo(t, of)).headers.etag)
    t.equal(new Set(await Promise.all(tags)).size, tags.length)
  }
})

t.test('an ETag is a legal weak one, and says nothing of what is inside', async t => {
  const reply = await replyTo(t, preparing({ id: 'secret-id', reading: 'secret/2023', updatedAt: ago(0) }))
  const etag = headerOf(reply.headers, 'etag')
  t.match(etag, /^W\/"[\x21\x23-\x7e]+"$/)
  t.notMatch(etag, /secret|importer|\d{13}/)
})

t.test('the ETag is the same for the same state, from any server', async t => {
  const updatedAt = ago(0)
  const one = await replyTo(t, preparing({ updatedAt }))
  const other = await replyTo(t, preparing({ updatedAt: new Date(updatedAt) }))
  t.equal(one.headers.etag, other.headers.etag)
})

t.test('the ETag changes with the operation, its status, its importer\'s name and the time of its last change', async t => {
  const updatedAt = ago(1000)
  const tags = [
    preparing({ updatedAt }),
    preparing({ updatedAt, id: 'operation-2' }),
    preparing({ updatedAt, importerKey: 'csv' }),
    preparing({ updatedAt, importerKey: 'slack' }),
    preparing({ updatedAt: new Date(updatedAt.getTime() + 1) }),
    ...[...WAITING.slice(0, -1), ...SETTLED].map(status => preparing({ updatedAt, status }))
  ].map(async of => (await replyTo(t, of)).headers.etag)
  t.equal(new Set(await Promise.all(tags)).size, tags.length)
})

t.test('an operation that begins to stall has another ETag, so a poller is told', async t => {
  const clock = stopClock(t)
  const updatedAt = new Date(clock.now)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })), stalledAfter: 5000 })
  const headers = { 'if-none-match': headerOf((await call(app)).headers, 'etag') }
  clock.now += 4999
  t.equal((await call(app, { headers })).statusCode, 304)
  clock.now += 1
  const stalled = await call(app, { headers })
  t.equal(stalled.statusCode, 200)
  t.equal(stalled.json().stalled, true)
  t.equal((await call(app, { headers: { 'if-none-match': headerOf(stalled.headers, 'etag') } })).statusCode, 304)
})

t.test('If-None-Match with the ETag is answered 304 in any legal form', async t => {
  const of = operation({ updatedAt: ago(0) })
  const app = await build(t, { store: storeWith(() => of) })
  const etag = headerOf((await call(app)).headers, 'etag')
  const strong = etag.replace('W/', '')
  const forms = [
    etag,
    strong,
    '*',
    ' * ',
    `  ${etag}\t`,
    `"other", ${etag}`,
    `${etag}, W/"other"`,
    `"a","b",${strong},"c"`,
    `"a" , W/"b" ,\t${etag}`,
    `"with, a comma", ${etag}`,
    `"W/", ${strong}`,
    `"", ${etag}`,
    `, ,${etag},`,
    `"\xe9\xff", ${etag}`
  ]
  for (const form of forms) {
    const reply = await call(app, { headers: { 'if-none-match': form } })
    t.equal(reply.statusCode, 304, form)
  }
})

t.test('If-None-Match without the ETag, or with what is no ETag, gets the whole reply', async t => {
  const of = operation({ updatedAt: ago(0) })
  const app = await build(t, { store: storeWith(() => of) })
  const etag = headerOf((await call(app)).headers, 'etag')
  const opaque = etag.slice(3, -1)
  const forms = [
    '"other"',
    'W/"other"',
    '',
    ' ',
    '""',
    '"',
    opaque,
    `W/${opaque}`,
    `'${opaque}'`,
    `"${opaque}`,
    `${opaque}"`,
    `"x${opaque}"`,
    `"${opaque.toUpperCase()}"`,
    `"${opaque.slice(1)}"`,
    `"left, ${opaque}, right"`,
    '**',
    '"*"',
    'W/*',
    'undefined',
    'null',
    '[object Object]',
    ','.repeat(1000),
    '"'.repeat(8000)
  ]
  for (const form of forms) {
    const reply = await call(app, { headers: { 'if-none-match': form } })
    t.equal(reply.statusCode, 200, form.slice(0, 60))
    t.equal(reply.body, NOTHING_STAGED)
  }
})

t.test('If-None-Match that is sent twice is one list', async t => {
  const of = operation({ updatedAt: ago(0) })
  const app = await build(t, { store: storeWith(() => of) })
  const port = await listen(app)
  const etag = headerOf((await call(app)).headers, 'etag')
  t.equal((await send(port, { 'if-none-match': ['"other"', etag] })).statusCode, 304)
  t.equal((await send(port, { 'if-none-match': [etag, '"other, one"'] })).statusCode, 304)
  t.equal((await send(port, { 'if-none-match': ['"other"', '"another"'] })).statusCode, 200)
})

t.test('S6: a 304 has no body, and the headers that the whole reply has', async t => {
  for (const of of [operation({ updatedAt: ago(0) }), preparing({ updatedAt: ago(0) })]) {
    const app = await build(t, { store: storeWith(() => of) })
    const whole = await call(app)
    const reply = await call(app, { headers: { 'if-none-match': headerOf(whole.headers, 'etag') } })
    t.equal(reply.statusCode, 304)
    t.equal(reply.rawPayload.length, 0)
    t.equal(reply.headers['cache-control'], 'private, no-cache')
    t.equal(reply.headers.vary, 'X-User-Id, X-Auth-Token')
    for (const name of ['etag', 'retry-after', 'cache-control', 'vary', 'x-content-type-options']) {
      t.equal(reply.headers[name], whole.headers[name], name)
    }
    for (const name of ['content-type', 'content-length', 'transfer-encoding']) t.notOk(name in reply.headers, name)
  }
})

t.test('a 304 comes after auth: who is not let in learns nothing by an ETag', async t => {
  let lookups = 0
  const of = operation({ updatedAt: ago(0) })
  const app = await build(t, {
    lookupUser: ({ userId, authToken }) => authToken === caller['x-auth-token'] ? { id: userId } : null,
    hasPermission: user => 'id' in user && user.id !== 'guest',
    store: storeWith(() => { lookups++; return of })
  })
  const etag = headerOf((await call(app)).headers, 'etag')
  lookups = 0
  for (const known of [etag, '*']) {
    for (const headers of [{ 'x-auth-token': 'wrong' }, { 'x-auth-token': undefined }, { 'x-user-id': undefined }]) {
      const reply = await call(app, { headers: { ...headers, 'if-none-match': known } })
      t.equal(reply.statusCode, 401)
      t.equal(reply.body, UNAUTHORIZED)
    }
    const forbidden = await call(app, { headers: { 'x-user-id': 'guest', 'if-none-match': known } })
    t.equal(forbidden.statusCode, 403)
    t.equal(forbidden.body, FORBIDDEN)
  }
  t.equal(lookups, 0)
})

t.test('a 304 costs one look-up of the operation, and reads and counts nothing', async t => {
  const read = t.captureFn(() => [])
  const count = t.captureFn(async () => 0)
  const latest = t.captureFn(async () => operation({ updatedAt: new Date(0) }))
  const app = await build(t, {
    store: { latestOperation: latest, users: read, channels: read, contacts: read, countMessages: count }
  })
  const etag = headerOf((await call(app)).headers, 'etag')
  const calls = () => ({ latest: latest.calls.length, read: read.calls.length, count: count.calls.length })
  const before = calls()
  t.equal((await call(app, { headers: { 'if-none-match': etag } })).statusCode, 304)
  t.strictSame(calls(), { ...before, latest: before.latest + 1 })
})

t.test('a 304 is never given to a state that the caller has not seen', async t => {
  const updatedAt = ago(0)
  let current: ImportOperation | null = null
  const app = await build(t, { store: storeWith(() => current), importers: { slack: 'Slack' } })
  const states: Array<ImportOperation | null> = [
    null,
    ...statuses.map(status => operation({ status, updatedAt })),
    ...WAITING.map(status => operation({ status, updatedAt, valid: false })),
    operation({ updatedAt, id: 'operation-2' }),
    operation({ updatedAt, importerKey: 'slack' }),
    operation({ updatedAt, importerKey: 'fax' }),
    operation({ updatedAt: ago(1) })
  ]
  const wholes = []
  for (current of states) wholes.push(await call(app))
  const tags = wholes.map(({ headers }) => headers.etag).filter(etag => etag !== undefined)
  t.equal(tags.length, WAITING.length + SETTLED.length + 3)
  for (const etag of tags) {
    for (const [place, state] of states.entries()) {
      current = state
      const reply = await call(app, { headers: { 'if-none-match': String(etag) } })
      const whole = wholes[place]
      t.equal(reply.statusCode, whole?.headers.etag === etag ? 304 : whole?.statusCode, JSON.stringify(state))
      if (reply.statusCode !== 304) t.equal(reply.body, whole?.body)
    }
  }
})

t.test('F11: a thousand polls of an unchanged operation cost three look-ups each, and but one reply to each poller', async t => {
  const warnings: unknown[] = []
  const onWarning = (warning: unknown) => { warnings.push(warning) }
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))

  const POLLERS = 50
  const ROUNDS = 20
  const calls = { lookupUser: 0, hasPermission: 0, latestOperation: 0, records: 0 }
  const read = () => { calls.records++; return [] }
  let current = preparing({ updatedAt: ago(0) })
  const app = await build(t, {
    lookupUser: () => { calls.lookupUser++; return {} },
    hasPermission: () => { calls.hasPermission++; return true },
    store: {
      // A store that watches for the caller to leave, as the one over MongoDB does.
      latestOperation: async ({ signal }) => { calls.latestOperation++; signal.throwIfAborted(); return current },
      users: read,
      channels: read,
      contacts: read,
      countMessages: async () => read().length
    }
  })
  const port = await listen(app)
  const agent = new Agent({ keepAlive: true, maxSockets: POLLERS })
  t.teardown(() => agent.destroy())

  const known = new Map<number, string>()
  async function round () {
    const replies = await Promise.all(Array.from({ length: POLLERS }, async (_, poller) => {
      const etag = known.get(poller)
      const reply = await send(port, etag === undefined ? {} : { 'if-none-match': etag }, agent)
      known.set(poller, headerOf(reply.headers, 'etag'))
      return reply
    }))
    return {
      whole: replies.filter(({ statusCode, body }) => statusCode === 200 && body !== '').length,
      unchanged: replies.filter(({ statusCode, body }) => statusCode === 304 && body === '').length
    }
  }

  for (let rounds = 0; rounds < ROUNDS; rounds++) {
    // Halfway the operation moves on: each poller is told so, once.
    if (rounds === ROUNDS / 2) current = preparing({ updatedAt: ago(-1), reading: 'general/2023-05-04' })
    const isNews = rounds === 0 || rounds === ROUNDS / 2
    t.strictSame(await round(), isNews ? { whole: POLLERS, unchanged: 0 } : { whole: 0, unchanged: POLLERS })
  }
  const polls = POLLERS * ROUNDS
  t.strictSame(calls, { lookupUser: polls, hasPermission: polls, latestOperation: polls, records: 0 })
  t.strictSame(warnings, [])
})

/** A client that asks again when `Retry-After` says so, by a clock that it moves on itself, until it need not wait any more. */
async function poll (app: FastifyInstance, clock: { now: number }) {
  let etag: string | undefined
  for (let requests = 1; requests <= 10_000; requests++) {
    const reply = await call(app, { headers: { 'if-none-match': etag } })
    const wait = Number(reply.headers['retry-after'])
    if (reply.statusCode !== 304 && !(reply.statusCode === 200 && reply.json().waiting === true)) return { requests, reply }
    etag = headerOf(reply.headers, 'etag') || undefined
    clock.now += wait * 1000
  }
  throw new Error('never ends')
}

t.test('C3: a client that obeys Retry-After ends in every final state, in a bounded number of requests', async t => {
  const clock = stopClock(t)
  const updatedAt = new Date(clock.now)
  const finals: Array<[end: ImportOperation | null, statusCode: number, body: RegExp]> = [
    [operation({ updatedAt }), 200, /"message_count"/],
    [operation({ status: 'importer_done' }), 200, /"message_count"/],
    [operation({ status: 'importer_import_cancelled', updatedAt }), 200, /"message_count"/],
    [operation({ status: 'importer_importing_started', updatedAt }), 200, /"message_count"/],
    [operation({ status: 'importer_import_failed', updatedAt }), 400, /error-import-file-format-invalid/],
    [preparing({ valid: false, updatedAt }), 400, /error-import-operation-invalid/],
    [preparing({ importerKey: 'fax', updatedAt }), 400, /error-importer-not-defined/],
    [null, 400, /error-operation-not-found/]
  ]
  for (const [end, statusCode, body] of finals) {
    const started = clock.now
    const inMinutes = (minutes: number) => started + minutes * 60_000
    // Ten minutes of steps, with a change every two seconds; then nothing but silence for fifty; then the end.
    const app = await build(t, {
      store: storeWith(() => {
        if (clock.now >= inMinutes(60)) return end
        const changed = Math.min(clock.now, inMinutes(10))
        return preparing({ updatedAt: new Date(changed - changed % 2000) })
      })
    })
    const { requests, reply } = await poll(app, clock)
    t.equal(reply.statusCode, statusCode)
    t.match(reply.body, body)
    t.ok(requests < 10 * 60 + 50 * 6 + 60, `${requests} requests in an hour`)
    t.ok(clock.now <= inMinutes(60) + 10_000, 'at most ten seconds late')
  }
})

t.test('C3: a client that obeys Retry-After ends when the preparation of a file does, and when it fails', async t => {
  const clock = stopClock(t)
  for (const fails of [false, true]) {
    const end = deferred()
    const started = clock.now
    let current = loaded()
    const app = await build(t, {
      store: storeWith(() => {
        if (clock.now - started >= 60_000) {
          if (fails) end.reject(new Error('no such format'))
          else current = operation({ updatedAt: new Date(clock.now) })
        }
        return current
      }),
      prepare: () => end.promise
    })
    t.teardown(end.resolve)
    const { requests, reply } = await poll(app, clock)
    if (fails) t.equal(reply.body, FILE_FORMAT_INVALID)
    else t.equal(reply.body, NOTHING_STAGED)
    t.ok(requests <= 60, `${requests} requests in a minute`)
  }
})

/** A cache that several users share (RFC 9111), and that may be careless about what it is told. */
class SharedCache {
  readonly kept = new Map<string, { etag: string, body: string, vary: string[] }>()

  constructor (readonly app: FastifyInstance, readonly obeys: { private: boolean, vary: boolean }) {}

  async call (headers: Record<string, string>): Promise<{ statusCode: number, body: string }> {
    const key = (vary: string[]) => JSON.stringify(vary.map(name => headers[name.toLowerCase()]))
    const stored = [...this.kept].find(([storedKey, { vary }]) => storedKey === key(vary))?.[1]
    const reply = await this.app.inject({ url: URL, headers: { ...headers, ...(stored && { 'if-none-match': stored.etag }) } })
    // `no-cache`: what is kept is given only after the server said that it still holds.
    if (reply.statusCode === 304 && stored) return { statusCode: 200, body: stored.body }
    const isPrivate = headerOf(reply.headers, 'cache-control').includes('private')
    const etag = headerOf(reply.headers, 'etag')
    if (etag !== '' && !(isPrivate && this.obeys.private)) {
      const vary = this.obeys.vary ? headerOf(reply.headers, 'vary').split(', ') : []
      this.kept.set(key(vary), { etag, body: reply.body, vary })
    }
    return { statusCode: reply.statusCode, body: reply.body }
  }
}

t.test('S6: a cache that users share never gives one what another got, however careless it is', async t => {
  const of = operation({ updatedAt: ago(0) })
  const app = await build(t, {
    lookupUser: ({ userId, authToken }) => authToken === `token-of-${userId}` ? { userId } : null,
    hasPermission: user => 'userId' in user && user.userId === 'a',
    store: storeWith(() => of, { users: () => [[{ importIds: ['only-for-a'] }]] })
  })
  const a = { 'x-user-id': 'a', 'x-auth-token': 'token-of-a' }
  const others = [
    [{ 'x-user-id': 'b', 'x-auth-token': 'token-of-b' }, 403, FORBIDDEN],
    [{ 'x-user-id': 'a', 'x-auth-token': 'token-of-b' }, 401, UNAUTHORIZED],
    [{ 'x-user-id': 'b', 'x-auth-token': 'token-of-a' }, 401, UNAUTHORIZED],
    [{ 'x-user-id': 'a' }, 401, UNAUTHORIZED],
    [{}, 401, UNAUTHORIZED]
  ] as const
  for (const obeys of [{ private: true, vary: true }, { private: false, vary: true }, { private: false, vary: false }]) {
    const cache = new SharedCache(app, obeys)
    const first = await cache.call(a)
    t.match(first.body, 'only-for-a')
    t.strictSame(await cache.call(a), { statusCode: 200, body: first.body }, 'by a 304, where the cache keeps anything')
    for (const [headers, statusCode, body] of others) {
      const reply = await cache.call(headers)
      t.equal(reply.statusCode, statusCode)
      t.equal(reply.body, body)
    }
    t.equal(cache.kept.size, obeys.private ? 0 : 1)
  }
})

// prepare

t.test('prepare is called once, however many callers come, and every one of them is told to wait at once', async t => {
  const end = deferred()
  const of = loaded()
  const prepare = t.captureFn(() => end.promise)
  const app = await build(t, { store: storeWith(() => of), prepare })
  const replies = await Promise.all(Array.from({ length: 20 }, () => call(app)))
  for (const reply of replies) t.match(reply.body, '{"waiting":true,"step":"importer_file_loaded","updated_at":')
  for (let calls = 0; calls < 20; calls++) t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 1)
  end.resolve()
})

t.test('prepare is told the operation, the caller\'s credentials, a signal and the request\'s logger', async t => {
  const lines: Array<Record<string, unknown>> = []
  const of = loaded({ importerKey: 'slack' })
  const told: Array<[ImportOperation, PrepareContext]> = []
  const prepare: Prepare = async (...args) => { told.push(args) }
  const server = { ...logInto(lines), genReqId: () => 'request-of-the-first' }
  const app = await build(t, { store: storeWith(() => of), prepare }, server)
  await call(app)
  const [prepared, context] = told[0] ?? []
  t.equal(prepared, of)
  t.strictSame(context?.credentials, { userId: caller['x-user-id'], authToken: caller['x-auth-token'] })
  t.equal(context?.signal.aborted, false)
  context?.log.warn('said by prepare')
  t.match(lines.find(line => line['msg'] === 'said by prepare'), { reqId: 'request-of-the-first' })
})

t.test('who is not let in starts no preparation', async t => {
  const prepare = t.captureFn(async () => {})
  const store = storeWith(() => loaded())
  t.equal((await call(await build(t, { store, prepare, lookupUser: () => null }))).statusCode, 401)
  t.equal((await call(await build(t, { store, prepare, hasPermission: () => false }))).statusCode, 403)
  t.equal(prepare.calls.length, 0)
})

t.test('an operation that is being prepared has Retry-After, ETag, 304 and stalled as any that waits', async t => {
  const clock = stopClock(t)
  const end = deferred()
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare: () => end.promise, stalledAfter: 60_000 })
  const first = await call(app)
  t.equal(first.headers['retry-after'], '1')
  const headers = { 'if-none-match': headerOf(first.headers, 'etag') }
  t.equal((await call(app, { headers })).statusCode, 304)
  clock.now += 60_000
  const stalled = await call(app, { headers })
  t.equal(stalled.json().stalled, true)
  t.equal(stalled.headers['retry-after'], '6')
  end.resolve()
})

t.test('a preparation that ends with another status of the operation gives that status\'s reply', async t => {
  const end = deferred()
  let current = loaded()
  const prepare = t.captureFn(() => end.promise)
  const app = await build(t, { store: storeWith(() => current), prepare })
  t.equal((await call(app)).json().waiting, true)
  current = preparing({ updatedAt: ago(0) })
  t.equal((await call(app)).json().step, 'importer_preparing_messages')
  current = operation({ updatedAt: ago(0) })
  end.resolve()
  t.equal((await call(app)).body, NOTHING_STAGED)
  t.equal(prepare.calls.length, 1)
})

t.test('a preparation that has failed is error-import-file-format-invalid until the operation changes', async t => {
  const updatedAt = ago(5000)
  const changes: Array<Partial<ImportOperation>> = [{ updatedAt: ago(0) }, { status: 'importer_user_selection' }]
  for (const change of changes) {
    let current = loaded({ updatedAt })
    const prepare = t.captureFn(async () => { throw new Error('no such format') })
    const app = await build(t, { store: storeWith(() => current), prepare })
    t.equal((await call(app)).json().waiting, true)
    for (let calls = 0; calls < 3; calls++) {
      const reply = await call(app, { headers: { 'if-none-match': '*' } })
      t.equal(reply.statusCode, 400)
      t.equal(reply.body, FILE_FORMAT_INVALID)
      t.notOk('retry-after' in reply.headers || 'etag' in reply.headers)
    }
    t.equal(prepare.calls.length, 1)
    current = loaded({ updatedAt, ...change })
    const reply = await call(app)
    t.equal(reply.statusCode, 200)
    if (change.status) t.equal(reply.body, NOTHING_STAGED)
    else t.equal(reply.json().waiting, true)
    t.equal(prepare.calls.length, change.status ? 1 : 2, 'prepared anew where it is still to be read')
  }
})

t.test('the log says why a preparation failed, and the reply does not', async t => {
  const lines: Array<Record<string, unknown>> = []
  const prepare: Prepare = async () => { throw new Error('no such format: tar.xz') }
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare }, logInto(lines))
  await call(app)
  t.notMatch((await call(app)).body, 'tar.xz')
  const errors = lines.filter(line => Number(line['level']) >= 50)
  t.match(errors, [{ level: 50, operation: 'operation-1', err: { message: 'no such format: tar.xz' } }])
  t.equal(errors.length, 1)
  t.notMatch(JSON.stringify(lines), caller['x-auth-token'])
})

t.test('a preparation that throws at once fails as any other', async t => {
  const lines: Array<Record<string, unknown>> = []
  const prepare = t.captureFn(() => { throw new Error('thrown at once') })
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare }, logInto(lines))
  t.equal((await call(app)).json().waiting, true)
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
  t.equal(prepare.calls.length, 1)
  t.match(lines.filter(line => Number(line['level']) >= 50), [{ err: { message: 'thrown at once' } }])
})

t.test('a preparation that rejects with nothing fails as any other', async t => {
  const prepare: Prepare = () => Promise.reject() // eslint-disable-line prefer-promise-reject-errors
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare })
  t.equal((await call(app)).json().waiting, true)
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
})

t.test('a preparation that is done, of an operation that has not changed, goes on waiting and is not repeated', async t => {
  let current = loaded({ updatedAt: ago(1000) })
  const prepare = t.captureFn(async () => {})
  const app = await build(t, { store: storeWith(() => current), prepare })
  for (let calls = 0; calls < 5; calls++) t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 1)
  current = loaded({ updatedAt: ago(0) })
  t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 2, 'prepared anew when it has changed, and is still to be read')
})

t.test('what a preparation itself changes of the operation does not have it prepared anew', async t => {
  for (const fails of [false, true]) {
    let current = loaded({ updatedAt: ago(1000) })
    const prepare = t.captureFn(async () => {
      current = loaded({ updatedAt: ago(0) })
      if (fails) throw new Error('no such format')
    })
    const app = await build(t, { store: storeWith(() => current), prepare })
    for (let calls = 0; calls < 5; calls++) await call(app)
    t.equal(prepare.calls.length, 1)
  }
})

t.test('another operation is prepared while the first still is', async t => {
  const ends = new Map<string, ReturnType<typeof deferred>>()
  let current = loaded({ id: 'first' })
  const prepare = t.captureFn(({ id }: ImportOperation) => {
    const end = deferred()
    ends.set(id, end)
    return end.promise
  })
  const app = await build(t, { store: storeWith(() => current), prepare })
  await call(app)
  current = loaded({ id: 'second' })
  t.equal((await call(app)).json().waiting, true)
  t.strictSame([...ends.keys()], ['first', 'second'])
  ends.get('first')?.reject(new Error('no such format'))
  t.equal((await call(app)).json().waiting, true, 'the failure of the first is not the second\'s')
  ends.get('second')?.resolve()
  t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 2)
})

t.test('closing the server aborts the signal of every preparation, and waits for all of them to end', async t => {
  const lines: Array<Record<string, unknown>> = []
  const runs: Array<{ end: ReturnType<typeof deferred>, signal: AbortSignal }> = []
  let current = loaded({ id: 'first' })
  const prepare: Prepare = (_, { signal }) => {
    const end = deferred()
    runs.push({ end, signal })
    return end.promise
  }
  const app = await build(t, { store: storeWith(() => current), prepare }, logInto(lines))
  await call(app)
  current = loaded({ id: 'second' })
  await call(app)

  let isClosed = false
  const aborted = Promise.all(runs.map(({ signal }) => once(signal, 'abort')))
  const closing = app.close().then(() => { isClosed = true })
  await aborted
  runs[0]?.end.resolve()
  await turn()
  t.equal(isClosed, false, 'one still runs')
  runs[1]?.end.reject(new Error('aborted'))
  await closing
  t.strictSame(lines.filter(line => Number(line['level']) >= 50), [], 'that it ended so is no fault')
})

t.test('closing the server after the preparation has ended waits for nothing', async t => {
  const of = loaded()
  for (const prepare of [async () => {}, async () => { throw new Error('no such format') }]) {
    const app = await build(t, { store: storeWith(() => of), prepare })
    await call(app)
    await app.close()
  }
  t.pass()
})

t.test('a call that is under way when the server closes starts no preparation that outlives it', async t => {
  const asked = deferred()
  const answer = deferred()
  const signals: AbortSignal[] = []
  let ended = 0
  const app = await build(t, {
    store: storeOf({
      async latestOperation () {
        asked.resolve()
        await answer.promise
        return loaded()
      }
    }),
    async prepare (_, { signal }) {
      signals.push(signal)
      if (!signal.aborted) await Promise.race([once(signal, 'abort'), turn().then(turn)])
      ended++
    }
  })
  const port = await listen(app)
  const reply = send(port).catch(() => undefined)
  await asked.promise
  const closing = app.close()
  await turn()
  answer.resolve()
  await Promise.all([reply, closing])
  t.equal(ended, signals.length, 'none is still at work')
  t.ok(signals.every(({ aborted }) => aborted), 'each has been told to stop')
})

t.test('a call that goes on after the server has closed starts no preparation', async t => {
  const asked = deferred()
  const answer = deferred()
  const prepare = t.captureFn(async () => {})
  const app = await build(t, {
    store: storeOf({
      async latestOperation () {
        asked.resolve()
        await answer.promise
        return loaded()
      }
    }),
    prepare
  }, { forceCloseConnections: true })
  const port = await listen(app)
  const reply = send(port).catch(() => undefined)
  await asked.promise
  await app.close()
  t.equal(await reply, undefined, 'the connection has been dropped')
  answer.resolve()
  await turn()
  t.equal(prepare.calls.length, 0)
})

t.test('an operation with a file that is loaded gives the selection of what is staged where there is no prepare', async t => {
  const reply = await replyTo(t, loaded())
  t.equal(reply.body, NOTHING_STAGED)
  t.notOk('etag' in reply.headers || 'retry-after' in reply.headers)
})

t.test('an operation that has no file gives the selection of what is staged, and prepare is not called', async t => {
  const prepare = t.captureFn(async () => {})
  for (const file of [null, '', undefined]) {
    const { file: _, ...of } = loaded()
    const reply = await replyTo(t, file === undefined ? of : { ...of, file }, { prepare })
    t.equal(reply.body, NOTHING_STAGED, String(file))
    t.notOk('etag' in reply.headers || 'retry-after' in reply.headers)
  }
  t.equal(prepare.calls.length, 0)
})

t.test('no other status than importer_file_loaded is prepared, even with a file', async t => {
  const prepare = t.captureFn(async () => {})
  for (const status of statuses) {
    if (status !== 'importer_file_loaded') await replyTo(t, loaded({ status }), { prepare })
  }
  t.equal(prepare.calls.length, 0)
})

// Over a real connection

async function listen (app: FastifyInstance): Promise<number> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
}

async function send (port: number, headers: Record<string, string | string[]> = {}, agent: Agent | false = false) {
  const request = get({ port, host: '127.0.0.1', path: URL, headers: { ...caller, ...headers }, agent })
  const replied: Promise<IncomingMessage[]> = once(request, 'response')
  const [reply] = await replied
  if (reply === undefined) throw new Error('no reply')
  let body = ''
  for await (const chunk of reply.setEncoding('utf8')) body += chunk
  return { statusCode: reply.statusCode, headers: reply.headers, body }
}

/** Lets everything that is due happen first. */
function turn (): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
