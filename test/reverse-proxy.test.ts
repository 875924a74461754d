import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough } from 'node:stream'
import { gunzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { buildServer } from '../examples/server.js'
import { readSettings } from '../examples/settings.js'
import type { ImportDataStore } from '../lib/index.js'
import { rocketChatDump } from '../lib/rocketchat/index.js'
import { URL as PATH, call, caller } from './fixtures/build.js'
import { callOverHttp2, callThrough, program, startHaproxy, startNginx } from './fixtures/reverse-proxy.js'
import { listen, userBatch, watchedUsers } from './fixtures/streaming.js'

/** The import server with the sample import, configured as in deploy/, with a test's changes to its store. */
async function buildImports (t: Test, changes: Partial<ImportDataStore> = {}, env: NodeJS.ProcessEnv = {}) {
  const settings = readSettings({ TRUST_PROXY: 'loopback', LOG_LEVEL: 'silent', ...env })
  const app = await buildServer(settings, new PassThrough(), documents => {
    const source = rocketChatDump(documents)
    return { ...source, store: { ...source.store, ...changes } }
  })
  t.teardown(() => app.close())
  return { app, imports: await listen(app) }
}

/** A server in place of Rocket.Chat. It returns the method and the path of a request. */
async function startRocketChat (t: Test): Promise<number> {
  const server = http.createServer((request, reply) => { reply.end(`Rocket.Chat: ${request.method} ${request.url}`) }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

const breaking: Partial<ImportDataStore> = {
  users: async function * () {
    for (let batch = 0; batch < 5; batch++) yield userBatch(batch)
    throw new Error('the database is down')
  }
}

/** The end of every complete selection, and of no incomplete one. */
const END = ',"success":true}'

function parses (text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

for (const { name, start } of [{ name: 'nginx', start: startNginx }, { name: 'haproxy', start: startHaproxy }]) {
  const needsProxy = { skip: program(name).missing }

  /** Starts the proxy in front of an import server. */
  async function build (t: Test, changes?: Partial<ImportDataStore>, env?: NodeJS.ProcessEnv) {
    const { app, imports } = await buildImports(t, changes, env)
    return { app, proxy: await start(t, { imports, rocketchat: await startRocketChat(t) }) }
  }

  t.test(`${name} routes one path to the import server, and all others to Rocket.Chat`, needsProxy, async t => {
    const { app, proxy } = await build(t)
    const { status, end, headers } = await callThrough(proxy)
    t.equal(status, 200)
    t.equal(Buffer.from(end, 'latin1').toString(), (await call(app)).body)
    t.equal(headers['cache-control'], 'private, no-cache')
    for (const path of ['/', '/api/v1/getImportFileData/', '/api/v1/getCurrentImportOperation', '/health', '/ready', '/docs', '/metrics']) {
      t.equal((await callThrough(proxy, { path })).end, `Rocket.Chat: GET ${path}`)
    }
  })

  t.test(`${name} forwards a reply of 100 MB completely`, needsProxy, async t => {
    const batch = userBatch(0)
    const { proxy } = await build(t, { users: function * () { for (let count = 0; count < 800; count++) yield batch } })
    const { status, bytes, end, isWhole } = await callThrough(proxy)
    t.equal(status, 200)
    t.ok(bytes > 100_000_000, `${bytes} bytes`)
    t.ok(isWhole)
    t.ok(end.endsWith(END))
  })

  t.test(`${name} forwards the beginning of a long reply before its end`, needsProxy, async t => {
    const { users, seen } = watchedUsers(1_000_000)
    const { proxy } = await build(t, { users })
    const request = http.get({ port: proxy.port, path: PATH, headers: caller, agent: false })
    request.on('error', () => {})
    const [reply] = await once(request, 'response')
    await once(reply, 'readable')
    t.ok(String(reply.read()).startsWith('{"name":"Slack","users":[{'))
    request.destroy()
    await seen.closed
    t.pass('and the import server stops reading when the caller leaves')
  })

  t.test(`${name} aborts a reply that the import server aborts`, needsProxy, async t => {
    const { proxy } = await build(t, breaking)
    const { status, bytes, end, isWhole } = await callThrough(proxy)
    t.equal(status, 200)
    t.ok(bytes > 100_000)
    t.notOk(isWhole, 'incomplete according to HTTP')
    t.notOk(end.endsWith(END))
  })

  t.test(`${name} forwards a 304`, needsProxy, async t => {
    const { proxy } = await build(t)
    const { headers: { etag } } = await callThrough(proxy)
    const { status, bytes, isWhole } = await callThrough(proxy, { headers: { 'if-none-match': etag } })
    t.strictSame({ status, bytes, isWhole }, { status: 304, bytes: 0, isWhole: true })
  })

  t.test(`${name} compresses a reply for a caller that accepts gzip, and its ETag still gets a 304`, needsProxy, async t => {
    const { app, proxy } = await build(t)
    const { headers, end, isWhole } = await callThrough(proxy, { headers: { 'accept-encoding': 'gzip' } })
    t.equal(headers['content-encoding'], 'gzip')
    t.match(headers.vary, /accept-encoding/i)
    t.ok(isWhole)
    t.equal(gunzipSync(Buffer.from(end, 'latin1')).toString(), (await call(app)).body)
    t.equal((await callThrough(proxy, { headers: { 'accept-encoding': 'gzip', 'if-none-match': headers.etag } })).status, 304)
  })

  t.test(`${name} aborts a compressed reply, too`, needsProxy, async t => {
    const { proxy } = await build(t, breaking)
    const { isWhole } = await callThrough(proxy, { headers: { 'accept-encoding': 'gzip' } })
    t.notOk(isWhole)
  })

  t.test(`${name} forwards the caller's address, whatever X-Forwarded-For the caller sends`, needsProxy, async t => {
    const { proxy } = await build(t, {}, { RATE_LIMIT: '1' })
    const statusOf = async (headers: http.OutgoingHttpHeaders, localAddress = '127.0.0.1') =>
      (await callThrough(proxy, { headers, localAddress })).status
    t.equal(await statusOf({}), 200)
    t.equal(await statusOf({}), 429)
    t.equal(await statusOf({ 'x-forwarded-for': '203.0.113.7' }), 429)
    t.equal(await statusOf({ 'x-forwarded-for': '203.0.113.7, 127.0.0.9' }), 429)
    t.equal(await statusOf({ forwarded: 'for=203.0.113.7', 'x-real-ip': '203.0.113.7' }), 429)
    t.equal(await statusOf({}, '127.0.0.2'), 200, 'another address has its own limit')
    t.equal(await statusOf({}, '127.0.0.2'), 429)
  })

  t.test(`${name} does not repeat a call when the import server closes the connection`, needsProxy, async t => {
    let calls = 0
    const server = http.createServer(request => {
      if (request.url !== '/health') calls++
      request.socket.destroy()
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const proxy = await start(t, { imports: (server.address() as AddressInfo).port, rocketchat: await startRocketChat(t) })
    t.match(String((await callThrough(proxy)).status), /^50[23]$/)
    t.ok(calls <= 1, `${calls} calls`)
  })

  t.test(`over HTTP/2, ${name} forwards replies, and an incomplete one is never valid JSON`, needsProxy, async t => {
    const { proxy } = await build(t)
    const { status, end, isWhole } = await callOverHttp2(proxy)
    t.strictSame({ status, isWhole, parses: parses(end) }, { status: 200, isWhole: true, parses: true })
    const { proxy: other } = await build(t, breaking)
    const broken = await callOverHttp2(other)
    t.comment(`according to HTTP/2 it is ${broken.isWhole ? 'complete' : 'incomplete'}`)
    t.notOk(parses(broken.end))
    t.notOk(broken.end.endsWith(END))
  })
}
