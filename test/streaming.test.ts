import { once } from 'node:events'
import http2 from 'node:http2'
import { connect } from 'node:net'
import { Readable, Transform } from 'node:stream'
import { setImmediate as turnOfTheLoop, setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { type ImportDataStore, importFileData } from '../lib/index.js'
import { build, call, caller, callerLines, captureLog, levels, operation, optionsOf, requestText, sendText, storeOf, URL } from './fixtures/build.js'
import { countTurns, deferred, listen, readAll, request, stalledCaller, userBatch, watchedUsers } from './fixtures/streaming.js'

/** Enough that the buffers of a connection cannot hold it. */
const LARGE = 200

async function buildOver (t: Test, store: Partial<ImportDataStore>, options = {}, server = {}): Promise<FastifyInstance> {
  return await build(t, { store: storeOf(store), ...options }, server)
}

/** A client of a server that speaks HTTP/2. */
async function overHttp2 (t: Test, store: Partial<ImportDataStore>): Promise<http2.ClientHttp2Session> {
  const app = Fastify({ http2: true })
  t.teardown(() => app.close())
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf({ store: storeOf(store) }) })
  const client = http2.connect(await app.listen({ host: '127.0.0.1', port: 0 }))
  t.teardown(() => client.close())
  return client
}

async function nextCallIsRight (t: Test, app: FastifyInstance): Promise<void> {
  const reply = await request(app)
  const { text, isWhole } = await readAll(reply)
  t.strictSame([reply.statusCode, isWhole, JSON.parse(text).success], [200, true, true], 'the next call is right')
}

t.test('a large selection comes whole, in pieces, with a first batch long before the last', async t => {
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

t.test('the event loop is let go between chunks, though the store answers at once and the reader is fast', async t => {
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

t.test('of many large selections at once, one goes on in each turn of the event loop', async t => {
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
  t.equal(atOnce, 5, 'all of them begin at once')
  t.equal(later.length, 35)
  t.ok(later.every(([, read]) => read === 1), 'and then take turns')
})

t.test('the event loop is let go by records that make no text, too', async t => {
  const direct = Array.from({ length: 10_000 }, () => ({ importIds: [], t: 'd' }))
  const app = await buildOver(t, { channels: () => [direct] })
  const turnsSoFar = countTurns(t)
  const reply = await call(app)
  const turns = turnsSoFar()
  t.equal(reply.json().channels.length, 1)
  t.ok(turns >= 10, `${turns} turns of the loop`)
})

for (const part of ['users', 'channels', 'contacts', 'countMessages', 'latestOperation'] as const) {
  t.test(`F3: a store whose ${part} fails in the middle of a reply breaks the connection, and is logged once`, async t => {
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
    const errors = log.records().filter(({ level }) => level >= levels.warn)
    t.match(errors, [{ level: levels.error, reqId: String, err: { message: failure.message } }])
    t.equal(errors.length, 1)
    await seen.closed
    t.equal(seen.open, 0)
  })
}

for (const [name, lines, version] of [['HTTP/1.0', [], '1.0'], ['Connection: close', ['Connection: close'], '1.1']] as const) {
  t.test(`F4: with ${name}, where no length says so, a broken reply does not parse either`, async t => {
    const app = await buildOver(t, { async * users () { yield * watchedUsers(3).users(); throw new Error('lost') } })
    const [reply] = await sendText(app, requestText([...callerLines, ...lines], { start: `GET ${URL} HTTP/${version}` }))
    t.equal(reply?.status, 200)
    t.match(reply?.body, /"user_id":"U-0-0"/)
    t.throws(() => JSON.parse(reply?.body ?? ''), SyntaxError)
    await nextCallFails(t, app)
  })
}

async function nextCallFails (t: Test, app: FastifyInstance): Promise<void> {
  const { isWhole } = await readAll(await request(app))
  t.notOk(isWhole, 'the store still fails, and the server still answers')
}

t.test('F4: no proper prefix of a selection is valid JSON', async t => {
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

t.test('F5: a store that is silent for longer than writeTimeout does not cut the caller off', async t => {
  const { users } = watchedUsers(6, batch => batch % 2 === 1 ? wait(150) : undefined)
  const app = await buildOver(t, { users }, { writeTimeout: 30 })
  const { text, isWhole } = await readAll(await request(app))
  t.ok(isWhole)
  t.equal(JSON.parse(text).users.length, 6000)
})

t.test('F8: a caller that leaves before anybody is asked costs nothing', async t => {
  const log = captureLog()
  const { promise: lookedUp, resolve: asked } = deferred()
  const { promise: user, resolve: answer } = deferred<null>()
  const app = await buildOver(t, {}, { lookupUser: () => { asked(); return user } }, log.server)
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines))
  await lookedUp
  socket.destroy()
  await serverHasNoConnection(app)
  answer(null)
  await turnOfTheLoop()
  t.strictSame(log.records().filter(({ level }) => level >= levels.warn), [])
  t.equal((await call(app, { headers: { 'x-user-id': undefined } })).statusCode, 401)
})

t.test('F8: a caller that leaves before the first record aborts the store\'s signal, and no error is logged', async t => {
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
  await serverHasNoConnection(app)
  await turnOfTheLoop()
  t.strictSame(log.records().filter(({ level }) => level >= levels.warn), [])
})

t.test('F8: a signal that a store asks for after the caller has left is aborted already', async t => {
  let signal: AbortSignal | undefined
  const { promise: read, resolve: hasRead } = deferred()
  const app = await buildOver(t, {
    async latestOperation (context) {
      socket.destroy()
      await serverHasNoConnection(app)
      await turnOfTheLoop()
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

t.test('F8: a caller that leaves in the middle of a reply ends the reading within one batch', async t => {
  const log = captureLog()
  const { users, seen } = watchedUsers(100_000)
  const app = await buildOver(t, { users }, {}, log.server)
  const reply = await request(app)
  await once(reply, 'data')
  reply.destroy()
  await seen.closed
  const { read } = seen
  t.ok(read < 1000, `${read} batches`)
  await turnOfTheLoop()
  t.equal(seen.read, read)
  t.strictSame(log.records().filter(({ level }) => level >= levels.warn), [])
})

t.test('F8: a store of small batches that does not heed the signal is read no further once the caller has left', async t => {
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
  t.ok(read <= readWhenAborted + 1, `${read} batches, ${readWhenAborted} of them before the caller had left`)
})

t.test('F8: a caller that leaves after the last record is nobody\'s fault', async t => {
  const log = captureLog()
  const app = await buildOver(t, {}, {}, log.server)
  const socket = connect(await listen(app), '127.0.0.1')
  socket.write(requestText(callerLines))
  await once(socket, 'data')
  socket.destroy()
  await serverHasNoConnection(app)
  t.strictSame(log.records().filter(({ level }) => level >= levels.warn), [])
})

t.test('F9: a caller that stops reading is dropped after writeTimeout, and no more is read meanwhile', async t => {
  const log = captureLog()
  const { users, seen } = watchedUsers(100_000)
  const app = await buildOver(t, { users }, { writeTimeout: 300 }, log.server)
  const socket = await stalledCaller(app)
  await seen.closed
  t.ok(seen.read < 500, `${seen.read} batches, which the buffers of the connection hold`)
  t.match(log.records().filter(({ level }) => level >= levels.warn), [{ level: levels.warn, msg: /stopped reading/, writeTimeout: 300 }])
  socket.destroy()
})

t.test('F9: a caller that reads slowly is not dropped', async t => {
  const { users } = watchedUsers(LARGE)
  const app = await buildOver(t, { users }, { writeTimeout: 400 })
  const reply = await request(app)
  let size = 0
  for await (const chunk of reply) {
    size += chunk.length
    // A trickle for several times writeTimeout (what is taken shows in lumps, as large as the system's buffers), then to the end.
    if (size < 16_000_000) await wait(5)
  }
  t.ok(reply.complete)
})

t.test('the timer that is set on a connection for a reply is taken back after it', async t => {
  const { users } = watchedUsers(3)
  const app = await buildOver(t, { users }, { writeTimeout: 1234 }, { keepAliveTimeout: 0 })
  const { promise: timeout, resolve: closed } = deferred<number | undefined>()
  app.server.on('connection', socket => { socket.on('close', () => closed(socket.timeout)) })
  await readAll(await request(app))
  t.notOk(await timeout)
})

t.test('F12: a poll is answered while twenty large selections are under way', async t => {
  const { users, seen } = watchedUsers(30)
  const app = await buildOver(t, { users })
  const poller = await build(t, { store: storeOf({ latestOperation: async () => operation({ status: 'importer_preparing_users' }) }) })
  const streams = Promise.all(Array.from({ length: 20 }, async () => await readAll(await request(app))))
  while (seen.read < 30) await turnOfTheLoop()
  const poll = await readAll(await request(poller))
  t.equal(JSON.parse(poll.text).waiting, true)
  t.ok(seen.read < 20 * 30, 'the selections are still under way')
  t.ok((await streams).every(({ isWhole, text }) => isWhole && JSON.parse(text).users.length === 30_000))
})

t.test('F13: an import that takes the place of the one being sent breaks the reply off', async t => {
  const log = captureLog()
  const { users, seen } = watchedUsers(LARGE)
  const app = await buildOver(t, {
    users,
    latestOperation: async () => operation({ id: seen.read < LARGE ? 'first' : 'second' })
  }, {}, log.server)
  const { text, isWhole } = await readAll(await request(app))
  t.notOk(isWhole)
  t.throws(() => JSON.parse(text), SyntaxError)
  t.match(log.records().filter(({ level }) => level >= levels.warn), [{ err: { code: 'FST_IMPORT_FILE_DATA_IMPORT_REPLACED' } }])
})

t.test('F13: an import that is cleared away while it is being sent breaks the reply off', async t => {
  const { users, seen } = watchedUsers(LARGE)
  const app = await buildOver(t, { users, latestOperation: async () => seen.read < LARGE ? operation() : null })
  t.notOk((await readAll(await request(app))).isWhole)
})

t.test('F14: closing waits for a reply that is under way, which comes whole, and refuses what comes after', async t => {
  const { promise: permission, resolve: mayGoOn } = deferred()
  const { users } = watchedUsers(10, batch => batch === 5 ? permission : undefined)
  const app = await buildOver(t, { users })
  const reply = await request(app)
  await once(reply, 'data')
  const closed = app.close()
  mayGoOn()
  const { isWhole } = await readAll(reply)
  t.ok(isWhole)
  await closed
  t.notOk(app.server.listening)
})

t.test('F14: closing ends though a caller has stopped reading', async t => {
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
  throws: () => { throw new Error('a hook of the host') },
  'wraps the stream and breaks it': (payload: unknown) => payload instanceof Readable
    ? payload.pipe(new Transform({ transform (_chunk, _encoding, done) { done(new Error('a wrapped stream')) } }))
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

t.test('a selection comes whole over HTTP/2, and a caller who leaves there ends the reading, too', async t => {
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

t.test('a reply that breaks over HTTP/2 does not look as if it had ended', async t => {
  const client = await overHttp2(t, { async * users () { yield * watchedUsers(LARGE).users(); throw new Error('lost') } })
  const broken = client.request({ ':path': URL, ...caller })
  broken.resume()
  await t.rejects(once(broken, 'end'), { code: 'ERR_HTTP2_STREAM_ERROR' })
})

t.test('F8: a caller that leaves while the operation is looked up has no record read', async t => {
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
  await turnOfTheLoop()
  answer()
  while (!log.lines.some(line => line.includes('left before'))) await turnOfTheLoop()
  t.equal(seen.read, 0)
})

t.test('F8: the readings for pipelined requests all end when their caller leaves', async t => {
  const { seen, users } = watchedUsers(100_000)
  const signals: AbortSignal[] = []
  const app = await buildOver(t, { users ({ signal }) { signals.push(signal); return users() } })
  const socket = connect(await listen(app), '127.0.0.1')
  socket.on('error', () => {})
  socket.write(requestText(callerLines).repeat(3))
  while (seen.open < 3) await turnOfTheLoop()
  socket.destroy()
  while (seen.open > 0) await turnOfTheLoop()
  t.strictSame(signals.map(({ aborted }) => aborted), [true, true, true])
})

t.test('fifty callers at once are each given the whole', async t => {
  const { users, seen } = watchedUsers(5)
  const app = await buildOver(t, { users })
  const replies = await Promise.all(Array.from({ length: 50 }, async () => await readAll(await request(app))))
  t.ok(replies.every(({ text, isWhole }) => isWhole && JSON.parse(text).users.length === 5000))
  t.equal(seen.open, 0)
  await nextCallIsRight(t, app)
})

async function serverHasNoConnection (app: FastifyInstance): Promise<void> {
  const count = () => new Promise<number>((resolve, reject) => {
    app.server.getConnections((error, connections) => error ? reject(error) : resolve(connections))
  })
  while (await count() > 0) await turnOfTheLoop()
}
