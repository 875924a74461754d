import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import http2 from 'node:http2'
import { type Socket, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setImmediate as turnOfTheLoop, setTimeout as wait } from 'node:timers/promises'
import tls from 'node:tls'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { type ImportDataStore, type ImportOperation, type StoreContext, importFileData } from '../lib/index.js'
import { build, call, caller, callerLines, captureLog, levels, matchEach, operation, optionsOf, requestText, storeOf, URL } from './fixtures/build.js'
import { countTurns, deferred, listen, readAll, request, stalledCaller, userBatch, watchedUsers } from './fixtures/streaming.js'

/** More batches than the buffers of a connection can hold. */
const LARGE = 200

async function buildOver (t: Test, store: Partial<ImportDataStore>, options = {}, server = {}): Promise<FastifyInstance> {
  return await build(t, { store: storeOf(store), ...options }, server)
}

/** An HTTP/2 client of a server. */
async function overHttp2 (t: Test, store: Partial<ImportDataStore>, options = {}): Promise<http2.ClientHttp2Session> {
  const app = Fastify({ http2: true })
  t.teardown(() => app.close())
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf({ store: storeOf(store), ...options }) })
  const client = http2.connect(await app.listen({ host: '127.0.0.1', port: 0 }))
  t.teardown(() => client.destroy())
  return client
}

t.test('a large selection is sent completely and in chunks, the first long before the last', async t => {
  const { promise: permission, resolve: lastBatchMayCome } = deferred()
  const { users } = watchedUsers(5, batch => batch === 4 ? permission : undefined)
  const app = await buildOver(t, { users })
  const reply = await request(app)
  t.equal(reply.headers['transfer-encoding'], 'chunked')
  const [first] = await once(reply, 'data')
  t.match(String(first), /^\{"users":\[\{"user_id":"U-0-0"/)
  lastBatchMayCome()
  const { text, isWhole } = await readAll(reply)
  t.ok(isWhole)
  t.equal(JSON.parse(String(first) + text).users.length, 5000)
})

t.test('the event loop is not blocked between chunks, even if the store and the caller are fast', async t => {
  const batches = Array.from({ length: 20 }, (_, batch) => userBatch(batch))
  const turnsBefore: number[] = []
  const turnsSoFar = countTurns(t)
  function * users () {
    for (const batch of batches) {
      turnsBefore.push(turnsSoFar())
      yield batch
    }
  }
  await call(await buildOver(t, { users }))
  t.equal(new Set(turnsBefore).size, 20, `${turnsBefore}`)
})

t.test('of many concurrent large selections, only one continues in each turn of the event loop', async t => {
  const turnsSoFar = countTurns(t)
  const readIn = new Map<number, number>()
  const { promise: started, resolve: start } = deferred()
  let callers = 0
  const app = await buildOver(t, {
    async latestOperation () {
      if (++callers === 5) start()
      await started
      return operation()
    },
    * users () {
      for (let batch = 0; batch < 8; batch++) {
        readIn.set(turnsSoFar(), (readIn.get(turnsSoFar()) ?? 0) + 1)
        yield userBatch(batch)
      }
    }
  })
  await Promise.all(Array.from({ length: 5 }, () => call(app)))
  const [[, atOnce], ...later] = [...readIn] as [[number, number], ...Array<[number, number]>]
  t.equal(atOnce, 5, 'all of them start immediately')
  t.equal(later.length, 35)
  t.ok(later.every(([, read]) => read === 1), 'then they take turns')
})

t.test('the event loop is not blocked by records that are left out, either', async t => {
  const direct = Array.from({ length: 10_000 }, () => ({ importIds: [], t: 'd' }))
  const app = await buildOver(t, { channels: () => [direct] })
  const turnsSoFar = countTurns(t)
  const reply = await call(app)
  const turns = turnsSoFar()
  t.equal(reply.json().channels.length, 1)
  t.ok(turns >= 4, `${turns} turns of the loop`)
})

for (const part of ['users', 'channels', 'contacts', 'countMessages', 'latestOperation'] as const) {
  t.test(`F3: a failure of ${part} of the store during a reply aborts the connection, and is logged once`, async t => {
    const { users, seen } = watchedUsers(LARGE)
    const failure = new Error('mongodb://root:secret@db closed the connection')
    const fail = async () => { throw failure }
    let operations = 0
    const failing: Record<typeof part, Partial<ImportDataStore>> = {
      users: { async * users () { yield * users(); throw failure } },
      channels: { users, async * channels () { yield [{ importIds: ['C1'], t: 'c' }]; if (seen.read === LARGE) throw failure } },
      contacts: { users, async * contacts () { yield [{ importIds: ['c1'] }]; if (seen.read === LARGE) throw failure } },
      countMessages: { users, async countMessages () { while (seen.read < LARGE / 2) await turnOfTheLoop(); return await fail() } },
      latestOperation: { users, latestOperation: async () => operations++ === 0 ? operation() : await fail() }
    }
    const log = captureLog()
    const app = await buildOver(t, failing[part], {}, log.server)
    const reply = await request(app)
    const { text, isWhole } = await readAll(reply)
    t.equal(reply.statusCode, 200)
    t.notOk(isWhole)
    t.throws(() => JSON.parse(text), SyntaxError)
    t.notMatch(text, /success|secret/)
    matchEach(t, log.problems(), [{ level: levels.error, reqId: String, err: { message: failure.message } }])
    await seen.closed
    t.equal(seen.open, 0)
    // The count, which is needed last, may fail first.
    if (part === 'countMessages') t.ok(seen.read < LARGE, `${seen.read} batches`)
  })
}

/** Waits until a client has read all that the server has sent. */
async function allRead (client: Socket, server: Socket): Promise<void> {
  for (let sent = -1; sent < server.bytesWritten || client.bytesRead < sent; sent = server.bytesWritten) await turnOfTheLoop()
}

for (const [name, lines, version] of [['HTTP/1.0', [], '1.0'], ['Connection: close', ['Connection: close'], '1.1']] as const) {
  t.test(`F4: with ${name}, where the end of the connection ends the reply, an aborted reply resets the connection`, async t => {
    const app = await buildOver(t, {
      async * users () {
        yield * watchedUsers(3).users()
        // Before libuv 1.52 (Node.js 20, 22), a client sees an end instead of a reset when data comes with it (libuv pull request 4997).
        if (!socket.closed) await allRead(socket, await connection)
        throw new Error('lost')
      }
    })
    const connection = once(app.server, 'connection').then(([accepted]: Socket[]) => accepted!)
    const socket = connect(await listen(app), '127.0.0.1')
    let text = ''
    socket.setEncoding('latin1').on('data', data => { text += data })
    socket.write(requestText([...callerLines, ...lines], { start: `GET ${URL} HTTP/${version}` }))
    await t.rejects(once(socket, 'close'), { code: 'ECONNRESET' })
    t.match(text, /^HTTP\/1\.1 200 /)
    t.throws(() => JSON.parse(text.slice(text.indexOf('\r\n\r\n'))), SyntaxError)
    const { isWhole } = await readAll(await request(app))
    t.notOk(isWhole, 'the store fails again, and the server still replies')
  })
}

t.test('F4: a handlerTimeout of the route aborts a selection that takes longer: it resets the connection, and is in the log', async t => {
  const log = captureLog()
  const { users, seen } = watchedUsers(10, async batch => {
    if (batch === 5) await allRead(socket, await connection).then(() => new Promise(() => {}))
  })
  const app = await buildOver(t, { users }, { route: { handlerTimeout: 500 } }, log.server)
  const connection = once(app.server, 'connection').then(([accepted]: Socket[]) => accepted!)
  const socket = connect(await listen(app), '127.0.0.1')
  let text = ''
  socket.setEncoding('latin1').on('data', data => { text += data })
  socket.write(requestText(callerLines, { start: `GET ${URL} HTTP/1.0` }))
  await t.rejects(once(socket, 'close'), { code: 'ECONNRESET' })
  t.match(text, /^HTTP\/1\.1 200 /)
  t.equal(seen.read, 5)
  matchEach(t, log.problems(), [{ level: levels.error, msg: /^The selection was aborted/, err: { code: 'FST_ERR_HANDLER_TIMEOUT' } }])
})

t.test('F4: a selection that ends within the handlerTimeout of the route is complete, and its connection is used again', async t => {
  const log = captureLog()
  const app = await buildOver(t, { users: watchedUsers(LARGE).users }, { route: { handlerTimeout: 60_000 } }, log.server)
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines) + requestText([...callerLines, 'Connection: close']))
  t.equal((await text(socket)).match(/"success":true\}/g)?.length, 2)
  t.strictSame(log.problems(), [])
})

/** A pre-shared key, so that TLS needs no certificate. */
const psk = Buffer.alloc(32, 7)

const connections: Record<string, (t: Test, app: FastifyInstance) => Promise<Socket>> = {
  async 'a Unix domain socket' (t, app) {
    // The path of a tap folder is too long for a Unix domain socket.
    const folder = await mkdtemp(join(tmpdir(), 'socket-'))
    t.teardown(() => rm(folder, { recursive: true }))
    const path = join(folder, 'server')
    await app.listen({ path })
    return connect(path)
  },
  async TLS (_t, app) {
    return tls.connect({
      port: await listen(app),
      host: '127.0.0.1',
      ciphers: 'PSK+HIGH',
      pskCallback: () => ({ psk, identity: 'test' }),
      checkServerIdentity: () => undefined
    })
  }
}

for (const [name, open] of Object.entries(connections)) {
  t.test(`F4: over ${name}, which cannot be reset, an aborted reply ends without the last chunk`, async t => {
    const server = name === 'TLS' ? { https: { ciphers: 'PSK+HIGH', pskCallback: () => psk } } : {}
    const app = await buildOver(t, { async * users () { yield * watchedUsers(3).users(); throw new Error('lost') } }, {}, server)
    const socket = await open(t, app)
    let text = ''
    socket.setEncoding('latin1').on('data', data => { text += data })
    socket.write(requestText(callerLines))
    await once(socket, 'close')
    t.match(text, /"user_id":"U-0-0"/)
    t.notMatch(text, /\r\n0\r\n\r\n$/)
  })
}

t.test('F4: no incomplete selection is valid JSON', async t => {
  let staged: { names: string[], channels: string[] } = { names: [], channels: [] }
  const app = await buildOver(t, {
    users: () => [staged.names.map(name => ({ importIds: [name], username: name }))],
    channels: () => [staged.channels.map(name => ({ importIds: [name], name, t: 'c' }))]
  })
  await fc.assert(fc.asyncProperty(fc.array(fc.string()), fc.array(fc.string()), async (names, channels) => {
    staged = { names, channels }
    const text = (await call(app)).body
    for (let length = 0; length < text.length; length++) {
      let parsed: unknown
      try { parsed = JSON.parse(text.slice(0, length)) } catch { continue }
      throw new Error(`a prefix parses: ${String(parsed)}`)
    }
  }), { numRuns: 100 })
  t.pass()
})

t.test('F5: a store that hangs for longer than writeTimeout does not abort the reply', async t => {
  const { users } = watchedUsers(6, batch => batch % 2 === 1 ? wait(150) : undefined)
  const app = await buildOver(t, { users }, { writeTimeout: 30 })
  const { text, isWhole } = await readAll(await request(app))
  t.ok(isWhole)
  t.equal(JSON.parse(text).users.length, 6000)
})

t.test('F8: if a caller disconnects during the look-up, the store\'s signal is aborted at once, no records are read, and no error is logged', async t => {
  for (const [found, aborted] of [[{}, [true]], [null, []]] as const) {
    const log = captureLog()
    const { promise: lookedUp, resolve: asked } = deferred()
    const { promise: user, resolve: answer } = deferred<object | null>()
    const { users, seen } = watchedUsers(1)
    const wereAborted: boolean[] = []
    const app = await buildOver(t, {
      users,
      async latestOperation ({ signal }) { wereAborted.push(signal.aborted); return operation() }
    }, { lookupUser: () => { asked(); return user } }, log.server)
    const socket = connect(await listen(app), '127.0.0.1')
    socket.write(requestText(callerLines))
    await lookedUp
    socket.destroy()
    await serverHasNoConnection(app)
    answer(found)
    await disconnectIsLogged(log)
    t.strictSame([wereAborted, seen.read, log.problems()], [aborted, 0, []])
  }
})

t.test('F8: if a caller disconnects before the first record, the store\'s signal is aborted, and no error is logged', async t => {
  const log = captureLog()
  const { promise: asked, resolve: wasAsked } = deferred()
  const { promise: ended, resolve: hasEnded } = deferred()
  const app = await buildOver(t, {
    async * users ({ signal }) {
      wasAsked()
      try {
        await wait(60_000, undefined, { signal })
      } finally {
        hasEnded()
      }
    }
  }, {}, log.server)
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines))
  await asked
  socket.destroy()
  await ended
  await disconnectIsLogged(log)
  t.strictSame(log.problems(), [])
})

t.test('F8: a signal that a store reads after the caller has disconnected is already aborted', async t => {
  let signal: AbortSignal | undefined
  const { promise: read, resolve: hasRead } = deferred()
  const app = await buildOver(t, {
    async latestOperation (context) {
      socket.destroy()
      await serverHasNoConnection(app)
      signal = context.signal
      hasRead()
      return operation()
    }
  })
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines))
  await read
  t.ok(signal?.aborted)
})

t.test('F8: a copy of the context has the logger, and the signal, which is aborted when the caller disconnects', async t => {
  const { promise: copied, resolve: hasCopied } = deferred<StoreContext>()
  const app = await buildOver(t, {
    async latestOperation (context) {
      hasCopied({ ...context })
      return operation()
    },
    countMessages: ({ signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  })
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines))
  const { signal, log } = await copied
  socket.destroy()
  if (!signal.aborted) await once(signal, 'abort')
  t.equal(typeof log.info, 'function')
})

t.test('F8: if a caller disconnects during a reply, at most one more batch is read', async t => {
  const log = captureLog()
  const { users, seen } = watchedUsers(100_000)
  let readWhenAborted = Infinity
  const app = await buildOver(t, {
    users ({ signal }) {
      signal.addEventListener('abort', () => { readWhenAborted = seen.read })
      return users()
    }
  }, {}, log.server)
  const reply = await request(app)
  await once(reply, 'data')
  reply.destroy()
  await seen.closed
  t.ok(seen.read <= readWhenAborted + 1, `${seen.read} batches, ${readWhenAborted} of them before the caller disconnected`)
  t.strictSame(log.problems(), [])
})

t.test('F8: a store with small batches that ignores the signal is not read further after the caller has disconnected', async t => {
  const { promise: closed, resolve: close } = deferred()
  let read = 0
  let readWhenAborted = Infinity
  const app = await buildOver(t, {
    async * users ({ signal }) {
      signal.addEventListener('abort', () => { readWhenAborted = read })
      try {
        for (;;) {
          if (++read === 5) socket.destroy()
          await turnOfTheLoop()
          yield userBatch(read, 1)
        }
      } finally { close() }
    }
  })
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines))
  await closed
  t.ok(read <= readWhenAborted + 1, `${read} batches, ${readWhenAborted} of them before the caller disconnected`)
})

for (const uses of [true, false]) {
  t.test(`F8: a hook that ends the reply while the first batch is read ends the read, if the store ${uses ? 'uses' : 'ignores'} the signal`, async t => {
    const { seen, users } = watchedUsers(LARGE)
    // In an object, because a reply is a promise of its own end.
    const held = deferred<{ reply: FastifyReply }>()
    const reasons: unknown[] = []
    const app = await buildOver(t, {
      async * users ({ signal }: StoreContext) {
        const { reply } = await held.promise
        const ended = uses ? once(signal, 'abort') : once(reply.raw, 'close')
        reply.code(504).send('late')
        await ended
        if (uses) reasons.push(signal.reason)
        yield * users()
      }
    }, { route: { preHandler: async (_request: FastifyRequest, reply: FastifyReply) => held.resolve({ reply }) } })
    const { text } = await readAll(await request(app))
    t.equal(text, 'late')
    await seen.closed
    t.strictSame([seen.read, seen.open], [1, 0])
    t.match(reasons, uses ? [{ message: 'The reply has ended' }] : [])
  })
}

t.test('F8: a caller that disconnects after the last record is not logged as an error', async t => {
  const log = captureLog()
  const app = await buildOver(t, {}, {}, log.server)
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines))
  await once(socket, 'data')
  socket.destroy()
  await serverHasNoConnection(app)
  t.strictSame(log.problems(), [])
})

t.test('F9: a caller that stops reading is dropped after writeTimeout, and until then no more is read from the store', async t => {
  const log = captureLog()
  const { users, seen } = watchedUsers(100_000)
  const app = await buildOver(t, { users }, { writeTimeout: 300 }, log.server)
  const socket = await stalledCaller(app)
  await seen.closed
  t.ok(seen.read < 500, `${seen.read} batches, which the buffers of the connection hold`)
  matchEach(t, log.problems(), [{ level: levels.warn, msg: /stopped reading/, writeTimeout: 300 }])
  socket.destroy()
})

t.test('F9: a caller that reads slowly is not dropped', async t => {
  const { users } = watchedUsers(LARGE)
  const app = await buildOver(t, { users }, { writeTimeout: 400 })
  const reply = await request(app)
  let size = 0
  for await (const chunk of reply) {
    size += chunk.length
    // Slowly for several times writeTimeout (progress is seen only when the system's buffers have room), then to the end.
    if (size < 16_000_000) await wait(5)
  }
  t.ok(reply.complete)
})

t.test('by default a caller who stops reading is dropped after a minute', async t => {
  const { promise: permission, resolve: lastBatchMayCome } = deferred()
  const { users } = watchedUsers(5, batch => batch === 4 ? permission : undefined)
  const app = await buildOver(t, { users })
  const connection = once(app.server, 'connection')
  const reply = await request(app)
  const [socket]: Socket[] = await connection
  t.equal(socket?.timeout, 60_000)
  lastBatchMayCome()
  t.ok((await readAll(reply)).isWhole)
})

/** A server of large selections with a timeout of its own, and the timeout that its first connection has when it closes. */
async function buildWithTimeout (t: Test, connectionTimeout: number) {
  const { users } = watchedUsers(3)
  const app = await buildOver(t, { users }, { writeTimeout: 1234 }, { keepAliveTimeout: 0, connectionTimeout })
  const { promise: timeout, resolve: closed } = deferred<number | undefined>()
  app.server.on('connection', socket => { socket.on('close', () => closed(socket.timeout)) })
  return { app, timeout }
}

for (const connectionTimeout of [0, 77_000]) {
  t.test(`after a reply its connection has the timeout of the server again: ${connectionTimeout}`, async t => {
    const { app, timeout } = await buildWithTimeout(t, connectionTimeout)
    await readAll(await request(app))
    t.equal(await timeout ?? 0, connectionTimeout)
  })

  t.test(`after pipelined replies their connection has the timeout of the server again: ${connectionTimeout}`, async t => {
    const { app, timeout } = await buildWithTimeout(t, connectionTimeout)
    const socket = connect(await listen(app), '127.0.0.1')
    socket.write(requestText(callerLines) + requestText([...callerLines, 'Connection: close']))
    t.equal((await text(socket)).match(/HTTP\/1.1 200 OK/g)?.length, 2)
    t.equal(await timeout ?? 0, connectionTimeout)
  })
}

t.test('F12: a poll gets its reply while twenty large selections are in progress', async t => {
  const { users, seen } = watchedUsers(30)
  const app = await buildOver(t, { users })
  const poller = await build(t, { store: storeOf({ latestOperation: async () => operation({ status: 'importer_preparing_users' }) }) })
  const streams = Promise.all(Array.from({ length: 20 }, async () => await readAll(await request(app))))
  while (seen.read < 30) await turnOfTheLoop()
  const poll = await readAll(await request(poller))
  t.equal(JSON.parse(poll.text).waiting, true)
  t.ok(seen.read < 20 * 30, 'the selections are still in progress')
  t.ok((await streams).every(({ isWhole, text }) => isWhole && JSON.parse(text).users.length === 30_000))
})

const before = { id: 'first', status: 'importer_user_selection', valid: true, updatedAt: new Date(1) } as const

/** Changes of the newest operation while its selection is read. */
const changes: Array<[what: string, before: ImportOperation, after: ImportOperation | null]> = [
  ['is replaced', before, { ...before, id: 'second' }],
  ['is deleted', before, null],
  ['becomes invalid', before, { ...before, valid: false }],
  ['has another status', before, { ...before, status: 'importer_import_cancelled' }],
  ['is started', before, { ...before, status: 'importer_importing_users' }],
  ['was updated', before, { ...before, updatedAt: new Date(2) }],
  ['is being imported and becomes invalid', { ...before, status: 'importer_importing_users' },
    { ...before, status: 'importer_importing_users', valid: false }],
  ['is done and is replaced', { ...before, status: 'importer_done' }, { ...before, status: 'importer_done', id: 'second' }]
]

for (const [what, first, second] of changes) {
  t.test(`F13: a selection whose operation ${what} during the read is aborted if it is large, and a 503 if it is small and that happens twice`, async t => {
    for (const batches of [1, LARGE]) {
      const log = captureLog()
      const { users, seen } = watchedUsers(batches, () => undefined, batches === 1 ? 10 : 1000)
      let operations = 0
      const latestOperation = async () => operations++ % 2 === 0 ? first : second
      const app = await buildOver(t, { users, latestOperation }, {}, log.server)
      const reply = await request(app)
      const { text, isWhole } = await readAll(reply)
      t.notMatch(text, '"success":true')
      if (batches === 1) {
        t.strictSame([reply.statusCode, JSON.parse(text).errorType], [503, 'error-service-unavailable'])
        t.match(reply.headers, { 'retry-after': '5' })
        t.equal(reply.headers.etag, undefined)
      } else {
        t.notOk(isWhole)
        t.throws(() => JSON.parse(text), SyntaxError)
      }
      matchEach(t, log.problems(), [
        { err: { message: /operation changed/ } }
      ])
      t.strictSame([operations, seen.open], [batches === 1 ? 4 : 2, 0])
    }
  })

  t.test(`F13: a small selection whose operation ${what} once during the read is read again`, async t => {
    const log = captureLog()
    const { users, seen } = watchedUsers(1, () => undefined, 10)
    const app = await buildOver(t, { users, latestOperation: async () => seen.read === 0 ? first : second }, {}, log.server)
    const expected = await request(await buildOver(t, { users: watchedUsers(1, () => undefined, 10).users, latestOperation: async () => second }))
    const reply = await request(app)
    t.equal((await readAll(reply)).text, (await readAll(expected)).text)
    t.strictSame([reply.statusCode, reply.headers.etag], [expected.statusCode, expected.headers.etag])
    t.equal(seen.open, 0)
    t.strictSame(log.problems(), [])
  })
}

t.test('F13: a change is found in the store\'s own operation object, too', async t => {
  const changing = { ...before }
  const { users } = watchedUsers(1, () => undefined, 10)
  let operations = 0
  const app = await buildOver(t, { latestOperation: async () => Object.assign(changing, { id: String(operations++) }), users })
  t.equal((await request(app)).statusCode, 503)
})

t.test('F13: a selection of an operation that makes progress while its records are imported is sent completely', async t => {
  const { users, seen } = watchedUsers(LARGE)
  const statuses = ['importer_importing_users', 'importer_importing_channels'] as const
  const app = await buildOver(t, {
    users,
    latestOperation: async () => ({ ...before, status: statuses[Math.min(seen.read, 1)]!, updatedAt: new Date(seen.read) })
  })
  t.ok((await readAll(await request(app))).isWhole)
})

for (const failing of ['users', 'channels', 'contacts', 'countMessages'] as const) {
  t.test(`a failure of ${failing} of the store aborts the signal of all its other reads`, async t => {
    for (const isLarge of [false, true]) {
      const { users } = watchedUsers(LARGE)
      const { promise: sent, resolve: send } = deferred()
      const signals: AbortSignal[] = []
      let areAborted = false
      async function fail (): Promise<never> {
        if (isLarge) await sent
        throw new Error('lost')
      }
      const app = await buildOver(t, {
        async * users ({ signal }) {
          signals.push(signal)
          if (isLarge) { for await (const batch of users()) { yield batch; if (signals.length > 2) send() } }
          if (failing === 'users') await fail()
        },
        async * channels ({ signal }) {
          signals.push(signal)
          yield [{ importIds: ['1'], t: 'c' }]
          if (failing === 'channels') await fail()
        },
        async * contacts ({ signal }) {
          signals.push(signal)
          yield [{ importIds: ['1'] }]
          if (failing === 'contacts') await fail()
        },
        async countMessages ({ signal }) {
          signals.push(signal)
          if (failing === 'countMessages') await fail()
          return 0
        }
      }, { route: { onSend: async () => { areAborted = signals.every(({ aborted }) => aborted) } } })
      const reply = await request(app)
      const { isWhole } = await readAll(reply)
      t.strictSame(isLarge ? isWhole : reply.statusCode, isLarge ? false : 503)
      t.ok(signals.length >= 4 && signals.every(({ aborted }) => aborted))
      if (!isLarge) t.ok(areAborted, 'they end before the reply is sent')
    }
  })
}

t.test('backpressure applies to records of any length, also within a batch', async t => {
  let serialized = 0
  const fat = Array.from({ length: 2000 }, (_, index) => ({
    importIds: [String(index)],
    get username () { serialized++; return 'x'.repeat(100_000) }
  }))
  const { promise: dropped, resolve: drop } = deferred()
  const app = await buildOver(t, { users: ({ signal }) => { signal.addEventListener('abort', () => drop()); return [fat] } }, { writeTimeout: 300 })
  const socket = await stalledCaller(app)
  await dropped
  t.ok(serialized < 200, `${serialized} records of 100 kB, which the buffers of the connection hold`)
  socket.destroy()
})

t.test('F14: closing waits until a reply in progress is sent completely, and rejects new calls', async t => {
  const { promise: permission, resolve: mayGoOn } = deferred()
  const { users } = watchedUsers(10, batch => batch === 5 ? permission : undefined)
  const app = await buildOver(t, { users })
  const reply = await request(app)
  await once(reply, 'data')
  const port = await listen(app)
  const closed = app.close()
  while (app.server.listening) await turnOfTheLoop()
  await t.rejects(once(connect(port, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' })
  mayGoOn()
  const { isWhole } = await readAll(reply)
  t.ok(isWhole)
  await closed
})

t.test('F14: closing ends even if a caller has stopped reading', async t => {
  const { users, seen } = watchedUsers(100_000)
  const app = await buildOver(t, { users }, { writeTimeout: 200 })
  const socket = await stalledCaller(app)
  while (seen.read < 10) await turnOfTheLoop()
  await app.close()
  await seen.closed
  t.equal(seen.open, 0)
  socket.destroy()
})

for (const [name, onSend] of Object.entries({
  throws: () => { throw new Error('an error of a hook') },
  'wraps the stream and destroys it': (payload: unknown) => payload instanceof Readable
    ? payload.pipe(new Transform({ transform (_chunk, _encoding, done) { done(new Error('an error of the wrapping stream')) } }))
    : payload
})) {
  t.test(`F15: an onSend hook of the host that ${name} leaves no cursor open`, async t => {
    const { users, seen } = watchedUsers(LARGE)
    const app = Fastify()
    t.teardown(() => app.close())
    app.addHook('onSend', async (_request, _reply, payload) => payload instanceof Readable ? onSend(payload) : payload)
    await app.register(importFileData, { prefix: '/api/v1', ...optionsOf({ store: storeOf({ users }) }) })
    const reply = await request(app)
    const { text } = await readAll(reply)
    t.notMatch(text, /"success":true/)
    await seen.closed
    t.equal(seen.open, 0)
    app.server.closeAllConnections()
  })
}

for (const [name, reason] of [['without an error', undefined], ['with an error', new Error('an error of a hook')]] as const) {
  t.test(`F15: an onSend hook of the host may destroy the stream ${name}, and send something else later`, async t => {
    const { users, seen } = watchedUsers(LARGE)
    const log = captureLog()
    async function onSend (_request: unknown, _reply: unknown, payload: unknown) {
      if (!(payload instanceof Readable)) return payload
      payload.destroy(reason)
      await seen.closed
      await turnOfTheLoop()
      return 'something else'
    }
    const { text, isWhole } = await readAll(await request(await buildOver(t, { users }, { route: { onSend } }, log.server)))
    t.strictSame([text, isWhole, seen.open, log.problems()], ['something else', true, 0, []])
  })
}

t.test('over HTTP/2 a selection is sent completely, and a caller that disconnects ends the read', async t => {
  const { users, seen } = watchedUsers(LARGE)
  const signals: AbortSignal[] = []
  const client = await overHttp2(t, { users ({ signal }) { signals.push(signal); return users() } })

  const whole = client.request({ ':path': URL, ...caller })
  let text = ''
  for await (const chunk of whole.setEncoding('utf8')) text += chunk
  t.equal(JSON.parse(text).users.length, LARGE * 1000)

  const left = client.request({ ':path': URL, ...caller })
  await once(left, 'data')
  left.close(http2.constants.NGHTTP2_CANCEL)
  while (!signals[1]?.aborted || seen.open > 0) await turnOfTheLoop()
  t.ok(seen.read < 2 * LARGE)
  t.notOk(signals[0]?.aborted)
})

t.test('over HTTP/2 a caller that stops reading and resets its stream without an error code ends the read', async t => {
  const { users, seen } = watchedUsers(100_000)
  const client = await overHttp2(t, { users })
  const left = client.request({ ':path': URL, ...caller })
  await once(left, 'response')
  left.pause()
  // Once nothing more is read, data waits for the flow control of HTTP/2.
  for (let read = -1, turns = 0; turns < 200; turns++) {
    if (seen.read !== read) turns = 0
    read = seen.read
    await turnOfTheLoop()
  }
  left.close()
  await seen.closed
  t.equal(seen.open, 0)
})

t.test('over HTTP/2 a caller that stops reading is dropped, also if the store has hung for longer than writeTimeout before', async t => {
  const { users, seen } = watchedUsers(100_000, batch => batch === 4 ? wait(150) : undefined)
  const client = await overHttp2(t, { users }, { writeTimeout: 30 })
  const stalled = client.request({ ':path': URL, ...caller })
  stalled.on('error', () => {})
  let size = 0
  stalled.on('data', chunk => {
    size += chunk.length
    if (size > 1_000_000) stalled.pause()
  })
  await seen.closed
  t.ok(seen.read > 4, 'after the pause of the store')
})

t.test('over HTTP/2 a silent store is not taken for a caller that stops reading, also with an onTimeout hook of the host', async t => {
  const { users } = watchedUsers(10, batch => batch === 4 ? wait(150) : undefined)
  const client = await overHttp2(t, { users }, { writeTimeout: 30, route: { onTimeout: async () => {} } })
  const whole = client.request({ ':path': URL, ...caller })
  t.equal(JSON.parse(await text(whole)).users.length, 10_000)
})

t.test('over HTTP/2 an aborted reply does not look complete', async t => {
  const client = await overHttp2(t, { async * users () { yield * watchedUsers(LARGE).users(); throw new Error('lost') } })
  const broken = client.request({ ':path': URL, ...caller })
  broken.resume()
  await t.rejects(once(broken, 'end'), { code: 'ERR_HTTP2_STREAM_ERROR' })
})

t.test('F8: if a caller disconnects while the operation is read, no records are read', async t => {
  const { seen, users } = watchedUsers(3)
  const { promise: looking, resolve: looks } = deferred()
  const { promise: answered, resolve: answer } = deferred()
  const log = captureLog()
  const app = await buildOver(t, { users, async latestOperation () { looks(); await answered; return operation() } }, {}, log.server)
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines))
  await looking
  socket.destroy()
  await serverHasNoConnection(app)
  answer()
  await disconnectIsLogged(log)
  t.equal(seen.read, 0)
})

/** Pipelines three requests, disconnects when each has a read that is open, and waits until none is. */
async function leavePipelined (app: FastifyInstance, reads: { readonly open: number }): Promise<void> {
  const socket = connect(await listen(app), '127.0.0.1')
  socket.on('error', () => {})
  socket.write(requestText(callerLines).repeat(3))
  while (reads.open < 3) await turnOfTheLoop()
  socket.destroy()
  while (reads.open > 0) await turnOfTheLoop()
}

t.test('F8: the reads of all pipelined requests end when their caller disconnects', async t => {
  const { seen, users } = watchedUsers(100_000)
  const signals: AbortSignal[] = []
  const app = await buildOver(t, { users ({ signal }) { signals.push(signal); return users() } })
  await leavePipelined(app, seen)
  t.strictSame(signals.map(({ aborted }) => aborted), [true, true, true])
})

t.test('F8: the signals of pipelined requests that have no batch yet are aborted when their caller disconnects', async t => {
  const signals: AbortSignal[] = []
  const reads = { open: 0 }
  const app = await buildOver(t, {
    async * users ({ signal }) {
      signals.push(signal)
      reads.open++
      await once(signal, 'abort')
      reads.open--
    }
  })
  await leavePipelined(app, reads)
  t.strictSame(signals.map(({ aborted }) => aborted), [true, true, true])
})

t.test('the signal of a complete reply is not aborted, whatever its size', async t => {
  for (const batches of [0, 5]) {
    const { users } = watchedUsers(batches)
    const signals: AbortSignal[] = []
    const app = await buildOver(t, { users ({ signal }) { signals.push(signal); return users() } })
    const replied = new Promise<void>(resolve => { app.addHook('onResponse', async () => resolve()) })
    t.ok((await readAll(await request(app))).isWhole)
    await replied
    await turnOfTheLoop()
    t.strictSame(signals.map(({ aborted }) => aborted), [false], `${batches} batches`)
  }
})

t.test('fifty concurrent callers each get the complete reply', async t => {
  const { users, seen } = watchedUsers(5)
  const app = await buildOver(t, { users })
  const replies = await Promise.all(Array.from({ length: 50 }, async () => await readAll(await request(app))))
  t.ok(replies.every(({ text, isWhole }) => isWhole && JSON.parse(text).users.length === 5000))
  t.equal(seen.open, 0)
  t.equal((await call(app)).json().users.length, 5000, 'the next call, too')
})

async function disconnectIsLogged ({ lines }: { lines: string[] }): Promise<void> {
  while (!lines.some(line => line.includes('The caller disconnected before the reply'))) await turnOfTheLoop()
}

async function serverHasNoConnection (app: FastifyInstance): Promise<void> {
  const count = () => new Promise<number>((resolve, reject) => {
    app.server.getConnections((error, connections) => error ? reject(error) : resolve(connections))
  })
  while (await count() > 0) await turnOfTheLoop()
  // Node.js tells the reply a turn later.
  await turnOfTheLoop()
}
