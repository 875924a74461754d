import { Agent } from 'node:http'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { ImportDataStore, ImportFileDataOptions, ImportOperation } from '../lib/index.js'
import { FORBIDDEN, NOTHING_STAGED, UNAUTHORIZED, URL, build, call, caller, operation } from './fixtures/build.js'
import { WAITING, SETTLED, statuses, FILE_FORMAT_INVALID, preparing, loaded, malformed, ago, storeWith, replyTo, stopClock, headerOf, poll, send } from './fixtures/progress.js'
import { deferred, listen } from './fixtures/streaming.js'

t.test('only waiting replies and selections that cannot change have an ETag', async t => {
  const expected = new Set<string>([...WAITING, ...SETTLED])
  for (const status of statuses) {
    const reply = await replyTo(t, operation({ status, file: null, updatedAt: ago(0) }))
    t.equal('etag' in reply.headers, expected.has(status), status)
  }
  const unknown = await replyTo(t, malformed(operation({ updatedAt: ago(0) }), { status: 'importer_resting' }))
  t.notOk('etag' in unknown.headers, 'an unknown status')
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

t.test('a selection whose read fails has no ETag and no 304', async t => {
  const down = () => { throw new Error('down') }
  const failing: Array<Partial<ImportDataStore>> = [
    { users: down }, { channels: down }, { contacts: down }, { countMessages: async () => down() }
  ]
  for (const changes of failing) {
    const reply = await call(await build(t, { store: storeWith(() => operation({ updatedAt: ago(0) }), changes) }))
    t.equal(reply.statusCode, 503)
    t.notOk('etag' in reply.headers, `${Object.keys(changes)}: otherwise a browser may cache the error, and show it again after a 304`)
  }
})

t.test('a selection of an operation without updatedAt has no ETag and no 304', async t => {
  for (const status of SETTLED) {
    const app = await build(t, { store: storeWith(() => operation({ status })) })
    const reply = await call(app, { headers: { 'if-none-match': '*' } })
    t.equal(reply.statusCode, 200, status)
    t.notOk('etag' in reply.headers, status)
  }
})

t.test('the ETag of a waiting reply changes with its content, even if the time of the last change is the same', async t => {
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

t.test('an ETag is a valid weak ETag, and does not reveal its content', async t => {
  const reply = await replyTo(t, preparing({ id: 'secret-id', reading: 'secret/2023', updatedAt: ago(0) }))
  const etag = headerOf(reply.headers, 'etag')
  t.match(etag, /^W\/"[\x21\x23-\x7e]+"$/)
  t.notMatch(etag, /secret|importer|\d{13}/)
})

t.test('the ETag is the same for the same state on every server', async t => {
  const updatedAt = ago(0)
  const one = await replyTo(t, preparing({ updatedAt }))
  const other = await replyTo(t, preparing({ updatedAt: new Date(updatedAt) }))
  t.equal(one.headers.etag, other.headers.etag)
})

t.test('the ETag changes with the operation, its status, its importer\'s name and the time of its last change', async t => {
  const updatedAt = ago(1000)
  let current = operation()
  const app = await build(t, { store: storeWith(() => current) })
  const states = [...WAITING, ...SETTLED].flatMap(status => [
    operation({ status, updatedAt }),
    operation({ status, updatedAt, id: 'operation-2' }),
    operation({ status, updatedAt, importerKey: 'csv' }),
    operation({ status, updatedAt, importerKey: 'slack' }),
    operation({ status, updatedAt: new Date(updatedAt.getTime() + 1) })
  ])
  const tags = []
  for (current of states) tags.push((await call(app)).headers.etag)
  t.equal(new Set(tags).size, states.length)
})

t.test('the ETag changes when an operation stalls, so that pollers notice', async t => {
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

t.test('If-None-Match with the ETag gets a 304 reply in every valid form', async t => {
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

t.test('If-None-Match without the ETag, or with an invalid ETag, gets the complete reply', async t => {
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

t.test('a repeated If-None-Match header is a single list', async t => {
  const of = operation({ updatedAt: ago(0) })
  const app = await build(t, { store: storeWith(() => of) })
  const port = await listen(app)
  const etag = headerOf((await call(app)).headers, 'etag')
  t.equal((await send(port, { 'if-none-match': ['"other"', etag] })).statusCode, 304)
  t.equal((await send(port, { 'if-none-match': [etag, '"other, one"'] })).statusCode, 304)
  t.equal((await send(port, { 'if-none-match': ['"other"', '"another"'] })).statusCode, 200)
})

t.test('S6: a 304 reply has no body, and the headers of the complete reply', async t => {
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

t.test('a 304 is sent only after authentication: an ETag reveals nothing to an unauthenticated caller', async t => {
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

t.test('a 304 reads the operation once, and no staged records', async t => {
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

t.test('a 304 is never sent for a state that the caller has not received', async t => {
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

t.test('F11: a thousand polls of an unchanged operation cost three look-ups each, and only one full reply per poller', async t => {
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
      // The store uses the abort signal, as the one for MongoDB does.
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
    // Halfway the operation changes: each poller gets one full reply.
    if (rounds === ROUNDS / 2) current = preparing({ updatedAt: ago(-1), reading: 'general/2023-05-04' })
    const isNews = rounds === 0 || rounds === ROUNDS / 2
    t.strictSame(await round(), isNews ? { whole: POLLERS, unchanged: 0 } : { whole: 0, unchanged: POLLERS })
  }
  const polls = POLLERS * ROUNDS
  t.strictSame(calls, { lookupUser: polls, hasPermission: polls, latestOperation: polls, records: 0 })
  t.strictSame(warnings, [])
})

t.test('C3: a client that honours Retry-After reaches every final state in a bounded number of requests', async t => {
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
    // Two minutes with a change every two seconds, then ten minutes without a change, then the final state.
    const app = await build(t, {
      store: storeWith(() => {
        if (clock.now >= inMinutes(12)) return end
        const changed = Math.min(clock.now, inMinutes(2))
        return preparing({ updatedAt: new Date(changed - changed % 2000) })
      })
    })
    const { requests, reply } = await poll(app, clock)
    t.equal(reply.statusCode, statusCode)
    t.match(reply.body, body)
    t.ok(requests < 2 * 60 + 10 * 6 + 60, `${requests} requests in twelve minutes`)
    t.ok(clock.now <= inMinutes(12) + 10_000, 'at most ten seconds late')
  }
})

t.test('C3: a client that honours Retry-After ends when the preparation of a file ends or fails', async t => {
  const clock = stopClock(t)
  for (const fails of [false, true]) {
    const end = deferred()
    const started = clock.now
    let current = loaded()
    const app = await build(t, {
      store: storeWith(() => {
        if (clock.now - started >= 60_000) {
          if (fails) end.reject(new Error('unknown format'))
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

/** A shared HTTP cache (RFC 9111). It may ignore Cache-Control. */
class SharedCache {
  readonly kept = new Map<string, { etag: string, body: string, vary: string[] }>()

  constructor (readonly app: FastifyInstance, readonly obeys: { private: boolean, vary: boolean }) {}

  async call (headers: Record<string, string>): Promise<{ statusCode: number, body: string }> {
    const key = (vary: string[]) => JSON.stringify(vary.map(name => headers[name.toLowerCase()]))
    const stored = [...this.kept].find(([storedKey, { vary }]) => storedKey === key(vary))?.[1]
    const reply = await this.app.inject({ url: URL, headers: { ...headers, ...(stored && { 'if-none-match': stored.etag }) } })
    // `no-cache`: a stored reply is used only after the server has validated it.
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

t.test('S6: a shared cache never gives a user the reply to another user, even if it ignores Cache-Control', async t => {
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
    t.strictSame(await cache.call(a), { statusCode: 200, body: first.body }, 'with a 304, if the cache stores anything')
    for (const [headers, statusCode, body] of others) {
      const reply = await cache.call(headers)
      t.equal(reply.statusCode, statusCode)
      t.equal(reply.body, body)
    }
    t.equal(cache.kept.size, obeys.private ? 0 : 1)
  }
})
