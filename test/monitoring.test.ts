import { once } from 'node:events'
import { cp, writeFile } from 'node:fs/promises'
import type { OutgoingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { type Serve, buildServer, start } from '../examples/server.js'
import { SAMPLE_IMPORT, readSettings } from '../examples/settings.js'
import type { ImportDataStore } from '../lib/index.js'
import { rocketChatDump } from '../lib/rocketchat/index.js'
import { call, caller } from './fixtures/build.js'
import { startMongo } from './fixtures/mongodb.js'
import { captureOutput } from './fixtures/output.js'
import { deferred, readAll, request, stalledCaller, userBatch, watchedUsers } from './fixtures/streaming.js'
import { startProxy } from './fixtures/tcp-proxy.js'

const mongo = await startMongo(t)
const needsServer = { skip: mongo.missing }

/** The import server with the sample import, and a test's changes to its store. */
async function build (t: Test, env: NodeJS.ProcessEnv, changes: Partial<ImportDataStore> = {}, hasContacts = true) {
  const output = captureOutput()
  const serve: Serve = documents => {
    const { store: { contacts, ...store }, ...source } = rocketChatDump(documents)
    return { ...source, store: { ...store, ...(contacts && hasContacts && { contacts }), ...changes } }
  }
  const app = await buildServer(readSettings(env), output, env['MONGODB_URL'] || env['ROCKETCHAT_URL'] ? undefined : serve)
  t.teardown(() => app.close())
  return { app, output }
}

/** The same with metrics. `metrics()` reads those of the route, by name and labels. */
async function buildMeasured (t: Test, changes: Partial<ImportDataStore> = {}, env: NodeJS.ProcessEnv = {}, hasContacts = true) {
  const { app, output } = await build(t, { METRICS_PORT: '0', ...env }, changes, hasContacts)
  await app.ready()
  const [, url = ''] = await output.logged(/Metrics: (http:\S+\/metrics)/)
  const metrics = async (): Promise<Record<string, number>> => {
    const text = await (await fetch(url)).text()
    const lines = text.split('\n').filter(line => line.startsWith('import_file_data_')).map(line => line.split(' '))
    return Object.fromEntries(lines.map(([name, value]) => [name?.slice('import_file_data_'.length), Number(value)]))
  }
  /** Reads the metrics until one has this value: the server may count an event after the caller has seen it. */
  const until = async (name: string, value: number) => {
    let found = await metrics()
    while (found[name] !== value) found = await metrics()
    return found
  }
  return { app, url, metrics, until }
}

const ready = async (app: FastifyInstance) => {
  const { statusCode, body } = await app.inject('/ready')
  return `${statusCode} ${body}`
}

// Health.

t.test('/health replies 200 without credentials, and is not cached', async t => {
  const { app, output } = await build(t, {}, { latestOperation: async () => { throw new Error('down') } })
  const { statusCode, body, headers } = await app.inject('/health')
  t.equal(`${statusCode} ${body}`, '200 {"status":"ok"}')
  t.equal(headers['cache-control'], 'no-store')
  t.notMatch(output.written(), '/health', 'it is not logged')
})

t.test('/ready replies whether the newest operation can be read', async t => {
  t.equal(await ready((await build(t, {})).app), '200 {"status":"ready"}')
  const { app, output } = await build(t, {}, { latestOperation: async () => { throw new Error('no server') } })
  t.equal(await ready(app), '503 {"status":"unavailable"}')
  await output.logged(/Not ready: the database cannot be read/)
})

t.test('/ready makes one query for concurrent requests, and another one for later requests', async t => {
  let asked = 0
  const { promise, resolve } = deferred()
  const { app } = await build(t, {}, { latestOperation: async () => { asked++; await promise; return null } })
  await app.ready()
  const many = [ready(app), ready(app), ready(app)]
  setImmediate(resolve)
  t.strictSame(new Set(await Promise.all(many)), new Set(['200 {"status":"ready"}']))
  t.equal(asked, 1)
  await ready(app)
  t.equal(asked, 2)
})

t.test('neither is rate limited or in the API reference', async t => {
  const { app } = await build(t, { RATE_LIMIT: '1' })
  for (const url of ['/health', '/health', '/ready', '/ready']) t.equal((await app.inject(url)).statusCode, 200)
  const { paths } = (await app.inject('/docs/json')).json()
  t.strictSame(Object.keys(paths), ['/api/v1/getImportFileData'])
})

t.test('F1: /ready follows the state of the database, while /health does not', needsServer, async t => {
  const proxy = await startProxy(mongo.port, mongo.host)
  t.after(() => proxy.close())
  const { db } = mongo.database(t)
  const { app, output } = await build(t, { MONGODB_URL: mongo.url(db.databaseName, proxy) })
  await output.logged(/Connected to the database/)
  t.equal(await ready(app), '200 {"status":"ready"}')
  await proxy.refuse()
  t.equal(await ready(app), '503 {"status":"unavailable"}')
  t.equal((await app.inject('/health')).statusCode, 200)
  await proxy.restore()
  let answer = await ready(app)
  while (answer.startsWith('503')) answer = await ready(app)
  t.equal(answer, '200 {"status":"ready"}')
})

// Metrics.

t.test('without METRICS_PORT there are no metrics', async t => {
  const { app, output } = await build(t, {})
  t.equal((await app.inject('/metrics')).statusCode, 404)
  t.notMatch(output.written(), 'Metrics')
})

t.test('metrics are served on a separate port, and not on the port of the route', async t => {
  const { app, url } = await buildMeasured(t)
  t.equal((await app.inject('/metrics')).statusCode, 404)
  const reply = await fetch(url)
  t.match(reply.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
  t.match(await reply.text(), /^process_resident_memory_bytes \d+$/m, 'metrics of the process are included')
  await app.close()
  await t.rejects(fetch(url), 'the port is closed with the server')
})

t.test('calls are counted by status, and records by kind', async t => {
  const { app, metrics, until } = await buildMeasured(t, {}, { RATE_LIMIT: '4' })
  const get = async (headers: OutgoingHttpHeaders = {}) => {
    const reply = await request(app, { headers: { ...caller, ...headers } })
    await readAll(reply)
    return reply.headers
  }
  const { etag } = await get()
  await app.inject('/health')
  for (const headers of [{ 'if-none-match': etag }, { 'x-auth-token': 'wrong' }, { 'x-auth-token': 'wrong' }, {}]) await get(headers)
  await until('calls_total{status="429"}', 1)
  t.match(await metrics(), {
    'calls_total{status="200"}': 1,
    'calls_total{status="304"}': 1,
    'calls_total{status="401"}': 2,
    'calls_total{status="429"}': 1,
    time_to_first_byte_seconds_count: 5,
    'time_to_first_byte_seconds_bucket{le="+Inf"}': 5,
    'records_total{kind="users"}': 30,
    'records_total{kind="contacts"}': 4,
    'replies_broken_total{by="server"}': 0,
    'replies_broken_total{by="caller"}': 0
  })
})

t.test('a reply that the server aborts is counted as broken by the server', async t => {
  const { app, until } = await buildMeasured(t, {
    users: async function * () {
      for (let batch = 0; batch < 5; batch++) yield userBatch(batch)
      throw new Error('the database is down')
    }
  })
  const { isWhole } = await readAll(await request(app))
  t.notOk(isWhole)
  t.match(await until('replies_broken_total{by="server"}', 1), { 'replies_broken_total{by="caller"}': 0, 'calls_total{status="200"}': 1 })
})

t.test('a reply whose caller disconnects is counted as broken by the caller', async t => {
  const { seen, users } = watchedUsers(1_000_000)
  const { app, until } = await buildMeasured(t, { users })
  const reply = await request(app)
  await once(reply, 'readable')
  reply.destroy()
  await seen.closed
  t.match(await until('replies_broken_total{by="caller"}', 1), { 'replies_broken_total{by="server"}': 0, 'calls_total{status="200"}': 1 })
})

t.test('a reply whose caller resets the connection is counted as broken by the caller', async t => {
  const { seen, users } = watchedUsers(1_000_000)
  const { app, until } = await buildMeasured(t, { users })
  const socket = await stalledCaller(app)
  await once(socket, 'connect')
  while (seen.read === 0) await new Promise(setImmediate)
  socket.resetAndDestroy()
  await seen.closed
  t.match(await until('replies_broken_total{by="caller"}', 1), { 'replies_broken_total{by="server"}': 0 })
})

t.test('a call whose caller disconnects before the reply is counted without a status', async t => {
  const { promise, resolve } = deferred()
  const { promise: asked, resolve: ask } = deferred()
  const { app, until } = await buildMeasured(t, { latestOperation: async () => { ask(); await promise; return null } })
  const socket = await stalledCaller(app)
  await asked
  socket.destroy()
  const found = await until('calls_total{status="none"}', 1)
  t.match(found, { 'replies_broken_total{by="caller"}': 0 })
  resolve()
})

t.test('preparations are counted by result', async t => {
  const dataDir = t.testdir()
  await cp(SAMPLE_IMPORT, dataDir, { recursive: true })
  const operation = { _id: '1', importerKey: 'csv', ts: { $date: '2027-01-01T00:00:00Z' }, status: 'importer_file_loaded', valid: true, file: 'a.csv' }
  await writeFile(join(dataDir, 'rocketchat_import.json'), JSON.stringify(operation))

  const { app: rocketchat } = await build(t, {})
  const url = await rocketchat.listen({ host: '127.0.0.1', port: 0 })
  for (const [path, result, other] of [['', 'done', 'failed'], ['/nowhere', 'failed', 'done']] as const) {
    const { app, until } = await buildMeasured(t, {}, { DATA_DIR: dataDir, ROCKETCHAT_URL: url + path })
    t.equal((await call(app)).json().waiting, true)
    t.match(await until(`prepares_total{result="${result}"}`, 1), { [`prepares_total{result="${other}"}`]: 0, prepares_running: 0 })
  }
})

t.test('metrics do not change replies', async t => {
  const { app } = await build(t, {})
  const { app: measured } = await buildMeasured(t)
  t.equal((await call(measured)).body, (await call(app)).body)

  const { app: withoutContacts } = await buildMeasured(t, {}, {}, false)
  t.notOk('contacts' in (await call(withoutContacts)).json(), 'contacts are left out if the store has none')
})

/** What the server prints when it cannot start. */
async function startFailure (env: NodeJS.ProcessEnv): Promise<string> {
  const errors = captureOutput()
  await start({ PORT: '0', LOG_LEVEL: 'silent', ...env }, captureOutput(), errors)
  process.exitCode = undefined
  return errors.written()
}

t.test('a METRICS_PORT that is in use is reported with a one-line message', async t => {
  const { url } = await buildMeasured(t)
  const { port } = new URL(url)
  t.equal(await startFailure({ METRICS_PORT: port }),
    `Port ${port} on 127.0.0.1 is already in use: set METRICS_PORT to another port, or to 0 for any free port.\n`)
})

t.test('with metrics, a HOST that is not an address of this machine is reported as such', async t => {
  t.match(await startFailure({ METRICS_PORT: '0', HOST: '192.0.2.1' }), /^HOST is "192\.0\.2\.1", which is not an address of this machine \(EADDRNOTAVAIL\): [^\n]+\n$/)
})
