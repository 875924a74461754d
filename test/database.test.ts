import { once } from 'node:events'
import { type CommandStartedEvent, type Db, type DbOptions, Long, type MongoClient } from 'mongodb'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { type ImportFileDataOptions, importFileData } from '../lib/index.js'
import { hashLoginToken, rocketChatDatabase, type DatabaseLike, type RocketChatDatabaseOptions } from '../lib/rocketchat/index.js'
import { build, call, caller, captureLog, levels, matchEach, URL } from './fixtures/build.js'
import { startMongo } from './fixtures/mongodb.js'
import { readAll, request } from './fixtures/streaming.js'
import { startProxy } from './fixtures/tcp-proxy.js'

const mongo = await startMongo(t)
const needsServer = { skip: mongo.missing }

/** More users than one batch, but few enough for a fast test. */
const USERS = 2000

/** An import of USERS users that is ready for selection, and the documented caller, who may run imports. */
async function fill (db: Db, users = USERS): Promise<void> {
  await db.collection<{ _id: string }>('users').insertOne(Object.assign({
    _id: caller['x-user-id'],
    active: true,
    roles: ['admin'],
    services: { resume: { loginTokens: [{ hashedToken: hashLoginToken(caller['x-auth-token']), when: new Date() }] } }
  }))
  await db.collection<{ _id: string }>('rocketchat_permissions').insertOne(Object.assign({ _id: 'run-import', roles: ['admin'] }))
  await db.collection<{ _id: string }>('rocketchat_import').insertOne(Object.assign({
    _id: 'operation-1', ts: new Date(), status: 'importer_user_selection', importerKey: 'slack', valid: true, _updatedAt: new Date()
  }))
  const data = db.collection('rocketchat_import_data')
  await data.createIndex({ dataType: 1 })
  await data.insertMany(Array.from({ length: users }, (_, index) => stagedUser(index)))
  await data.insertMany([
    { dataType: 'channel', data: { importIds: ['C1'], name: 'general', t: 'c' } },
    { dataType: 'channel', data: { importIds: ['D1'], t: 'd', users: ['U1', 'U2'] } },
    { dataType: 'channel', data: { importIds: ['D2'], t: 'd', users: ['U1', 'U3'] } },
    { dataType: 'contact', data: { importIds: ['c-1'], name: 'Grace', emails: ['grace@example.com'], phones: [] } },
    { dataType: 'message', data: { rid: 'C1', u: { _id: 'U1' }, msg: 'Hello' } },
    { dataType: 'message', data: { rid: 'C1', u: { _id: 'U2' }, msg: 'Hello to you' } }
  ])
}

function stagedUser (index: number): object {
  const username = `user-${index}`
  const data = { importIds: [`U${index}`], username, emails: [`${username}@example.com`], type: 'user', bio: 'x'.repeat(200) }
  return { dataType: 'user', data }
}

/** Records the commands that a client sends, and its open cursors. */
function watchCommands (client: MongoClient) {
  const commands: CommandStartedEvent[] = []
  const cursors = new Set<string>()
  client.on('commandStarted', event => {
    commands.push(event)
    if (event.commandName === 'getMore') cursors.delete(String(event.command.getMore))
    if (event.commandName === 'killCursors') for (const id of event.command.cursors) cursors.delete(String(id))
  })
  client.on('commandSucceeded', event => {
    const { cursor } = Object.assign({ cursor: { id: 0 } }, event.reply)
    if (['find', 'getMore'].includes(event.commandName) && String(cursor.id) !== '0') cursors.add(String(cursor.id))
  })
  const named = (name: string) => commands.filter(({ commandName }) => commandName === name).map(({ command }) => command)
  const killed = async () => { while (named('killCursors').length === 0) await once(client, 'commandStarted') }
  return { commands, cursors, named, killed }
}

/** A server that reads a filled database through a proxy. */
async function start (t: Test, options: RocketChatDatabaseOptions = {}, users = USERS) {
  const { db: direct } = mongo.database(t)
  await fill(direct, users)
  const proxy = await startProxy(mongo.port, mongo.host)
  t.after(() => proxy.close())
  const client = mongo.client(t, {
    proxy, monitorCommands: true, serverSelectionTimeoutMS: 1000, heartbeatFrequencyMS: 500, minHeartbeatFrequencyMS: 50
  })
  const watched = watchCommands(client)
  const log = captureLog()
  const app: FastifyInstance = Fastify(log.server)
  t.after(() => app.close())
  await app.register(importFileData, { prefix: '/api/v1', ...rocketChatDatabase(client.db(direct.databaseName), options) })
  return { app, direct, proxy, client, log, ...watched }
}

async function reply (app: FastifyInstance) {
  return await app.inject({ url: URL, headers: caller })
}

async function nextCallIsRight (t: Test, app: FastifyInstance, users = USERS): Promise<void> {
  const { text, isWhole } = await readAll(await request(app))
  t.ok(isWhole)
  t.equal(JSON.parse(text).users?.length, users, 'the next call succeeds')
}

t.test('a selection is read from the database, with all direct channels as one item', needsServer, async t => {
  const { app } = await start(t, {}, 100)
  const { users, ...rest } = (await reply(app)).json()
  t.equal(users.length, 100)
  t.strictSame(rest, {
    name: 'Slack',
    channels: [
      { channel_id: 'C1', name: 'general', is_archived: false, do_import: true, is_private: false, is_direct: false },
      { channel_id: '__directMessages__', name: 'Direct Messages', is_archived: false, do_import: true, is_private: true, is_direct: true }
    ],
    contacts: [{ id: 'c-1', name: 'Grace', emails: ['grace@example.com'], phones: [], do_import: true }],
    message_count: 2,
    success: true
  })
})

const readSettings: DbOptions[] = [{ raw: true }, { promoteValues: false }, { promoteLongs: false }, { useBigInt64: true }, { promoteBuffers: true, bsonRegExp: true }]
for (const settings of readSettings) {
  t.test(`the reply does not depend on the BSON options of the Db: ${JSON.stringify(settings)}`, needsServer, async t => {
    const { client, db } = mongo.database(t)
    await fill(db, 3)
    const importIds = [Long.fromString('9007199254740993')]
    await db.collection('rocketchat_import_data').insertOne({ dataType: 'user', data: { importIds, username: 'large', deleted: Long.ZERO } })
    const [usual, set] = await Promise.all([{}, settings].map(settings =>
      build(t, rocketChatDatabase(client.db(db.databaseName, settings)))))
    const { statusCode, body } = await call(set!)
    t.equal(statusCode, 200)
    t.match(JSON.parse(body), { users: { length: 4, 3: { user_id: '9007199254740993', is_deleted: false } }, message_count: 2, success: true })
    t.equal(body, (await call(usual!)).body)

    await db.collection('rocketchat_import').updateOne({}, { $set: { status: 'importer_preparing_users', count: { users: Long.fromNumber(7) } } })
    t.match((await call(set!)).json(), { waiting: true, count: { users: 7 } })
    t.equal((await call(set!, { headers: { 'x-auth-token': 'wrong' } })).statusCode, 401)
  })
}

t.test('only what the reply needs is read, each look-up uses an index, and each command but a cursor\'s has maxTimeMS', needsServer, async t => {
  const { app, named, commands } = await start(t, { batchSize: 1500, maxTimeMS: 20_000 }, 100)
  await reply(app)
  const finds = named('find')
  t.match(finds.find(({ find }) => find === 'users'), {
    filter: { _id: caller['x-user-id'], 'services.resume.loginTokens.hashedToken': hashLoginToken(caller['x-auth-token']) },
    projection: { roles: 1 }
  })
  t.match(finds.find(({ find }) => find === 'rocketchat_permissions'), { filter: { _id: 'run-import' } })
  t.match(finds.find(({ find }) => find === 'rocketchat_import'), { sort: new Map([['ts', -1]]), limit: 1 })
  const staged = finds.filter(({ find }) => find === 'rocketchat_import_data')
  t.equal(staged.length, 4, 'users, channels, one direct channel, contacts')
  t.ok(staged.every(({ filter, projection }) => typeof filter.dataType === 'string' && projection['data.bio'] === undefined))
  t.equal(staged.filter(({ batchSize }) => batchSize === 1500).length, 3)
  const reads = commands.filter(({ commandName }) => ['find', 'aggregate', 'count'].includes(commandName))
  // MongoDB counts the limit of a cursor for all its batches together.
  const [cursors, others] = [true, false].map(isCursor => reads.filter(({ command }) => (command.batchSize === 1500) === isCursor))
  t.strictSame(cursors?.map(({ command }) => command.maxTimeMS), [undefined, undefined, undefined])
  t.strictSame(new Set(others?.map(({ command }) => command.maxTimeMS)), new Set([20_000]))
})

t.test('by default a batch has at most 2000 records, and each command but a cursor\'s takes at most 30 seconds', needsServer, async t => {
  const { app, named, commands } = await start(t, {}, 100)
  await reply(app)
  const cursors = named('find').filter(({ batchSize }) => batchSize !== undefined)
  t.strictSame(cursors.map(({ batchSize, maxTimeMS }) => [batchSize, maxTimeMS]), Array(3).fill([2000, undefined]))
  const limits = commands.flatMap(({ command }) => command.maxTimeMS ?? [])
  t.strictSame([limits.length, new Set(limits)], [6, new Set([30_000])])
})

t.test('S8: the database is never written to', needsServer, async t => {
  const { app, commands } = await start(t)
  await nextCallIsRight(t, app)
  await app.inject({ url: URL, headers: { ...caller, 'x-auth-token': 'wrong' } })
  const reading = new Set(['hello', 'ismaster', 'ping', 'find', 'getMore', 'aggregate', 'count', 'killCursors', 'endSessions'])
  t.strictSame([...new Set(commands.map(({ commandName }) => commandName))].filter(name => !reading.has(name)), [])
})

t.test('a revoked role takes effect immediately', needsServer, async t => {
  const { app, direct } = await start(t, {}, 100)
  t.equal((await reply(app)).statusCode, 200)
  await direct.collection<{ _id: string }>('rocketchat_permissions').updateOne({ _id: 'run-import' }, { $set: { roles: ['owner'] } })
  t.equal((await reply(app)).statusCode, 403)
})

t.test('a deactivated user gets a 401 reply', needsServer, async t => {
  const { app, direct } = await start(t, {}, 100)
  await direct.collection<{ _id: string }>('users').updateOne({ _id: caller['x-user-id'] }, { $set: { active: false } })
  t.equal((await reply(app)).statusCode, 401)
})

t.test('a large selection is read in batches', needsServer, async t => {
  const { app, named, cursors } = await start(t, { batchSize: 500 })
  await nextCallIsRight(t, app)
  t.ok(named('getMore').length >= USERS / 500 - 1)
  t.ok(named('getMore').every(({ batchSize }) => batchSize === 500))
  t.equal(cursors.size, 0)
})

t.test('F1: a database that is down at the start causes a 503, until it is up', needsServer, async t => {
  const { app, proxy, client } = await start(t, {}, 100)
  await proxy.refuse()
  const unavailable = await reply(app)
  t.equal(unavailable.statusCode, 503)
  t.ok(Number(unavailable.headers['retry-after']) >= 1)
  t.equal(unavailable.json().errorType, 'error-service-unavailable')
  await proxy.restore()
  await client.connect()
  await nextCallIsRight(t, app, 100)
})

t.test('F2: a database that goes down between two calls causes a 503, and the server reconnects', needsServer, async t => {
  const { app, proxy, log } = await start(t, {}, 100)
  await nextCallIsRight(t, app, 100)
  await proxy.refuse()
  const unavailable = await reply(app)
  t.equal(unavailable.statusCode, 503)
  t.notMatch(unavailable.body, /mongo|127\.0\.0\.1|ECONN/i)
  matchEach(t, log.records().filter(({ level }) => level === levels.error), [{ err: { stack: /caused by/ } }])
  await proxy.restore()
  await nextCallIsRight(t, app, 100)
})

t.test('F3: a database connection that is lost during a reply aborts the reply', needsServer, async t => {
  const { app, proxy, log } = await start(t, { batchSize: 100 })
  await nextCallIsRight(t, app)
  proxy.cutAfter(100_000)
  const { text, isWhole } = await readAll(await request(app))
  t.notOk(isWhole)
  t.throws(() => JSON.parse(text), SyntaxError)
  t.equal(log.records().filter(({ level }) => level === levels.error).length, 1)
  await nextCallIsRight(t, app)
})

t.test('F5: a database that hangs for longer than maxTimeMS causes a 503', needsServer, async t => {
  const { app, proxy, log } = await start(t, { maxTimeMS: 2000 }, 100)
  await nextCallIsRight(t, app, 100)
  proxy.stall()
  t.equal((await reply(app)).statusCode, 503)
  t.match(log.records().find(({ level }) => level === levels.error)?.err, { stack: /FST_IMPORT_FILE_DATA_READ_TIMEOUT|maxTimeMS/ })
  proxy.resume()
  await nextCallIsRight(t, app, 100)
})

t.test('F5: if the database hangs during a reply, the reply is aborted after maxTimeMS and the cursor is killed', needsServer, async t => {
  const { app, proxy, killed, cursors } = await start(t, { maxTimeMS: 3000, batchSize: 100 })
  await nextCallIsRight(t, app)
  proxy.stallAfter(100_000)
  const { text, isWhole } = await readAll(await request(app))
  t.notOk(isWhole)
  t.throws(() => JSON.parse(text), SyntaxError)
  proxy.resume()
  await killed()
  t.equal(cursors.size, 0)
  await nextCallIsRight(t, app)
})

t.test('F5: a database that is slow, but within maxTimeMS, does not abort the reply', needsServer, async t => {
  const { app, proxy } = await start(t, { batchSize: 500 })
  proxy.slowDown(10)
  await nextCallIsRight(t, app)
})

t.test('F8: if the caller disconnects during a reply, the cursor is killed and no more is read', needsServer, async t => {
  const { app, killed, cursors, named, log } = await start(t, { batchSize: 10 }, 3000)
  const call = await request(app)
  await once(call, 'data')
  call.destroy()
  await killed()
  const reads = named('getMore').length
  t.ok(reads < 200, `${reads} of 300 batches`)
  t.equal(cursors.size, 0)
  t.strictSame(log.problems(), [])
  await nextCallIsRight(t, app, 3000)
})

t.test('a read during which the host closes and reconnects the client does not end as if it were complete', needsServer, async t => {
  const { client, direct, app } = await start(t)
  const { store } = rocketChatDatabase(client.db(direct.databaseName), { batchSize: 100 })
  const users = store.users({ signal: new AbortController().signal, log: app.log })
  async function readThrough (): Promise<void> {
    let batches = 0
    for await (const batch of users) {
      t.equal(batch.length, 100)
      if (++batches > 1) continue
      await client.close()
      await client.connect()
    }
  }
  await t.rejects(readThrough(), { code: 'FST_IMPORT_FILE_DATA_CURSOR_CLOSED' })
})

t.test('a wrong token gets a 401 reply even if the permissions cannot be read', needsServer, async t => {
  const { lookupUser } = rocketChatDatabase({
    collection: name => ({
      findOne: async () => { if (name === 'rocketchat_permissions') throw new Error('not allowed'); return null },
      find () { throw new Error('not used') },
      countDocuments: async () => 0
    })
  })
  const call = () => Reflect.apply(lookupUser, undefined, [{ userId: 'ada', authToken: 'wrong' }])
  t.equal(await call(), null)
})

t.test('hasPermission reads the permission for a user who was looked up elsewhere', needsServer, async t => {
  const { direct } = await start(t, {}, 100)
  const { hasPermission } = rocketChatDatabase(direct)
  const ask = (roles: string[]) => Reflect.apply(hasPermission, undefined, [{ _id: 'ada', roles }, 'run-import'])
  t.strictSame([await ask(['admin']), await ask(['user'])], [true, false])
})

t.test('a permission that could not be read is read again in the next call, even if the host caches the user', needsServer, async t => {
  const { direct } = await start(t, {}, 100)
  let failures = 0
  const { lookupUser, hasPermission, store } = rocketChatDatabase({
    collection (name) {
      const collection = direct.collection(name)
      return name !== 'rocketchat_permissions'
        ? collection
        : {
            ...collection,
            async findOne (filter: object, options: object) {
              if (failures++ === 0) throw new Error('not primary')
              return await collection.findOne(filter, options) as never
            }
          }
    }
  } as DatabaseLike)
  const cache = new Map<string, ReturnType<typeof lookupUser>>()
  const app = await build(t, {
    lookupUser (credentials, request) {
      const known = cache.get(credentials.userId) ?? lookupUser(credentials, request)
      cache.set(credentials.userId, known)
      return known
    },
    hasPermission: hasPermission as ImportFileDataOptions['hasPermission'],
    store
  })
  const statuses = []
  for (let calls = 0; calls < 3; calls++) statuses.push((await call(app)).statusCode)
  t.strictSame(statuses, [503, 200, 200])
})

t.test('fifty concurrent callers each get the complete reply, and no cursor stays open', needsServer, async t => {
  const { app, cursors } = await start(t, {}, 100)
  const replies = await Promise.all(Array.from({ length: 50 }, async () => await readAll(await request(app))))
  t.ok(replies.every(({ text, isWhole }) => isWhole && JSON.parse(text).users.length === 100))
  t.equal(cursors.size, 0)
})

t.test('F13: an import that replaces another during a reply aborts the reply', needsServer, async t => {
  const { app, direct, client } = await start(t, { batchSize: 100 })
  const replaced = (async () => {
    for (;;) {
      const [event] = await once(client, 'commandStarted')
      if (event.commandName === 'getMore') break
    }
    await direct.collection<{ _id: string }>('rocketchat_import').insertOne(Object.assign({
      _id: 'operation-2', ts: new Date(Date.now() + 1000), status: 'importer_new', valid: true
    }))
  })()
  const { isWhole } = await readAll(await request(app))
  await replaced
  t.notOk(isWhole)
})

for (const [name, db, options] of [
  ['db', null, {}], ['db.collection', {}, {}], ['batchSize', undefined, { batchSize: 0 }], ['maxTimeMS', undefined, { maxTimeMS: '5' }]
] as const) {
  t.test(`an error for a wrong ${name} names it`, async t => {
    const call = () => Reflect.apply(rocketChatDatabase, undefined, [db === undefined ? { collection () {} } : db, options])
    t.throws(call, { code: 'FST_IMPORT_FILE_DATA_INVALID_OPTION', message: new RegExp(`"${name}"`) })
  })
}
