import { once } from 'node:events'
import { type IncomingMessage, type RequestListener, type ServerResponse, createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { prepareByRocketChat } from '../examples/prepare-by-rocketchat.js'
import type { ImportOperation } from '../lib/index.js'
import { NOTHING_STAGED, URL, build as buildPlugin, call, caller, captureLog, levels, matchEach, operation, storeOf } from './fixtures/build.js'

const credentials = { userId: caller['x-user-id'], authToken: caller['x-auth-token'] }
const JSON_TYPE = { 'content-type': 'application/json' }

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

/** A server in place of Rocket.Chat. It and its connections are closed when the test ends. */
async function standIn (t: Test, listener: RequestListener) {
  const requests: IncomingMessage[] = []
  const server = createServer((request, reply) => {
    requests.push(request)
    listener(request, reply)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { server, requests, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

/** A server in place of Rocket.Chat that replies when the test lets it. */
async function slowStandIn (t: Test) {
  let asked: (reply: ServerResponse) => void = () => {}
  const reply = new Promise<ServerResponse>(resolve => { asked = resolve })
  return { ...await standIn(t, (_request, reply) => asked(reply)), reply }
}

/** How much memory is in use, in bytes. The resident memory would not do: it also depends on when garbage was last collected. */
function memoryInUse () {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** A server with the plugin, in front of a Rocket.Chat with an uploaded file that has not been read. */
async function build (t: Test, url: string, wait = noWait) {
  const log = captureLog()
  const rocketChat: { operation: ImportOperation } = {
    operation: operation({ status: 'importer_file_loaded', file: 'import.zip', updatedAt: new Date() })
  }
  const store = storeOf({ latestOperation: async () => rocketChat.operation })
  const app = await buildPlugin(t, { store, prepare: prepareByRocketChat(url, store, wait) }, log.server)
  return { app, log, rocketChat }
}

/** The operation after Rocket.Chat has parsed its file. */
function prepared (): ImportOperation {
  return operation({ updatedAt: new Date() })
}

/** Calls until the reply is not a waiting one, with a turn of the event loop between two calls. */
async function outcome (app: FastifyInstance) {
  for (let calls = 0; calls < 1000; calls++) {
    const reply = await call(app)
    if (reply.json().waiting !== true) return reply
    await new Promise(resolve => setImmediate(resolve))
  }
  throw new Error('never ends')
}

/** The store of a Rocket.Chat whose newest operation stays as it is: its file is loaded. */
const unchanged = storeOf({ latestOperation: async () => operation({ status: 'importer_file_loaded', file: 'import.zip' }) })

/** A wait that fails, so that there is no further attempt. */
const noWait = async (_milliseconds: number): Promise<void> => { throw new Error('no further attempt') }

/** The error of `prepare`, or undefined. */
async function failureOf (url: string, signal = new AbortController().signal, wait = noWait): Promise<Error | undefined> {
  const { log } = await quietServer
  return prepareByRocketChat(url, unchanged, wait)(operation(), { credentials, signal, log }).then(() => undefined, failure => failure)
}

const quietServer = buildPlugin(t)

t.test('Rocket.Chat\'s own endpoint is called once, with the caller\'s credentials', async t => {
  const { url, requests } = await standIn(t, (_request, reply) => { reply.writeHead(200, JSON_TYPE).end(NOTHING_STAGED) })
  t.equal(await failureOf(url), undefined)
  t.equal(requests.length, 1)
  t.match(requests[0], { method: 'GET', url: URL, headers: caller })
})

t.test('the URL may have a path and a trailing slash', async t => {
  const { url, requests } = await standIn(t, (_request, reply) => { reply.writeHead(200, JSON_TYPE).end(NOTHING_STAGED) })
  for (const path of ['', '/', '/chat', '/chat/']) t.equal(await failureOf(url + path), undefined)
  t.strictSame(requests.map(request => request.url), [URL, URL, `/chat${URL}`, `/chat${URL}`])
})

t.test('a URL that is not HTTP or HTTPS, or has a query or a fragment, is rejected immediately', async t => {
  const urls = [
    '', 'rocketchat', 'rocketchat:3000', 'ftp://rocketchat', 'mongodb://user:secret@rocketchat', 'http://rocketchat/chat?tenant=1',
    'http://rocketchat/#chat'
  ]
  for (const url of urls) t.throws(() => prepareByRocketChat(url, unchanged), TypeError)
})

t.test('while Rocket.Chat parses the file, callers get waiting replies, and Rocket.Chat is not called again', async t => {
  const { url, requests, reply } = await slowStandIn(t)
  const { app, rocketChat } = await build(t, url)
  t.equal((await call(app)).json().waiting, true)
  const parsed = await reply
  for (let calls = 0; calls < 5; calls++) t.equal((await call(app)).json().step, 'importer_file_loaded')
  rocketChat.operation = operation({ status: 'importer_preparing_users', updatedAt: new Date() })
  t.equal((await call(app)).json().step, 'importer_preparing_users')

  rocketChat.operation = prepared()
  parsed.writeHead(200, JSON_TYPE).end(NOTHING_STAGED)
  t.equal((await outcome(app)).body, NOTHING_STAGED)
  t.equal(requests.length, 1)
})

t.test('the preparation ends only when the reply has ended', async t => {
  const { url, reply } = await slowStandIn(t)
  let isDone = false
  const done = failureOf(url).then(failure => { isDone = true; return failure })
  const half = await reply
  half.writeHead(200, JSON_TYPE).write(NOTHING_STAGED.slice(0, 20))
  await new Promise(resolve => setImmediate(resolve))
  t.equal(isDone, false)
  half.end(NOTHING_STAGED.slice(20))
  t.equal(await done, undefined)
})

t.test('a reply of any size is read to its end, and not kept in memory', async t => {
  const PIECE = Buffer.alloc(1024 * 1024, 'x')
  const PIECES = 256
  let inUse = 0
  const { url } = await standIn(t, async (_request, reply) => {
    reply.writeHead(200, JSON_TYPE).write('{"users":["')
    for (let pieces = 0; pieces < PIECES; pieces++) {
      if (!reply.write(PIECE)) await once(reply, 'drain')
    }
    inUse = memoryInUse()
    reply.end('"],"channels":[],"message_count":0,"success":true}')
  })
  const before = memoryInUse()
  t.equal(await failureOf(url), undefined)
  t.ok(inUse - before < PIECES * PIECE.length / 2)
})

t.test('if another call has started the parse, Rocket.Chat replies waiting, and the progress comes from the operation', async t => {
  const { url, requests } = await standIn(t, (_request, reply) => {
    reply.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end('{"waiting":true,"success":true}')
  })
  t.equal(await failureOf(url), undefined)
  const { app, log, rocketChat } = await build(t, url)
  t.equal((await call(app)).json().waiting, true)
  rocketChat.operation = operation({ status: 'importer_preparing_channels', updatedAt: new Date() })
  t.equal((await call(app)).json().step, 'importer_preparing_channels')
  rocketChat.operation = prepared()
  t.equal((await outcome(app)).body, NOTHING_STAGED)
  t.ok(requests.length <= 2)
  t.strictSame(log.problems(), [])
})

t.test('an error of Rocket.Chat ends the preparation, and is logged', async t => {
  const { url, requests } = await standIn(t, (_request, reply) => {
    reply.writeHead(400, JSON_TYPE)
    reply.end('{"success":false,"error":"No such importer [error-importer]","errorType":"error-importer"}')
  })
  const { app, log } = await build(t, url)
  const reply = await outcome(app)
  t.equal(reply.statusCode, 400)
  t.equal(reply.json().errorType, 'error-import-file-format-invalid')
  t.equal(requests.length, 1)
  matchEach(t, log.problems(), [{ level: levels.error, err: { message: 'Rocket.Chat replied 400: No such importer [error-importer]' } }])
})

t.test('of an error that is not Rocket.Chat\'s, only the status is reported', async t => {
  const bodies = ['<h1>Bad gateway: rocketchat.internal</h1>', '', 'null', '"text"', '{"error":{"secret":1}}', '[1', '{"message":"m"}']
  for (const body of bodies) {
    const { url } = await standIn(t, (_request, reply) => { reply.writeHead(500).end(body) })
    t.equal((await failureOf(url))?.message, 'Rocket.Chat replied 500', body)
  }
})

t.test('the text of an error is reported up to a maximum length, and without the token', async t => {
  const { url } = await standIn(t, (_request, reply) => {
    reply.writeHead(401, JSON_TYPE).end(JSON.stringify({ error: `${credentials.authToken}${credentials.authToken} ${'x'.repeat(2000)}` }))
  })
  const { app, log } = await build(t, url)
  await outcome(app)
  const message = String((await failureOf(url))?.message)
  t.match(message, 'Rocket.Chat replied 401: ...... xxx')
  t.ok(message.length < 400)
  t.notMatch(message, credentials.authToken)
  t.notMatch(log.lines.join(), credentials.authToken)
})

t.test('of an error whose body is too long, only the status is reported', async t => {
  const { url } = await standIn(t, (_request, reply) => {
    reply.writeHead(500, JSON_TYPE).end(JSON.stringify({ error: 'x'.repeat(1_000_000) }))
  })
  t.equal((await failureOf(url))?.message, 'Rocket.Chat replied 500')
})

/** Transient failures: what Rocket.Chat does in the first attempt. */
const transient: Record<string, (reply: ServerResponse) => void> = {
  'ends the connection': reply => { reply.destroy() },
  'ends the connection during a reply': reply => { reply.writeHead(200, JSON_TYPE).write(NOTHING_STAGED, () => reply.destroy()) },
  'ends the connection before the length of a reply': reply => {
    reply.writeHead(200, { ...JSON_TYPE, 'content-length': 1000 }).write(NOTHING_STAGED, () => reply.destroy())
  },
  'resets the connection': reply => {
    reply.writeHead(200, JSON_TYPE).write(NOTHING_STAGED, () => { reply.socket?.resetAndDestroy() })
  },
  ...Object.fromEntries([408, 425, 429, 502, 503, 504].map(status =>
    [`replies ${status}`, (reply: ServerResponse) => { reply.writeHead(status).end('<h1>Try again later</h1>') }]))
}

for (const [name, fail] of Object.entries(transient)) {
  t.test(`a Rocket.Chat that ${name} is called again, and callers get waiting replies until then`, async t => {
    const { url, requests } = await standIn(t, (_request, reply) => {
      if (requests.length <= 2) fail(reply)
      else reply.writeHead(200, JSON_TYPE).end(NOTHING_STAGED)
    })
    const waits: number[] = []
    const { app, log, rocketChat } = await build(t, url, async milliseconds => {
      waits.push(milliseconds)
      t.equal((await call(app)).json().waiting, true)
    })
    t.equal((await call(app)).json().waiting, true)
    while (requests.length < 3) await new Promise(resolve => setImmediate(resolve))
    rocketChat.operation = prepared()
    t.equal((await outcome(app)).body, NOTHING_STAGED)
    t.strictSame(waits, [1000, 2000])
    matchEach(t, log.problems(), [{ level: levels.warn, msg: /next attempt in 1 s/ }, { level: levels.warn, msg: /next attempt in 2 s/ }])
    t.notMatch(log.lines.join(), credentials.authToken)
  })
}

// Rocket.Chat sets the status before it builds the selection, which may take all of its memory. Another import has another id.
for (const [name, change] of Object.entries({
  'whose file has been parsed': { status: 'importer_user_selection' },
  'whose file is being parsed': { status: 'importer_preparing_users' },
  'that a later import has replaced': { id: 'later', status: 'importer_file_loaded' }
})) {
  t.test(`for an operation ${name}, a Rocket.Chat that ended the connection is not called again`, async t => {
    let latest = operation({ status: 'importer_file_loaded', file: 'import.zip' })
    const { url, requests } = await standIn(t, (_request, reply) => {
      latest = operation({ file: 'import.zip', ...change })
      reply.destroy()
    })
    const log = captureLog()
    const app = await buildPlugin(t, {}, log.server)
    const prepare = prepareByRocketChat(url, storeOf({ latestOperation: async () => latest }), async () => {})
    await prepare(latest, { credentials, signal: new AbortController().signal, log: app.log })
    t.equal(requests.length, 1)
    t.match(log.records().at(-1), { level: levels.info, status: change.status, msg: 'The import operation has changed since: Rocket.Chat is not called again' })
  })
}

t.test('while the operation cannot be read either, Rocket.Chat is not called, and the preparation goes on', async t => {
  const { url, requests } = await standIn(t, (_request, reply) => {
    if (requests.length === 1) reply.destroy()
    else reply.writeHead(200, JSON_TYPE).end(NOTHING_STAGED)
  })
  const called: number[] = []
  const store = storeOf({
    async latestOperation (context) {
      if (called.push(requests.length) < 3) throw new Error('The database is down')
      return await unchanged.latestOperation(context)
    }
  })
  const waits: number[] = []
  const prepare = prepareByRocketChat(url, store, async milliseconds => { waits.push(milliseconds) })
  await prepare(operation(), { credentials, signal: new AbortController().signal, log: (await quietServer).log })
  t.strictSame(called, [1, 1, 1])
  t.strictSame(waits, [1000, 2000, 4000])
  t.equal(requests.length, 2)
})

t.test('a Rocket.Chat that is down is called again, less and less often, until the server closes', async t => {
  const { server, url } = await standIn(t, () => {})
  server.close()
  await once(server, 'close')
  const waits: number[] = []
  const closing = new AbortController()
  const failure = await failureOf(url, closing.signal, async milliseconds => {
    if (waits.push(milliseconds) === 8) closing.abort()
  })
  t.strictSame(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
  t.equal(failure?.name, 'AbortError')
})

t.test('a Retry-After that is shorter than the delay does not shorten it', async t => {
  const { url } = await standIn(t, (_request, reply) => { reply.writeHead(503, { 'retry-after': '1' }).end() })
  const waits: number[] = []
  await failureOf(url, undefined, async milliseconds => { if (waits.push(milliseconds) === 3) throw new Error('enough') })
  t.strictSame(waits, [1000, 2000, 4000])
})

t.test('Retry-After is honoured, as seconds or a date, up to an hour', async t => {
  t.intercept(Date, 'now', { value: () => Date.UTC(2026, 0, 1) })
  const rows: Array<[retryAfter: string | undefined, milliseconds: number]> = [
    ['30', 30_000], ['0', 1000], ['Thu, 01 Jan 2026 00:02:00 GMT', 120_000], ['Thu, 01 Jan 2025 00:00:00 GMT', 1000], ['soon', 1000],
    ['-5', 1000], ['999999', 3_600_000], [undefined, 1000]
  ]
  for (const [retryAfter, milliseconds] of rows) {
    const { url } = await standIn(t, (_request, reply) => { reply.writeHead(429, retryAfter ? { 'retry-after': retryAfter } : {}).end() })
    const waits: number[] = []
    await failureOf(url, undefined, async wait => { waits.push(wait); throw new Error('enough') })
    t.strictSame(waits, [milliseconds], String(retryAfter))
  }
})

t.test('closing the server aborts the wait for the next attempt', async t => {
  const { url, requests } = await standIn(t, (_request, reply) => { reply.writeHead(503, { 'retry-after': '3600' }).end() })
  const closing = new AbortController()
  const log = Object.create((await quietServer).log, { warn: { value: () => { setImmediate(() => closing.abort()) } } })
  await t.rejects(prepareByRocketChat(url, unchanged)(operation(), { credentials, signal: closing.signal, log }), { name: 'AbortError' })
  t.equal(requests.length, 1)
})

t.test('a 200 reply that is not Rocket.Chat\'s is a failure in any form', async t => {
  const bodies = ['{"success":false}', '{}', '', 'null', '[]', '"ok"', '<!doctype html>', '{"success":"true"}', `[${'1,'.repeat(5000)}1]`, '{"users":[,"success":true}',
    `{"users":["${'x'.repeat(5000)}"],"success":false}`, `${'x'.repeat(5000)}"success":true}`]
  for (const body of bodies) {
    for (const type of ['application/json', 'Application/JSON; Charset=UTF-8']) {
      const { url } = await standIn(t, (_request, reply) => { reply.writeHead(200, { 'content-type': type }).end(body) })
      t.match((await failureOf(url))?.message, 'is its URL right?', body.slice(0, 30))
    }
  }
})

t.test('the media type of a reply is case-insensitive', async t => {
  const { url } = await standIn(t, (_request, reply) => {
    reply.writeHead(200, { 'content-type': 'Application/JSON;charset=UTF-8' }).end(NOTHING_STAGED)
  })
  t.equal(await failureOf(url), undefined)
})

t.test('an HTTPS URL is called over TLS only', async t => {
  const { url, requests } = await standIn(t, (_request, reply) => { reply.writeHead(200, JSON_TYPE).end(NOTHING_STAGED) })
  t.ok(await failureOf(url.replace('http:', 'https:')) instanceof Error)
  t.equal(requests.length, 0)
})

t.test('a reply that is not JSON by its media type is not accepted as Rocket.Chat\'s, whatever it contains', async t => {
  for (const headers of [{ 'content-type': 'text/html' }, {}]) {
    const { url } = await standIn(t, (_request, reply) => { reply.writeHead(200, headers).end(NOTHING_STAGED) })
    t.match((await failureOf(url))?.message, 'is its URL right?')
  }
})

t.test('a redirect is not followed, so that the token is not sent elsewhere', async t => {
  const elsewhere = await standIn(t, (_request, reply) => { reply.writeHead(200, JSON_TYPE).end(NOTHING_STAGED) })
  const { url } = await standIn(t, (request, reply) => { reply.writeHead(307, { location: `${elsewhere.url}${request.url}` }).end() })
  t.equal((await failureOf(url))?.message,
    `Rocket.Chat replied 307, a redirect to ${elsewhere.url}${URL}: use the URL without a redirect`)
  t.equal(elsewhere.requests.length, 0)
})

t.test('the target of a redirect is reported without credentials and query', async t => {
  const rows: Array<[location: string | undefined, expected: RegExp]> = [
    ['https://user:secret@chat.example/login?token=secret#secret', /redirect to https:\/\/chat\.example\/login:/],
    ['/login', /redirect to http:\/\/127\.0\.0\.1:\d+\/login:/],
    ['http://[', /redirect to nowhere:/],
    [undefined, /redirect to nowhere:/]
  ]
  for (const [location, expected] of rows) {
    const { url } = await standIn(t, (_request, reply) => { reply.writeHead(302, location ? { location } : {}).end() })
    const message = (await failureOf(url))?.message
    t.match(message, expected)
    t.notMatch(message, 'secret')
  }
})

t.test('a URL that leads back to a server with the plugin is detected', async t => {
  const { url } = await slowStandIn(t)
  const { app } = await build(t, url)
  const own = await app.listen({ host: '127.0.0.1', port: 0 })
  t.match((await failureOf(own))?.message, 'leads back to this server')
})

t.test('closing the server aborts the request to Rocket.Chat in every state', async t => {
  for (const hasBegun of [false, true]) {
    const { url, reply, requests } = await slowStandIn(t)
    const { app, log } = await build(t, url)
    await call(app)
    const parsing = await reply
    if (hasBegun) {
      parsing.writeHead(200, JSON_TYPE).write(NOTHING_STAGED)
      await new Promise(resolve => setImmediate(resolve))
    }
    const closed = once(parsing, 'close')
    await app.close()
    await closed
    t.equal(parsing.writableFinished, false)
    t.equal(requests.length, 1)
    t.strictSame(log.problems(), [])
  }
})

t.test('a preparation that is aborted before it starts makes no call', async t => {
  const { url, requests } = await standIn(t, (_request, reply) => { reply.writeHead(200, JSON_TYPE).end(NOTHING_STAGED) })
  t.match(await failureOf(url, AbortSignal.abort()), { name: 'AbortError' })
  t.equal(requests.length, 0)
})
