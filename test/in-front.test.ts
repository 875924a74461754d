import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { limitClosing } from '../examples/closing.js'
import { buildInFront, startIfRun } from '../examples/in-front.js'
import { readSettings } from '../examples/settings.js'
import { URL as PATH, UNAUTHORIZED, caller, callerLines, matchEach, requestText, sendText } from './fixtures/build.js'
import { captureOutput } from './fixtures/output.js'

const script = fileURLToPath(new URL('../examples/in-front.ts', import.meta.url))

/** Has a server listen, and returns its URL. */
async function listen (app: FastifyInstance): Promise<string> {
  return app.listen({ host: '127.0.0.1', port: 0 })
}

/**
 * A server in place of Rocket.Chat. It returns what it has received: over HTTP in its reply, over a WebSocket in its first message.
 */
async function startRocketChat (t: Test): Promise<string> {
  const app = Fastify({ bodyLimit: 10_000_000 })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, async (_request: unknown, body: Buffer) => body)
  app.all('/*', async ({ method, url, headers, body }, reply) => {
    reply.header('x-replied-by', 'rocketchat')
    return { method, url, headers, size: body instanceof Buffer ? body.length : 0 }
  })
  const sockets = new WebSocketServer({ server: app.server })
  sockets.on('connection', (socket, { url, headers }) => {
    socket.send(JSON.stringify({ url, headers }))
    socket.on('message', data => socket.send(`echo of ${String(data)}`))
  })
  t.after(async () => {
    for (const socket of sockets.clients) socket.terminate()
    await app.close()
  })
  return listen(app)
}

/** Starts the server with the sample import in front of the stand-in. Returns both URLs. */
async function build (t: Test, env: NodeJS.ProcessEnv = {}, output = captureOutput()) {
  const rocketchatUrl = await startRocketChat(t)
  const app = await buildInFront(readSettings({ LOG_LEVEL: 'silent', ROCKETCHAT_URL: rocketchatUrl, ...env }), output)
  t.teardown(() => app.close())
  limitClosing(app)
  return { app, url: await listen(app), rocketchatUrl }
}

t.test('the plugin replies to getImportFileData, and not Rocket.Chat', async t => {
  const { url } = await build(t)
  const reply = await fetch(`${url}${PATH}?importerKey=slack`, { headers: caller })
  t.equal(reply.status, 200)
  t.equal(reply.headers.get('x-replied-by'), null)
  t.match(await reply.json(), { name: 'Slack', success: true })
  const refused = await fetch(`${url}${PATH}`)
  t.equal(refused.status, 401)
  t.equal(await refused.text(), UNAUTHORIZED)
})

t.test('calls of getImportFileData are rate limited, and others are not', async t => {
  const { url } = await build(t, { RATE_LIMIT: '1' })
  const statusOf = async (path: string) => (await fetch(`${url}${path}`)).status
  t.strictSame([await statusOf(PATH), await statusOf(PATH)], [401, 429])
  t.strictSame([await statusOf('/home'), await statusOf('/home')], [200, 200])
})

t.test('every other path is forwarded to Rocket.Chat unchanged, and its reply is returned', async t => {
  const { url } = await build(t)
  for (const path of ['/', '/home', '/api/v1/getImportProgress?a=1&b=%20x', '/api/v1', '/docs', '/page.js']) {
    const reply = await fetch(`${url}${path}`, { headers: caller })
    t.equal(reply.headers.get('x-replied-by'), 'rocketchat')
    t.match(await reply.json(), { method: 'GET', url: path, headers: caller })
  }
})

t.test('an upload of several megabytes is forwarded to Rocket.Chat', async t => {
  const { url } = await build(t)
  const body = JSON.stringify('x'.repeat(5_000_000))
  for (const type of ['application/json', 'application/octet-stream']) {
    const reply = await fetch(`${url}/api/v1/uploadImportFile`, { method: 'POST', body, headers: { 'content-type': type } })
    t.match(await reply.json(), { method: 'POST', size: body.length })
  }
})

t.test('Rocket.Chat gets the caller\'s address, host and protocol', async t => {
  const { url } = await build(t)
  const { host } = new URL(url)
  const expected = { 'x-forwarded-for': '198.51.100.1, 127.0.0.1', 'x-forwarded-host': host, 'x-forwarded-proto': 'http' }
  const headers = { 'x-forwarded-for': '198.51.100.1', 'x-forwarded-proto': 'https', cookie: 'rc_uid=1' }
  t.match(await (await fetch(url, { headers })).json(), { headers: { ...expected, cookie: 'rc_uid=1' } })

  const socket = new WebSocket(`${url.replace('http', 'ws')}/websocket`, { headers })
  const [message] = await once(socket, 'message')
  t.match(JSON.parse(String(message)), { headers: { ...expected, cookie: 'rc_uid=1' } })
  socket.close()
})

t.test('behind a trusted proxy Rocket.Chat gets the host and the protocol that the proxy sends', async t => {
  const { url } = await build(t, { TRUST_PROXY: 'loopback' })
  const headers = { 'x-forwarded-host': 'chat.example', 'x-forwarded-proto': 'https' }
  t.match(await (await fetch(url, { headers })).json(), { headers })
})

t.test('a WebSocket is forwarded to Rocket.Chat, with messages in both directions', async t => {
  const { url } = await build(t)
  const socket = new WebSocket(`${url.replace('http', 'ws')}/sockjs/1/a/websocket?x=1`)
  const [first] = await once(socket, 'message')
  t.match(JSON.parse(String(first)), { url: '/sockjs/1/a/websocket?x=1' })
  socket.send('hello')
  const [second] = await once(socket, 'message')
  t.equal(String(second), 'echo of hello')
  socket.close()
})

t.test('while Rocket.Chat cannot be reached, other paths reply 502, and getImportFileData still works', async t => {
  const closed = Fastify()
  const rocketchatUrl = await listen(closed)
  await closed.close()
  const { url } = await build(t, { ROCKETCHAT_URL: rocketchatUrl })
  const reply = await fetch(`${url}/home`)
  t.equal(reply.status, 502)
  t.equal(await reply.text(), '{"success":false,"error":"Rocket.Chat cannot be reached [error-bad-gateway]","errorType":"error-bad-gateway"}')
  t.equal((await fetch(`${url}${PATH}`, { headers: caller })).status, 200)
})

t.test('a request that cannot be parsed or decoded gets a reply in the error format', async t => {
  const { app, url } = await build(t)
  t.equal(await (await fetch(`${url}/%zz`)).text(),
    '{"success":false,"error":"\'/%zz\' is not a valid url component [FST_ERR_BAD_URL]","errorType":"FST_ERR_BAD_URL"}')
  const [reply] = await sendText(app, 'hello\r\n\r\n')
  t.equal(reply?.body, '{"success":false,"error":"The request is not valid HTTP. [error-bad-request]","errorType":"error-bad-request"}')
})

t.test('the log does not contain the token of a request that cannot be parsed, at any level', async t => {
  const output = captureOutput()
  const { app } = await build(t, { LOG_LEVEL: 'trace' }, output)
  await sendText(app, requestText([...callerLines, `X-Large: ${'x'.repeat(20_000)}`]))
  const log = output.written()
  t.match(log, 'HPE_HEADER_OVERFLOW')
  t.notMatch(log, caller['x-auth-token'])
  t.notMatch(log, 'rawPacket', 'it has the bytes of the token')
})

t.test('when the server closes, an open WebSocket is closed properly', async t => {
  const { app, url } = await build(t)
  const socket = new WebSocket(`${url.replace('http', 'ws')}/websocket`)
  await once(socket, 'message')
  const [[code]] = await Promise.all([once(socket, 'close'), app.close()])
  t.equal(code, 1005, '1006 is a connection that was cut')
})

t.test('without ROCKETCHAT_URL it does not start, and prints a one-line message', async t => {
  const stderr = t.capture(process.stderr, 'write')
  await startIfRun(script, {})
  t.equal(process.exitCode, 1)
  process.exitCode = undefined
  matchEach(t, stderr().map(({ args }) => args[0]), [/^ROCKETCHAT_URL is not set: [^\n]+\n$/])
})

t.test('importing the file does not start a server', async t => {
  await startIfRun(undefined, {})
  t.equal(process.exitCode, undefined)
})
