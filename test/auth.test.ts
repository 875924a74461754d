import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http2 from 'node:http2'
import { inspect } from 'node:util'
import Fastify, { type FastifyRequest } from 'fastify'
import t from 'tap'
import { importFileData, type ImportFileDataOptions } from '../lib/index.js'
import { hashLoginToken, rocketChatDump } from '../lib/rocketchat/index.js'
import {
  build, call, caller, callerLines, captureLog, FORBIDDEN, levels, NOTHING_STAGED, optionsOf, recorded, requestText, sendText, storeOf,
  UNAUTHORIZED, UNAVAILABLE, URL
} from './fixtures/build.js'
import { documents, tokens, userDocument } from './fixtures/documents.js'
import { deferred } from './fixtures/streaming.js'

/** The names of the two headers. */
const headers = ['x-user-id', 'x-auth-token'] as const
const linesWith = (header: string, value: string) => [...callerLines.filter(line => !line.toLowerCase().startsWith(header)), `${header}: ${value}`]

t.test('I1: a missing or blank header gets a 401 reply, and neither the look-up nor the store is called', async t => {
  const { options, calls } = recorded()
  const app = await build(t, options)
  const blank = { missing: undefined, empty: '', 'a space': ' ', spaces: '    ', 'a tab': '\t' }
  for (const header of headers) {
    for (const [kind, value] of Object.entries(blank)) {
      const { statusCode, body } = await call(app, { headers: { [header]: value } })
      t.strictSame([statusCode, body], [401, UNAUTHORIZED], `${header}: ${kind}`)
    }
  }
  const { statusCode, body } = await app.inject(URL)
  t.strictSame([statusCode, body], [401, UNAUTHORIZED], 'both missing')
  t.strictSame(calls, [])
})

t.test('I1: a header with an unknown value is passed to the look-up unchanged, and gets a 401 reply', async t => {
  const seen: unknown[] = []
  const { lookupUser } = optionsOf()
  const app = await build(t, {
    lookupUser (credentials, request) {
      seen.push(credentials)
      return lookupUser(credentials, request)
    }
  })
  const values = [
    'undefined', 'null', 'true', '0', '[object Object]', '{"$ne":null}', '{"$gt":""}', '$where', '["a"]', 'a,b', '__proto__', '../x',
    'x'.repeat(10_000)
  ]
  for (const header of headers) {
    for (const value of values) {
      const { statusCode, body } = await call(app, { headers: { [header]: value } })
      t.strictSame([statusCode, body], [401, UNAUTHORIZED], `${header}: ${value.slice(0, 20)}`)
      const sent = { ...caller, [header]: value }
      t.strictSame(seen.pop(), { userId: sent['x-user-id'], authToken: sent['x-auth-token'] })
    }
  }
})

t.test('I1: non-ASCII bytes are passed to the look-up as Latin-1 text, as Node.js reads headers, and get a 401 reply', async t => {
  const seen: unknown[] = []
  const app = await build(t, { lookupUser (credentials) { seen.push(credentials) } })
  for (const header of headers) {
    const [reply] = await sendText(app, requestText([...linesWith(header, 'hé漢'), 'Connection: close']))
    t.strictSame([reply?.status, reply?.body], [401, UNAUTHORIZED], header)
  }
  const text = Buffer.from('hé漢').toString('latin1')
  t.strictSame(seen, [
    { userId: text, authToken: caller['x-auth-token'] },
    { userId: caller['x-user-id'], authToken: text }
  ])
})

t.test('I1: an invalid HTTP header is rejected before it reaches the plugin, and the server continues to serve', async t => {
  const { options, calls } = recorded()
  const app = await build(t, options)
  const refused = {
    '20 kB': ['x'.repeat(20 * 1024), 431],
    'a NUL': ['a\0b', 400],
    'a CR': ['a\rb', 400],
    'an LF': ['a\nb', 400],
    'a folded line': ['a\r\n b', 400]
  } as const
  for (const header of headers) {
    for (const [kind, [value, status]] of Object.entries(refused)) {
      const replies = await sendText(app, requestText([...linesWith(header, value), 'Connection: close']))
      t.strictSame(replies.map(reply => reply.status), [status], `${header}: ${kind}`)
    }
  }
  t.strictSame(calls, [])
  t.equal((await call(app)).statusCode, 200)
})

t.test('I2: a repeated header, equal or different, gets a 401 reply, and the look-up is not called', async t => {
  const { options, calls } = recorded()
  const app = await build(t, options)
  for (const line of callerLines) {
    const [name] = line.split(':')
    for (const other of [line, `${name}: somebody`, `${name}:`, line.toLowerCase()]) {
      for (const lines of [[...callerLines, other], [other, ...callerLines]]) {
        const [reply] = await sendText(app, requestText([...lines, 'Connection: close']))
        t.strictSame([reply?.status, reply?.body], [401, UNAUTHORIZED], lines.join(' | '))
      }
    }
  }
  t.strictSame(calls, [])
})

t.test('a header value with a comma and a space, such as an LDAP distinguished name, is a single header', async t => {
  const userId = 'uid=ada, ou=people, dc=example'
  const { promise: asked, resolve: ask } = deferred<unknown>()
  const app = await build(t, { lookupUser (credentials) { ask(credentials); return { id: credentials.userId } } })
  // The name of a header may be the value of another.
  const lines = [`X-User-Id: ${userId}`, 'X-Auth-Token: one, two', 'Access-Control-Request-Headers: x-user-id']
  const [reply] = await sendText(app, requestText([...lines, 'Connection: close']))
  t.strictSame([reply?.status, reply?.body], [200, NOTHING_STAGED])
  t.strictSame(await asked, { userId, authToken: 'one, two' })
  const [repeated] = await sendText(app, requestText([...lines, 'x-USER-id: bob, eve', 'Connection: close']))
  t.strictSame([repeated?.status, repeated?.body], [401, UNAUTHORIZED])
})

t.test('over HTTP/2 a repeated header gets a 401 reply, and a header value with a comma is a single header', async t => {
  const app = Fastify({ http2: true })
  t.teardown(() => app.close())
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf({ lookupUser: ({ userId }) => ({ id: userId }) }) })
  const client = http2.connect(await app.listen({ host: '127.0.0.1', port: 0 }))
  t.teardown(() => client.close())
  const rows: Array<[userId: string | string[], status: number]> = [['uid=ada, ou=people', 200], [['ada', 'bob'], 401]]
  for (const [userId, status] of rows) {
    const request = client.request({ ':path': URL, ...caller, 'x-user-id': userId })
    request.resume()
    const [headers] = await once(request, 'response')
    t.equal(headers[':status'], status)
  }
})

t.test('header names are case-insensitive', async t => {
  const app = await build(t)
  for (const lines of [callerLines.map(line => line.replace('X-U', 'x-u')), callerLines.map(line => line.replace(/^[^:]+/, name => name.toUpperCase()))]) {
    const [reply] = await sendText(app, requestText([...lines, 'Connection: close']))
    t.strictSame([reply?.status, reply?.body], [200, NOTHING_STAGED], lines.join(' | '))
  }
})

t.test('only a user object authenticates the caller', async t => {
  const noUsers = [null, undefined, false, true, 0, 1, 7n, '', 'ada', Symbol('ada'), [], [{ id: 'ada' }], () => ({ id: 'ada' })]
  for (const user of noUsers) {
    for (const answer of [user, Promise.resolve(user)]) {
      const { options, calls } = recorded({ lookupUser: () => answer as null })
      const { statusCode, body } = await call(await build(t, options))
      t.strictSame([statusCode, body], [401, UNAUTHORIZED], typeof user)
      t.strictSame(calls, ['lookupUser'])
    }
  }
  for (const user of [{}, { id: 'ada' }, Object.create(null), new Date()]) {
    for (const answer of [user, Promise.resolve(user)]) {
      t.equal((await call(await build(t, { lookupUser: () => answer }))).statusCode, 200)
    }
  }
})

t.test('only the value true grants the permission', async t => {
  for (const no of [false, null, undefined, 0, 1, 7n, '', 'true', Symbol('true'), [], [true], {}, Object(true), () => true]) {
    for (const answer of [no, Promise.resolve(no)]) {
      const { options, calls } = recorded({ hasPermission: () => answer as boolean })
      const { statusCode, body } = await call(await build(t, options))
      t.strictSame([statusCode, body], [403, FORBIDDEN], typeof no)
      t.strictSame(calls, ['lookupUser', 'hasPermission'])
    }
  }
  for (const answer of [true, Promise.resolve(true)]) {
    t.equal((await call(await build(t, { hasPermission: () => answer }))).statusCode, 200)
  }
})

t.test('the look-up gets the two headers and the request, and the permission check gets the same user object, the permission and the request', async t => {
  const user = { id: 'ada' }
  const calls: unknown[][] = []
  const requests = new Set<FastifyRequest>()
  const app = await build(t, {
    lookupUser (credentials, request) {
      calls.push([credentials])
      requests.add(request)
      return user
    },
    hasPermission (found, permission, request) {
      calls.push([found === user, permission])
      requests.add(request)
      return true
    }
  })
  t.equal((await call(app, { url: `${URL}?importerKey=slack` })).statusCode, 200)
  t.strictSame(calls, [[{ userId: caller['x-user-id'], authToken: caller['x-auth-token'] }], [true, 'run-import']])
  t.strictSame([...requests].map(({ url, ip }) => [url, ip]), [[`${URL}?importerKey=slack`, '127.0.0.1']])
})

t.test('concurrent callers are each authenticated by their own headers', async t => {
  const waiting = new Map<string, () => void>()
  const app = await build(t, {
    lookupUser: ({ userId }) => new Promise(resolve => { waiting.set(userId, () => resolve(userId === 'nobody' ? null : { userId })) }),
    hasPermission: user => 'userId' in user && user.userId === 'admin'
  })
  const ids = ['admin', 'nobody', 'guest']
  const replies = ids.map(id => call(app, { headers: { 'x-user-id': id } }))
  while (waiting.size < ids.length) await new Promise(setImmediate)
  for (const id of ids.toReversed()) waiting.get(id)?.()
  t.strictSame((await Promise.all(replies)).map(({ statusCode }) => statusCode), [200, 401, 403])
})

t.test('an authenticated caller is looked up again in the next call', async t => {
  let known = true
  let allowed = true
  const app = await build(t, { lookupUser: () => known ? {} : null, hasPermission: () => allowed })
  t.equal((await call(app)).statusCode, 200)
  allowed = false
  t.equal((await call(app)).statusCode, 403)
  known = false
  t.equal((await call(app)).statusCode, 401)
})

/** How an injected function can fail. The cause may only be in the log. */
const CAUSE = 'connect ECONNREFUSED 10.0.0.7:27017'
const failures: Record<string, () => never | Promise<never>> = {
  'throws an error': () => { throw new Error(CAUSE) },
  'rejects with an error': async () => { throw new Error(CAUSE) },
  'fails with an error whose statusCode is a 5xx': async () => { throw Object.assign(new Error(CAUSE), { statusCode: 502 }) },
  'fails with an error whose statusCode is not a number': async () => { throw Object.assign(new Error(CAUSE), { statusCode: '403' }) },
  'throws a string': () => { throw CAUSE },
  // eslint-disable-next-line prefer-promise-reject-errors
  'rejects with an object': () => Promise.reject({ reason: CAUSE, statusCode: 403 })
}

/** Options in which one of the injected functions fails. */
const injected: Record<string, (fail: () => never | Promise<never>) => Partial<ImportFileDataOptions>> = {
  lookupUser: fail => ({ lookupUser: fail }),
  hasPermission: fail => ({ hasPermission: fail }),
  'store.latestOperation': fail => ({ store: storeOf({ latestOperation: async () => await fail() }) }),
  'store.users': fail => ({ store: storeOf({ users: () => failing(fail) }) }),
  'store.channels': fail => ({ store: storeOf({ channels: () => failing(fail) }) }),
  'store.contacts': fail => ({ store: storeOf({ contacts: () => failing(fail) }) }),
  'store.countMessages': fail => ({ store: storeOf({ countMessages: async () => await fail() }) })
}

async function * failing (fail: () => never | Promise<never>): AsyncGenerator<never[]> {
  yield await fail()
}

for (const [name, put] of Object.entries(injected)) {
  t.test(`a failure of ${name} gets a 503 reply, with the cause in the log and not in the reply`, async t => {
    for (const [kind, fail] of Object.entries(failures)) {
      const log = captureLog()
      const reply = await call(await build(t, put(fail), log.server))
      t.strictSame([reply.statusCode, reply.body], [503, UNAVAILABLE], kind)
      t.equal(reply.headers['retry-after'], '5', kind)
      t.notMatch(JSON.stringify(reply.headers), CAUSE)
      const faults = log.records().filter(({ level }) => level >= levels.error)
      t.equal(faults.length, 1, `${kind}: one error in the log`)
      t.match(JSON.stringify(faults), CAUSE, `${kind}: the cause is in the log`)
    }
  })

  t.test(`a failure of ${name} with a 4xx statusCode gets a reply with that status`, async t => {
    const lockedOut = Object.assign(new Error('Locked out until Monday'), { statusCode: 423, code: 'error-locked-out' })
    const withoutCode = Object.assign(new Error('Not from here'), { statusCode: 451 })
    const rows = [
      [lockedOut, '{"success":false,"error":"Locked out until Monday [error-locked-out]","errorType":"error-locked-out"}'],
      [withoutCode, '{"success":false,"error":"Not from here [error-unavailable-for-legal-reasons]",' +
        '"errorType":"error-unavailable-for-legal-reasons"}']
    ] as const
    for (const [error, expected] of rows) {
      for (const fail of [() => { throw error }, () => Promise.reject(error)]) {
        const log = captureLog()
        const { statusCode, body } = await call(await build(t, put(fail), log.server))
        t.strictSame([statusCode, body], [error.statusCode, expected])
        t.strictSame(log.records().filter(({ level }) => level >= levels.error), [], 'no error in the log')
      }
    }
  })
}

t.test('a rejection without a reason does not authenticate the caller', async t => {
  for (const put of [injected.lookupUser, injected.hasPermission]) {
    for (const nothing of [undefined, null, false, '']) {
      const { options, calls } = recorded(put?.(() => Promise.reject(nothing)))
      const { statusCode, body } = await call(await build(t, options))
      t.strictSame([statusCode, body], [503, UNAVAILABLE])
      t.equal(calls.includes('latestOperation'), false)
    }
  }
})

t.test('S1: the user is checked first, then the permission, and only then the operation is read', async t => {
  const broken = storeOf({ latestOperation: async () => { throw new Error('the store is down') } })
  const empty = storeOf({ latestOperation: async () => null })
  const no = () => false
  const rows = [
    ['no token, no permission', { 'x-auth-token': undefined }, { hasPermission: no }, 401, UNAUTHORIZED, []],
    ['wrong token, no permission', { 'x-auth-token': 'wrong' }, { hasPermission: no }, 401, UNAUTHORIZED, ['lookupUser']],
    ['wrong token, no operation', { 'x-auth-token': 'wrong' }, { store: empty }, 401, UNAUTHORIZED, ['lookupUser']],
    ['wrong token, store fails', { 'x-auth-token': 'wrong' }, { store: broken }, 401, UNAUTHORIZED, ['lookupUser']],
    ['no permission, no operation', {}, { hasPermission: no, store: empty }, 403, FORBIDDEN, ['lookupUser', 'hasPermission']],
    ['no permission, store fails', {}, { hasPermission: no, store: broken }, 403, FORBIDDEN, ['lookupUser', 'hasPermission']],
    ['store fails', {}, { store: broken }, 503, UNAVAILABLE, ['lookupUser', 'hasPermission', 'latestOperation']]
  ] as const
  for (const [name, headers, changes, status, expected, called] of rows) {
    const { options, calls } = recorded(changes)
    const { statusCode, body } = await call(await build(t, options), { headers })
    t.strictSame([statusCode, body], [status, expected], name)
    t.strictSame(calls, called, name)
  }
})

/** Documents with a user who is deactivated, besides ada and bob. */
const withDeactivated = () => documents({ users: [...documents().users, userDocument('deactivated', [tokens.ada], { active: false })] })

/** Invalid credentials, by what is wrong with them. */
const invalidCredentials = {
  'an unknown id': { 'x-user-id': 'nobody' },
  'a known id with a wrong token': { 'x-auth-token': 'wrong' },
  'a deactivated user': { 'x-user-id': 'deactivated' },
  'a malformed id': { 'x-user-id': '{"$ne":null}' }
}

t.test('S2: an unknown user, a wrong token and a malformed id get the same reply, after the same calls', async t => {
  const { options, calls } = recorded(rocketChatDump(withDeactivated()))
  const app = await build(t, options)
  for (const [name, headers] of Object.entries(invalidCredentials)) {
    const reply = await call(app, { headers })
    const { date, ...sameHeaders } = reply.headers
    t.strictSame([reply.statusCode, reply.body], [401, UNAUTHORIZED], name)
    t.strictSame(sameHeaders, {
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'private, no-cache',
      'x-content-type-options': 'nosniff',
      vary: 'X-User-Id, X-Auth-Token',
      'content-length': String(UNAUTHORIZED.length),
      connection: 'keep-alive'
    }, name)
    t.strictSame(calls.splice(0), ['lookupUser'], name)
  }
})

t.test('S2: the time of each of them is reported', async t => {
  const app = await build(t, rocketChatDump(withDeactivated()))
  const times = Object.entries(invalidCredentials).map(([name, headers]) => ({ name, headers: { ...caller, ...headers }, taken: [] as number[] }))
  for (let round = 0; round < 500; round++) {
    for (const { headers, taken } of times) {
      const start = performance.now()
      await app.inject({ url: URL, headers })
      taken.push(performance.now() - start)
    }
  }
  for (const { name, taken } of times) {
    const median = taken.toSorted((one, other) => one - other)[taken.length / 2] ?? NaN
    t.comment(`${name}: ${(median * 1000).toFixed(0)} µs`)
    t.ok(median > 0, name)
  }
})

t.test('S3: a token is identified by its hash only', async t => {
  const hash = createHash('sha256').update(tokens.ada).digest('base64')
  t.equal(hashLoginToken(tokens.ada), hash)

  const all = documents()
  const app = await build(t, rocketChatDump(all))
  t.notMatch(JSON.stringify(all), tokens.ada, 'no document contains the token')
  t.equal((await call(app, { headers: { 'x-auth-token': hash } })).statusCode, 401, 'the hash is not a token')

  const services = { resume: { loginTokens: [{ hashedToken: tokens.ada }] } }
  Object.assign(all, { users: [userDocument(caller['x-user-id'], [], { roles: ['admin'], services })] })
  t.equal((await call(app)).statusCode, 401, 'a plain token in place of a hash does not match')
})

t.test('S3: no method of the store gets the token or the user', async t => {
  const seen: unknown[] = []
  const app = await build(t, {
    store: {
      latestOperation: async (...args) => { seen.push(args); return { id: 'operation-1', status: 'importer_user_selection' } },
      users (...args) { seen.push(args); return [] },
      channels (...args) { seen.push(args); return [] },
      contacts (...args) { seen.push(args); return [] },
      countMessages: async (...args) => { seen.push(args); return 0 }
    }
  })
  t.equal((await call(app)).statusCode, 200)
  t.equal(seen.length, 6)
  // `inspect` does not show what the getters of a prototype return, such as the headers of a request.
  for (const context of seen.flat()) t.strictSame(Reflect.ownKeys(Object(context)).sort(), ['log', 'signal'])
  const text = inspect(seen, { depth: Infinity, showHidden: true, getters: true })
  for (const secret of Object.values(caller)) t.notMatch(text, secret)
})
