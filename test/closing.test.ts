import { once } from 'node:events'
import http from 'node:http'
import { type Socket, connect } from 'node:net'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { limitClosing } from '../examples/closing.js'
import { buildServer, start } from '../examples/server.js'
import { readSettings } from '../examples/settings.js'
import { requestText } from './fixtures/build.js'
import { captureOutput } from './fixtures/output.js'
import { deferred, listen } from './fixtures/streaming.js'

/** Connects to a server. Resolves when the server has accepted the connection, and read what is sent. */
async function connectTo (t: Test, app: FastifyInstance, sent = ''): Promise<Socket> {
  const accepted = once(app.server, 'connection')
  const client = connect(await listen(app), '127.0.0.1')
  t.teardown(() => client.destroy())
  client.on('error', () => {})
  client.pause()
  client.write(sent)
  const [socket] = await accepted
  while (socket.bytesRead < sent.length) await new Promise(setImmediate)
  return client
}

/** Begins to close a server. Resolves when it accepts no more connections, with a promise for its end. */
async function beginToClose (app: FastifyInstance) {
  const closed = app.close()
  while (app.server.listening) await new Promise(setImmediate)
  return { closed }
}

/** The import server as it is started. */
async function startServer (t: Test, env: NodeJS.ProcessEnv = {}): Promise<FastifyInstance> {
  const app = await start({ PORT: '0', LOG_LEVEL: 'silent', ...env }, new PassThrough(), new PassThrough())
  if (app === undefined) throw new Error('The server did not start')
  t.teardown(() => app.close())
  return app
}

/** A server whose `GET /begun` sends the beginning of a reply. `end` sends its end. */
function serverWithReply (t: Test, idleTimeout?: number) {
  const app = Fastify()
  t.teardown(() => app.close())
  const body = new PassThrough()
  app.get('/begun', (_request, reply) => {
    body.write('begun, ')
    reply.send(body)
  })
  limitClosing(app, idleTimeout)
  return { app, end: () => { body.end('complete') } }
}

t.test('closing does not wait for a connection over which nothing was sent', async t => {
  const app = await startServer(t)
  const client = await connectTo(t, app)
  await app.close()
  t.equal(await text(client), '')
})

t.test('closing does not wait for a request whose headers were sent in part', async t => {
  const app = await startServer(t)
  const client = await connectTo(t, app, 'GET / HTTP/1.1\r\nHost: local')
  await app.close()
  t.equal(await text(client), '')
})

t.test('closing does not wait for a connection to the port of the metrics', async t => {
  const output = captureOutput()
  const app = await buildServer(readSettings({ METRICS_PORT: '0' }), output)
  t.teardown(() => app.close())
  await app.ready()
  const [, port] = await output.logged(/Metrics: http:\S+:(\d+)\/metrics/)
  const client = connect(Number(port), '127.0.0.1').on('error', () => {})
  t.teardown(() => client.destroy())
  // A reply to another connection shows that this one was accepted.
  await once(client, 'connect')
  await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  await app.close()
  t.equal(await text(client), '')
})

t.test('a reply in progress is completed while the server closes, even if it is slow', async t => {
  const { app, end } = serverWithReply(t)
  const call = http.get({ port: await listen(app), path: '/begun', agent: false })
  const [reply] = await once(call, 'response')
  const { closed } = await beginToClose(app)
  end()
  t.equal(await text(reply), 'begun, complete')
  await closed
})

t.test('closing does not wait for the time that a connection is kept open after its reply', async t => {
  const { app, end } = serverWithReply(t)
  const agent = new http.Agent({ keepAlive: true })
  t.teardown(() => agent.destroy())
  const call = http.get({ port: await listen(app), path: '/begun', agent })
  const [reply] = await once(call, 'response')
  t.match(reply.headers, { connection: 'keep-alive' })
  const { closed } = await beginToClose(app)
  end()
  t.equal(await text(reply), 'begun, complete')
  const before = Date.now()
  await closed
  t.ok(Date.now() - before < 10_000, 'Fastify keeps connections open for 72 seconds')
})

const LARGE = 50_000_000

/** A server with a reply that is larger than the buffers of a connection, and a client that does not read it. */
async function unreadReply (t: Test, idleTimeout?: number) {
  const app = Fastify()
  t.teardown(() => app.close())
  const { promise: sent, resolve: send } = deferred()
  app.get('/large', (_request, reply) => {
    reply.send(Buffer.alloc(LARGE, 'x'))
    send()
  })
  limitClosing(app, idleTimeout)
  const client = await connectTo(t, app, requestText([], { start: 'GET /large HTTP/1.1' }))
  await sent
  return { app, client }
}

t.test('a reply that the server has ended is sent completely while the server closes', async t => {
  const { app, client } = await unreadReply(t)
  const { closed } = await beginToClose(app)
  t.ok((await text(client)).length > LARGE)
  await closed
})

t.test('closing drops a client that does not read its reply', async t => {
  const { app, client } = await unreadReply(t, 100)
  await app.close()
  t.ok((await text(client)).length < LARGE)
})

t.test('closing drops a client that does not send the body of its request', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.post('/', async () => 'received')
  limitClosing(app, 100)
  const head = requestText(['Content-Type: text/plain', 'Content-Length: 10'], { start: 'POST / HTTP/1.1', body: 'half' })
  const client = await connectTo(t, app, head)
  await app.close()
  t.equal(await text(client), '')
})

t.test('closing drops a client that sends a part of another request after its reply', async t => {
  const { app, end } = serverWithReply(t, 100)
  const client = await connectTo(t, app, requestText([], { start: 'GET /begun HTTP/1.1' }))
  const { closed } = await beginToClose(app)
  client.write('GET /begun HTTP/1.1\r\nHost: local')
  end()
  await closed
  t.match(await text(client), 'complete')
})
