import type { LightMyRequestResponse as Reply } from 'fastify'
import t, { type Test } from 'tap'
import { buildServer, start } from '../examples/server.js'
import { readSettings } from '../examples/settings.js'
import { StartupError } from '../examples/startup-error.js'
import type { Selection } from '../lib/index.js'
import { FORBIDDEN, UNAUTHORIZED, call } from './fixtures/build.js'
import { importSample, startMongo } from './fixtures/mongodb.js'
import { captureOutput } from './fixtures/output.js'
import { startProxy } from './fixtures/tcp-proxy.js'

const mongo = await startMongo(t)
const needsServer = { skip: mongo.missing }

/** The import server with a database, and its log. */
async function build (t: Test, env: NodeJS.ProcessEnv) {
  const output = captureOutput()
  const app = await buildServer(readSettings(env), output)
  t.teardown(() => app.close())
  return { app, output }
}

/** A selection with sorted lists, because a database guarantees no order. */
function inOrder (reply: Reply): Selection {
  const { users, channels, contacts = [], ...rest }: Selection = reply.json()
  const byText = (a: object, b: object) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1
  return { ...rest, users: users.sort(byText), channels: channels.sort(byText), contacts: contacts.sort(byText) }
}

t.test('with MONGODB_URL the server reads Rocket.Chat\'s database', needsServer, async t => {
  const { db } = mongo.database(t)
  await importSample(db)
  const { app, output } = await build(t, { MONGODB_URL: mongo.url(db.databaseName) })
  await output.logged(/Connected to the database/)
  const { app: fromFolder } = await build(t, {})
  t.strictSame(inOrder(await call(app)), inOrder(await call(fromFolder)), 'like the same documents in a folder')
  t.equal((await call(app, { headers: { 'x-auth-token': 'wrong' } })).body, UNAUTHORIZED)
  const second = { 'x-user-id': 'kQ7mWZs4hNbT9eRfx', 'x-auth-token': 'Hb2-vXq7LrT0sYw4PzN8cKdJ5mUeG1aFi3oQ6RtZx9E' }
  t.equal((await call(app, { headers: second })).body, FORBIDDEN)
})

t.test('a database without users is named in a warning, since its name is probably wrong', needsServer, async t => {
  const { db } = mongo.database(t)
  const { app, output } = await build(t, { MONGODB_URL: mongo.url(db.databaseName) })
  await output.logged(/"The database \w+ has no users/)
  t.equal((await call(app)).body, UNAUTHORIZED)
})

t.test('F1: if the database is down at the start, the server logs it, replies 503, and recovers by itself', needsServer, async t => {
  const { db } = mongo.database(t)
  await importSample(db)
  const proxy = await startProxy(mongo.port, mongo.host)
  t.after(() => proxy.close())
  await proxy.refuse()
  const { app, output } = await build(t, { MONGODB_URL: mongo.url(db.databaseName, proxy) })
  await output.logged(/The database cannot be reached/)
  const line = output.written().split('\n').find(line => line.includes('The database cannot be reached'))
  t.match(JSON.parse(line ?? ''), { reason: /^MongoServerSelectionError: / })
  const unavailable = await call(app)
  t.equal(unavailable.statusCode, 503)
  t.match(unavailable.headers, { 'retry-after': /^[1-9]\d*$/ })
  await proxy.restore()
  await output.logged(/Connected to the database/)
  t.equal((await call(app)).json().users.length, 30)
  await proxy.refuse()
  t.equal((await call(app)).statusCode, 503)
  await proxy.restore()
  // The driver may have several broken connections that it has not detected yet.
  let reply = await call(app)
  while (reply.statusCode === 503) reply = await call(app)
  t.equal(reply.json().users.length, 30)
  t.notMatch(output.written(), 'Zu-Z6eKzIIz7MCCRGeHi29bYkXZCJ4SxFC0JAasqm92')
})

t.test('at the start it prints how to call it, with placeholders for the user and the token', async t => {
  const output = captureOutput()
  const app = await start({ PORT: '0', MONGODB_URL: 'mongodb://127.0.0.1:1/rocketchat' }, output)
  t.teardown(() => app?.close())
  await output.logged(/Try it/)
  t.match(output.written(), /Listening on (http:\S+)\. Try it: curl -H 'X-User-Id: <user id>' -H 'X-Auth-Token: <token>' '\1\/api/)
})

t.test('it logs that it serves the database only when the database has replied', needsServer, async t => {
  const proxy = await startProxy(mongo.port, mongo.host)
  t.after(() => proxy.close())
  await proxy.refuse()
  const output = captureOutput()
  const app = await start({ PORT: '0', MONGODB_URL: mongo.url(mongo.database(t).db.databaseName, proxy) }, output)
  t.teardown(() => app?.close())
  await output.logged(/Try it/)
  await output.logged(/The database cannot be reached/)
  t.notMatch(output.written(), /serving the import/i)
  await proxy.restore()
  await output.logged(/Connected to the database: serving the import in it/)
})

t.test('it closes while it tries to connect to the database', async t => {
  const env = { MONGODB_URL: 'mongodb://127.0.0.1:1/rocketchat' }
  const { app: atOnce } = await build(t, env)
  await t.resolves(atOnce.close())
  const { app: betweenAttempts, output } = await build(t, env)
  await output.logged(/The database cannot be reached/)
  await t.resolves(betweenAttempts.close())
})

for (const [url, problem] of [
  ['localhost:27017/rocketchat', /^MONGODB_URL is not valid \(.*\): set it to mongodb:\/\/host:port\/database\.$/],
  ['mongodb://localhost:27017', /^MONGODB_URL names no database/],
  ['mongodb://localhost:27017/?directConnection=true', /^MONGODB_URL names no database/]
] as const) {
  t.test(`the MONGODB_URL ${url} is rejected with a one-line message`, async t => {
    await t.rejects(build(t, { MONGODB_URL: url }), Object.assign(new StartupError(), { message: problem }))
  })
}

for (const url of ['mongodb://u:ca@nary@host/rocketchat', 'mongodb://u:x@canary/y@host/rocketchat', 'mongodb://u:x@y?canary=1@host/rocketchat']) {
  t.test(`the MONGODB_URL ${url} is rejected with a one-line message that does not contain the password`, async t => {
    const message = 'MONGODB_URL has more than one @: write each as %40, except the one before the host.'
    await t.rejects(build(t, { MONGODB_URL: url }), new StartupError(message))
  })
}

t.test('a MONGODB_URL whose password is not percent-encoded is rejected with a one-line message that says so, without the password', async t => {
  for (const password of ['can/ary', 'can:ary', 'can?ary', 'can#ary', 'can[ary', 'can%ary']) {
    await t.rejects(build(t, { MONGODB_URL: `mongodb://u:${password}@host/rocketchat` }), {
      message: /^MONGODB_URL is not valid \((?!.*can.ary).*\): set it to mongodb:\/\/user:password@host:port\/database, with user and password percent-encoded\.$/
    })
  }
})

t.test('an invalid ROCKETCHAT_URL is rejected with a one-line message that does not contain the URL, which may have a password', async t => {
  for (const url of ['rocketchat', 'ftp://admin:secret@rocketchat', 'http://admin:secret@rocketchat/?tenant=1', 'http://admin:secret@[']) {
    const message = /^ROCKETCHAT_URL is not an HTTP or HTTPS URL without a query: set it to the URL of Rocket.Chat itself[^\n]*$/
    await t.rejects(build(t, { ROCKETCHAT_URL: url }), { message })
  }
  t.ok(await build(t, { ROCKETCHAT_URL: 'http://localhost:3001' }))
})
