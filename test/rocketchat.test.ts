import { BSON } from 'mongodb'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { hashLoginToken, rocketChatDatabase, type RocketChatDocuments, rocketChatDump, type RocketChatOptions } from '../lib/rocketchat/index.js'
import { build, call, caller, captureLog, FORBIDDEN, levels, matchEach, NOTHING_STAGED, UNAUTHORIZED } from './fixtures/build.js'
import { documents, headersOf, operationDocument, selectionOfDocuments, staged, tokens, userDocument } from './fixtures/documents.js'
import { startMongo } from './fixtures/mongodb.js'

const mongo = await startMongo(t)

/** A source of Rocket.Chat's documents, as options of the plugin. */
interface Backend extends RocketChatOptions {
  /** Replaces collections. */
  change (changes: Partial<RocketChatDocuments>): Promise<void>
}

/** Starts a backend with a test's documents. It is stopped when the test ends. */
type Start = (t: Test, documents: RocketChatDocuments) => Promise<Backend>

/** All backends. Each test of the suite runs with each of them. */
const backends: Record<string, Start> = {
  async rocketChatDump (_t, documents) {
    return { ...rocketChatDump(documents), change: async changes => { Object.assign(documents, changes) } }
  },
  async rocketChatDatabase (t, documents) {
    const { db } = mongo.database(t)
    async function change (changes: Partial<RocketChatDocuments>) {
      for (const [name, all] of Object.entries(changes)) {
        await db.collection(name).deleteMany({})
        if (all.length > 0) await db.collection(name).insertMany(all.map((document: object) => ({ ...document })))
      }
    }
    await change(documents)
    return { ...rocketChatDatabase(db), change }
  }
}

const { Binary, BSONRegExp, BSONSymbol, Code, Decimal128, Double, Int32, Long, MaxKey, MinKey, ObjectId, Timestamp } = BSON

/** Values of `ts` in MongoDB's sort order that every database of these tests can store. */
const sortedValues: unknown[] = [
  [], null, -1, Long.fromNumber(0), 1.5, Long.fromString('9007199254740992'), Long.fromString('9007199254740993'), 1e21, '', 'a', 'b', '\uffff', '😀',
  {}, { a: 1 }, { a: 2 }, { a: 2, b: 1 }, { b: 1 }, { a: 'text' }, { a: { b: 1 } },
  new Binary(Buffer.from([2])), new Binary(Buffer.from([1]), 4), new Binary(Buffer.from([1, 1])),
  new ObjectId('00'.repeat(12)), [new ObjectId('0a'.repeat(12)), 'text'], new ObjectId('ff'.repeat(12)),
  false, true, new Date(-1), [new Date(1), 7, null], new Date(2), new Timestamp({ t: 1, i: 2 }), new Timestamp({ t: 2 ** 32 - 1, i: 1 }),
  new BSONRegExp('a'), /b/
]

/** Values of `ts` in MongoDB's sort order, including those that only MongoDB can store. */
const moreSortedValues: unknown[] = [
  new MinKey(), ...sortedValues.slice(0, 2), NaN, -Infinity, Decimal128.fromString('-1.5'), -1, 0n, Decimal128.fromString('0.5'), new Int32(1),
  Decimal128.fromString('9007199254740993'), 9007199254740994n, new Double(1e21), Infinity, 'a', new BSONSymbol('b'), 'c',
  { a: [1] }, [[]], [[1], [0, 2]], [[1, 2]], new Uint8Array([1]), ...sortedValues.slice(-10), /b/i, new Code('a'), new Code('b'), new MaxKey()
]

/** Pairs of operations whose `ts` are adjacent values. */
const neighboursOf = (values: readonly unknown[]) =>
  values.slice(1).map((value, index) => [{ _id: index, ts: values[index] }, { _id: index + 1, ts: value }])

const OPERATION_NOT_FOUND =
  '{"success":false,"error":"Import Operation Not Found [error-operation-not-found]","errorType":"error-operation-not-found"}'
const OPERATION_INVALID =
  '{"success":false,"error":"Invalid Import Operation [error-import-operation-invalid]","errorType":"error-import-operation-invalid"}'

/** Documents of any type. */
const untyped = (...documents: unknown[]) => documents as never[]

/** An operation that is being prepared. */
const preparing = (changes: object) => operationDocument({ status: 'importer_preparing_users', ...changes })

for (const [backend, start] of Object.entries(backends)) {
  /** A server with the documents, their backend, and a function that makes a call and returns status and body. */
  async function serve (t: Test, changes: Partial<RocketChatDocuments> = {}, server = {}) {
    const { change, ...options } = await start(t, documents(changes))
    const app = await build(t, options, server)
    async function answer (headers = {}): Promise<[status: number, body: string]> {
      const { statusCode, body } = await call(app, { headers })
      return [statusCode, body]
    }
    return { app, options, change, answer }
  }

  const skip = backend === 'rocketChatDatabase' && mongo.missing
  const test = (name: string, body: (t: Test) => Promise<void>) => t.test(`${name} (${backend})`, { skip }, body)
  const nothingStaged = { rocketchat_import: [operationDocument({ importerKey: undefined })], rocketchat_import_data: [] }

  test('the documents of an import give its selection', async t => {
    const [status, body] = await (await serve(t)).answer()
    t.strictSame([status, JSON.parse(body)], [200, selectionOfDocuments])
  })

  // Authentication

  test('I3: a user is authenticated only by their id and one of their tokens', async t => {
    const { answer } = await serve(t, {
      ...nothingStaged,
      users: untyped(
        ...documents().users,
        userDocument('deactivated', [tokens.ada], { active: false, roles: ['admin'] }),
        userDocument('not yet active', ['token'], { active: undefined, roles: ['admin'] }),
        userDocument('logged out', [], { roles: ['admin'] }),
        { _id: 'without services', roles: ['admin'] },
        { _id: 'without resume', roles: ['admin'], services: {} },
        { _id: 'without tokens', roles: ['admin'], services: { resume: {} } },
        { _id: 'without hash', roles: ['admin'], services: { resume: { loginTokens: [{ when: new Date(0) }] } } },
        { _id: 'unhashed', roles: ['admin'], services: { resume: { loginTokens: [{ hashedToken: 'token' }] } } }
      )
    })
    const id = caller['x-user-id']
    const rows = [
      [id, tokens.ada, 200, NOTHING_STAGED],
      [id, tokens.adaPersonal, 200, NOTHING_STAGED],
      ['not yet active', 'token', 200, NOTHING_STAGED],
      ['bob', tokens.bob, 403, FORBIDDEN],
      [id, tokens.bob, 401, UNAUTHORIZED],
      ['bob', tokens.ada, 401, UNAUTHORIZED],
      [id, 'wrong', 401, UNAUTHORIZED],
      [id, hashLoginToken(tokens.ada), 401, UNAUTHORIZED],
      [id, tokens.ada.slice(0, -1), 401, UNAUTHORIZED],
      [id, tokens.ada.toLowerCase(), 401, UNAUTHORIZED],
      [id.toLowerCase(), tokens.ada, 401, UNAUTHORIZED],
      ['nobody', tokens.ada, 401, UNAUTHORIZED],
      ['__proto__', tokens.ada, 401, UNAUTHORIZED],
      ['{"$ne":null}', tokens.ada, 401, UNAUTHORIZED],
      ['deactivated', tokens.ada, 401, UNAUTHORIZED],
      ['logged out', 'undefined', 401, UNAUTHORIZED],
      ['without services', 'undefined', 401, UNAUTHORIZED],
      ['without resume', 'undefined', 401, UNAUTHORIZED],
      ['without tokens', 'undefined', 401, UNAUTHORIZED],
      ['without hash', 'undefined', 401, UNAUTHORIZED],
      ['unhashed', 'token', 401, UNAUTHORIZED]
    ] as const
    for (const [userId, token, status, body] of rows) t.strictSame(await answer(headersOf(userId, token)), [status, body], `${userId}, ${token}`)
  })

  test('I3: a user who is deactivated, logged out or removed is no longer authenticated', async t => {
    const { answer, change } = await serve(t, nothingStaged)
    const id = caller['x-user-id']
    const rows = [
      [[userDocument(id, [tokens.ada], { roles: ['admin'], active: false })], 401, UNAUTHORIZED],
      [[userDocument(id, [tokens.ada], { roles: ['admin'] })], 200, NOTHING_STAGED],
      [[userDocument(id, [], { roles: ['admin'] })], 401, UNAUTHORIZED],
      [[], 401, UNAUTHORIZED]
    ] as const
    t.strictSame(await answer(), [200, NOTHING_STAGED])
    for (const [users, status, body] of rows) {
      await change({ users })
      t.strictSame(await answer(), [status, body])
    }
  })

  test('a malformed user document does not match', async t => {
    const id = caller['x-user-id']
    const { answer, change } = await serve(t, nothingStaged)
    const { services, ...rest } = userDocument(id, [tokens.ada], { roles: ['admin'] })
    const { hashedToken } = services.resume.loginTokens[0]!
    const malformed: unknown[] = [
      null, 'text', 7, [], { resume: null }, { resume: 'text' }, { resume: [] }, { resume: { loginTokens: null } },
      ...['text', hashedToken, 7, {}, { 0: { hashedToken } }, [null], [hashedToken], [7], [{}], [{ hashedToken: null }], [{ hashedToken: 7 }],
        [{ hashedToken: { hashedToken } }]].map(loginTokens => ({ resume: { loginTokens } }))
    ]
    for (const services of malformed) {
      await change({ users: untyped({ ...rest, services }) })
      t.strictSame(await answer(), [401, UNAUTHORIZED], JSON.stringify(services))
    }
  })

  // Permission

  test('I3: a user may run imports if they have one of the permission\'s current roles', async t => {
    const { answer, change } = await serve(t, nothingStaged)
    const permitted: Array<[userRoles: unknown, roles: unknown, isPermitted: boolean]> = [
      [['admin'], ['admin'], true],
      [['user', 'bot', 'admin'], ['owner', 'admin'], true],
      [['user'], ['admin'], false],
      [['admin'], ['user'], false],
      [['admin'], [], false],
      [['admin'], undefined, false],
      [[], ['admin'], false],
      [undefined, ['admin'], false],
      [undefined, undefined, false],
      [['Admin'], ['admin'], false],
      [null, null, false],
      [[null], [null], false],
      [[7], [7], false],
      [{ 0: 'admin' }, ['admin'], false],
      [['admin'], { 0: 'admin' }, false],
      [['admin'], 'administrator', false],
      ['admin', ['admin', 'a'], false]
    ]
    for (const [userRoles, roles, isPermitted] of permitted) {
      await change({
        users: untyped(userDocument(caller['x-user-id'], [tokens.ada], { roles: userRoles })),
        rocketchat_permissions: untyped({ _id: 'view-import-operations', roles: ['user', 'admin', 'bot'] }, { _id: 'run-import', roles })
      })
      const [status, body] = await answer()
      const name = `a user of ${JSON.stringify(userRoles)}, the permission of ${JSON.stringify(roles)}`
      t.strictSame([status, body], isPermitted ? [200, NOTHING_STAGED] : [403, FORBIDDEN], name)
    }
  })

  test('nobody may run imports if the permission\'s document is missing', async t => {
    const { answer } = await serve(t, { rocketchat_permissions: [{ _id: 'view-import-operations', roles: ['admin'] }] })
    t.strictSame(await answer(), [403, FORBIDDEN])
  })

  test('a role that is revoked from the user or the permission takes effect immediately', async t => {
    const { answer, change } = await serve(t, nothingStaged)
    t.strictSame(await answer(), [200, NOTHING_STAGED])
    await change({ rocketchat_permissions: [{ _id: 'run-import', roles: ['owner'] }] })
    t.strictSame(await answer(), [403, FORBIDDEN])
    await change({ rocketchat_permissions: [{ _id: 'run-import', roles: ['admin'] }] })
    t.strictSame(await answer(), [200, NOTHING_STAGED])
    await change({ users: [userDocument(caller['x-user-id'], [tokens.ada])] })
    t.strictSame(await answer(), [403, FORBIDDEN])
  })

  // The operation

  test('without an operation the reply is error-operation-not-found', async t => {
    t.strictSame(await (await serve(t, { rocketchat_import: [] })).answer(), [400, OPERATION_NOT_FOUND])
  })

  test('the operation is the newest by ts in any position, and operations without ts are the oldest', async t => {
    const at = (importerKey: string, ts?: Date | null) => operationDocument({ _id: importerKey, importerKey, ...(ts !== undefined && { ts }) })
    const without = (importerKey: string) => {
      const { ts, ...rest } = at(importerKey)
      return rest
    }
    const [monday, tuesday, wednesday] = ['2026-03-02', '2026-03-03', '2026-03-04'].map(day => new Date(day))
    const rows = [
      [[at('csv', monday), at('slack', tuesday), at('api', wednesday)], 'API'],
      [[at('api', wednesday), at('slack', tuesday), at('csv', monday)], 'API'],
      [[at('csv', monday), at('api', wednesday), at('slack', tuesday)], 'API'],
      [[without('slack'), at('csv', new Date(0))], 'CSV'],
      [[at('csv', new Date(-1)), without('slack')], 'CSV'],
      [[at('slack', null), at('csv', new Date(0)), without('api')], 'CSV'],
      [[without('slack')], 'Slack'],
      [[at('slack', monday), at('slack-users', tuesday), at('slack', monday)].map((document, _id) => ({ ...document, _id })), 'Slack_Users']
    ] as const
    const { answer, change } = await serve(t, { rocketchat_import_data: [] })
    for (const [operations, name] of rows) {
      await change({ rocketchat_import: untyped(...operations) })
      t.strictSame(await answer(), [200, `{"name":"${name}","users":[],"channels":[],"message_count":0,"success":true}`])
    }
  })

  test('the newest of two operations is the one that MongoDB sorts first, for all types of ts', async t => {
    const { options, change } = await serve(t, { rocketchat_import: [] })
    for (const [older, newer] of neighboursOf(sortedValues)) {
      for (const operations of [[older, newer], [newer, older]]) {
        await change({ rocketchat_import: untyped(...operations) })
        t.equal((await options.store.latestOperation(context()))?.id, String(newer?._id), JSON.stringify(operations))
      }
    }
  })

  test('of operations with the same ts the first is the newest', async t => {
    const { options, change } = await serve(t, { rocketchat_import: [] })
    const equal = [[5, Long.fromNumber(5), 5], [null, undefined, null], [[], []], ['a', 'a'], [new Date(7), new Date(7)], [[1, 5], 5, [5]], [{ a: 1 }, { a: 1 }]]
    for (const values of equal) {
      await change({ rocketchat_import: untyped(...values.map((ts, _id) => ({ _id, ...(ts !== undefined && { ts }) }))) })
      t.equal((await options.store.latestOperation(context()))?.id, '0', JSON.stringify(values))
    }
  })

  test('an operation that is being prepared is valid only if valid is true', async t => {
    const { answer, change } = await serve(t)
    for (const [valid, isValid] of [[true, true], [false, false], [undefined, false], [null, false], [1, false], ['true', false]] as const) {
      const { valid: _valid, _updatedAt, ...rest } = preparing({})
      await change({ rocketchat_import: untyped({ ...rest, ...(valid !== undefined && { valid }) }) })
      const expected = isValid ? [200, '{"waiting":true,"step":"importer_preparing_users","success":true}'] : [400, OPERATION_INVALID]
      t.strictSame(await answer(), expected, `valid: ${valid}`)
    }
  })

  test('a waiting reply has the operation\'s messagesstatus, count and _updatedAt', async t => {
    const { answer } = await serve(t, {
      rocketchat_import: [preparing({
        _updatedAt: new Date(),
        messagesstatus: 'general/2023-05-04',
        count: { total: 12034, completed: 0, users: 320, channels: 41 },
        file: '/uploads/import.zip',
        contentType: 'application/zip'
      })]
    })
    const [status, body] = await answer()
    t.strictSame([status, JSON.parse(body)], [200, {
      waiting: true,
      step: 'importer_preparing_users',
      reading: 'general/2023-05-04',
      count: { total: 12034, completed: 0, users: 320, channels: 41 },
      updated_at: JSON.parse(body).updated_at,
      success: true
    }])
  })

  test('F7: missing, null and malformed fields of an operation are left out', async t => {
    const { answer, change } = await serve(t, { rocketchat_import_data: [] })
    const selection = '{"name":"Slack","users":[],"channels":[],"message_count":0,"success":true}'
    const rows: Array<[document: unknown, status: number, body: string]> = [
      [{ _id: 'bare' }, 200, NOTHING_STAGED],
      [{ _id: 7, status: null, importerKey: null, valid: null, messagesstatus: null, count: null, _updatedAt: null, file: null }, 200, NOTHING_STAGED],
      [operationDocument({ _id: { nested: 'id' } }), 200, selection],
      [operationDocument({ status: 'importer_from_the_future' }), 200, selection],
      [operationDocument({ status: 7 }), 200, selection],
      [operationDocument({ _updatedAt: 'yesterday' }), 200, selection],
      [preparing({ messagesstatus: 7, count: { users: -1, total: 'many' }, _updatedAt: 7 }), 200,
        '{"waiting":true,"step":"importer_preparing_users","success":true}'],
      [operationDocument({ importerKey: 'msteams' }), 400, '{"success":false,"error":"The importer (msteams) has no import class defined. ' +
        '[error-importer-not-defined]","errorType":"error-importer-not-defined"}']
    ]
    for (const [document, status, body] of rows) {
      await change({ rocketchat_import: untyped(document) })
      t.strictSame(await answer(), [status, body], JSON.stringify(document))
    }
  })

  test('counts that are 64-bit integers or of another BSON number type are sent as numbers', async t => {
    const { answer } = await serve(t, {
      rocketchat_import: [preparing({
        _updatedAt: undefined,
        count: { total: Long.fromNumber(2 ** 40), users: new Int32(5), channels: new Double(3), messages: Long.MAX_VALUE, contacts: 'many' }
      })]
    })
    t.strictSame(await answer(), [200,
      '{"waiting":true,"step":"importer_preparing_users","count":{"total":1099511627776,"users":5,"channels":3},"success":true}'])
  })

  test('an operation whose id or importer is an embedded document is handled like any other', async t => {
    const { answer, change } = await serve(t, { rocketchat_import_data: [] })
    const odd = { toString: 'text', toJSON: 'text', number: 5n }
    await change({ rocketchat_import: untyped(operationDocument({ _id: odd, importerKey: undefined })) })
    t.strictSame(await answer(), [200, NOTHING_STAGED])
    await change({ rocketchat_import: untyped(operationDocument({ importerKey: odd })) })
    const [status, body] = await answer()
    t.strictSame([status, JSON.parse(body).errorType], [400, 'error-importer-not-defined'])
  })

  test('operations whose ids are different embedded documents have different ETags', async t => {
    const { app, change } = await serve(t)
    const tags = new Set()
    for (const number of [1, 2]) {
      await change({ rocketchat_import: untyped(operationDocument({ _id: { a: { b: { c: { number } } } } })) })
      tags.add((await call(app)).headers.etag)
    }
    t.equal(tags.size, 2)
  })

  test('the id of an operation whose _id is an ObjectId is its digits', async t => {
    const digits = '0123456789abcdef01234567'
    const { options } = await serve(t, { rocketchat_import: [operationDocument({ _id: new ObjectId(digits) })] })
    t.equal((await options.store.latestOperation(context()))?.id, digits)
  })

  test('an operation with _updatedAt has an ETag, which changes with the operation', async t => {
    const { app, change } = await serve(t)
    const { etag } = (await call(app)).headers
    t.match(etag, /^W\/"/)
    t.strictSame([(await call(app, { headers: { 'if-none-match': etag } })).statusCode], [304])
    await change({ rocketchat_import: [operationDocument({ _updatedAt: new Date() })] })
    const next = await call(app, { headers: { 'if-none-match': etag } })
    t.equal(next.statusCode, 200)
    t.not(next.headers.etag, etag)
  })

  // Staged records

  test('documents of other kinds or without a kind are not part of the selection', async t => {
    const { rocketchat_import_data: data } = documents()
    const other = untyped(
      { dataType: 'avatar', data: { importIds: ['A1'] } },
      { dataType: 'User', data: { importIds: ['U9'] } },
      { dataType: 'users', data: { importIds: ['U9'] } },
      { dataType: null, data: { importIds: ['U9'] } },
      { dataType: 7, data: { importIds: ['U9'] } },
      { data: { importIds: ['U9'] } },
      {}
    )
    const [status, body] = await (await serve(t, { rocketchat_import_data: [...other, ...data, ...other] })).answer()
    t.strictSame([status, JSON.parse(body)], [200, selectionOfDocuments])
  })

  test('F6: malformed records are sent with defaults, and those without an import id are logged once', async t => {
    const { rocketchat_import_data: data } = documents()
    const records = ['user', 'channel', 'contact'].flatMap(dataType => [
      ...untyped({ dataType }, { dataType, data: null }, { dataType, data: 'text' }),
      ...staged(dataType, {}, { importIds: null }, { importIds: [] }, { importIds: 'U1' }, { importIds: [null] }, { importIds: [{}] }, { importIds: [''] }),
      ...staged(dataType, { importIds: [7], username: 7, name: 7, emails: null, phones: null, type: null, t: null, deleted: null, archived: null })
    ])
    const log = captureLog()
    const { answer } = await serve(t, { rocketchat_import_data: [...data, ...records] }, log.server)
    const [status, body] = await answer()
    const { users, channels, contacts } = selectionOfDocuments
    t.strictSame([status, JSON.parse(body)], [200, {
      ...selectionOfDocuments,
      users: [...users, { user_id: '7', username: '7', email: '', is_deleted: false, is_bot: false, do_import: true, is_email_taken: false }],
      channels: [
        ...channels.slice(0, -1),
        { channel_id: '7', name: '7', is_archived: false, do_import: true, is_private: false, is_direct: false },
        ...channels.slice(-1)
      ],
      contacts: [...contacts, { id: '7', name: '7', emails: [], phones: [], do_import: true }]
    }])
    matchEach(t, log.problems(), [{ level: levels.warn, leftOut: { users: { count: 10 }, channels: { count: 10 }, contacts: { count: 10 } } }])
  })

  test('numbers in ids, names and e-mail addresses keep all their digits', async t => {
    const numbers: Array<[value: unknown, digits: string]> = [
      [Long.fromString('9007199254740993'), '9007199254740993'],
      [Long.fromString('9007199254740992'), '9007199254740992'],
      [Long.MIN_VALUE, '-9223372036854775808'],
      [Long.fromNumber(5), '5'],
      [new Int32(-7), '-7'],
      [new Double(8), '8'],
      [1.5, '1.5'],
      [2 ** 60, '1152921504606846976'],
      [1e21, '1000000000000000000000']
    ]
    const records = (fields: (value: unknown) => object) => numbers.map(([value]) => ({ importIds: [value], ...fields(value) }))
    const { app } = await serve(t, {
      rocketchat_import_data: [
        ...staged('user', ...records(value => ({ username: value, emails: [value] }))),
        ...staged('channel', ...records(value => ({ name: value, t: 'c' }))),
        ...staged('contact', ...records(value => ({ name: value, emails: [value, 'text', value], phones: [value] })))
      ]
    })
    const { users, channels, contacts } = (await call(app)).json()
    matchEach(t, users, numbers.map(([, digits]) => ({ user_id: digits, username: digits, email: digits })))
    matchEach(t, channels, numbers.map(([, digits]) => ({ channel_id: digits, name: digits })))
    matchEach(t, contacts, numbers.map(([, digits]) => ({ id: digits, name: digits, emails: [digits, 'text', digits], phones: [digits] })))
  })

  test('a flag that is a number of any BSON type is true unless it is 0', async t => {
    const records = [new Int32(0), new Int32(1), Long.ZERO, Long.ONE, new Double(0), Long.MAX_VALUE, 0, 1, null, 'no']
      .map((flag, index) => ({ importIds: [`R${index}`], t: 'c', deleted: flag, archived: flag }))
    const { app } = await serve(t, { rocketchat_import_data: [...staged('user', ...records), ...staged('channel', ...records)] })
    const { users, channels } = (await call(app)).json()
    const flags = [false, true, false, true, false, true, false, true, false, true]
    t.strictSame(users.map((user: { is_deleted: boolean }) => user.is_deleted), flags)
    t.strictSame(channels.map((channel: { is_archived: boolean }) => channel.is_archived), flags)
  })

  test('thousands of documents are read in batches of at most two thousand, and each is sent once, in order', async t => {
    const count = 2100
    const numbers = Array.from({ length: count }, (_, number) => number)
    const kinds = ['user', 'message', 'channel', 'contact']
    const { app, options } = await serve(t, {
      rocketchat_import_data: numbers.flatMap(number => kinds.flatMap(kind => staged(kind, { importIds: [`${kind}-${number}`], t: 'c' })))
    })
    const { users, channels, contacts, message_count: messages } = (await call(app)).json()
    const ids = (kind: string) => numbers.map(number => `${kind}-${number}`)
    t.strictSame(users.map((user: { user_id: string }) => user.user_id), ids('user'))
    t.strictSame(channels.map((channel: { channel_id: string }) => channel.channel_id), ids('channel'))
    t.strictSame(contacts.map((contact: { id: string }) => contact.id), ids('contact'))
    t.equal(messages, count)
    for (const read of ['users', 'channels', 'contacts'] as const) {
      const lengths: number[] = []
      for await (const batch of options.store[read]?.(context()) ?? []) lengths.push(batch.length)
      t.ok(lengths.every(length => length <= 2000), `${read}: ${lengths}`)
      t.equal(lengths.reduce((sum, length) => sum + length, 0), count)
    }
  })

  test('records that are staged while the server runs are in the next reply', async t => {
    const { answer, change } = await serve(t, { rocketchat_import: [operationDocument({ _updatedAt: undefined })], rocketchat_import_data: [] })
    t.strictSame(JSON.parse((await answer())[1]).users, [])
    await change({ rocketchat_import_data: documents().rocketchat_import_data })
    t.strictSame(JSON.parse((await answer())[1]), selectionOfDocuments)
  })
}

/** The context of a store's method, outside a call. */
function context () {
  return { signal: new AbortController().signal, log: Fastify().log }
}

// Documents in memory

t.test('rocketChatDump reads the arrays in each call, including the host\'s changes to them', async t => {
  const users: Array<RocketChatDocuments['users'][number]> = []
  const operations: Array<RocketChatDocuments['rocketchat_import'][number]> = []
  const data = [...documents().rocketchat_import_data]
  const live = documents({ users, rocketchat_import: operations, rocketchat_import_data: data })
  const app = await build(t, rocketChatDump(live))
  t.equal((await call(app)).statusCode, 401)
  users.push(...documents().users)
  t.equal((await call(app)).body, OPERATION_NOT_FOUND)
  operations.push(operationDocument())
  t.strictSame((await call(app)).json(), selectionOfDocuments)
  data.push(...staged('message', {}, {}))
  t.equal((await call(app)).json().message_count, selectionOfDocuments.message_count + 2)
  live.rocketchat_import_data = []
  t.equal((await call(app)).json().message_count, 0)
})

t.test('rocketChatDump throws an error that names a collection that is not an array', async t => {
  for (const name of Object.keys(documents())) {
    for (const value of [undefined, null, {}, 'text']) {
      const failure = { code: 'FST_IMPORT_FILE_DATA_INVALID_OPTION', message: new RegExp(`"${name}"`) }
      t.throws(() => rocketChatDump(Object.assign(documents(), { [name]: value })), failure, `${name}: ${value}`)
    }
  }
  for (const value of [undefined, null, 'text', 5]) {
    t.throws(() => Reflect.apply(rocketChatDump, undefined, [value]), { code: 'FST_IMPORT_FILE_DATA_INVALID_OPTION', message: /"rocketchat_import"/ })
  }
})

t.test('rocketChatDump finds the newest operation also for types that only MongoDB can store', async t => {
  const live = documents()
  const { store } = rocketChatDump(live)
  for (const [older, newer] of [...neighboursOf(moreSortedValues), ...neighboursOf([1e21, Decimal128.fromString('Infinity'), 'a'])]) {
    for (const operations of [[older, newer], [newer, older]]) {
      live.rocketchat_import = untyped(...operations)
      t.equal((await store.latestOperation(context()))?.id, String(newer?._id), BSON.EJSON.stringify({ operations }))
    }
  }
})

t.test('rocketChatDump ignores values that are not documents, in each collection', async t => {
  const junk = untyped(null, undefined, 'text', 7, true, [], {})
  const { users, rocketchat_permissions: permissions, rocketchat_import: operations, rocketchat_import_data: data } = documents()
  const app = await build(t, rocketChatDump({
    users: [...junk, ...users],
    rocketchat_permissions: [...junk, ...permissions],
    rocketchat_import: [...junk, ...operations],
    rocketchat_import_data: [...junk, ...data]
  }))
  t.strictSame((await call(app)).json(), selectionOfDocuments)
  t.equal((await call(app, { headers: headersOf('nobody', 'token') })).statusCode, 401)
})

t.test('rocketChatDump does not match login tokens that are not in an array, or services in an array', async t => {
  const { services, ...rest } = userDocument(caller['x-user-id'], [tokens.ada], { roles: ['admin'] })
  for (const malformed of [[services], { resume: [services.resume] }, { resume: { loginTokens: services.resume.loginTokens[0] } }]) {
    const app = await build(t, rocketChatDump(documents({ users: untyped({ ...rest, services: malformed }) })))
    t.equal((await call(app)).body, UNAUTHORIZED)
  }
})

for (const options of [{ relaxed: false }, { useBigInt64: true }, { relaxed: false, useBigInt64: true }]) {
  t.test(`rocketChatDump accepts documents of EJSON.parse with ${JSON.stringify(options)}`, async t => {
    const text = BSON.EJSON.stringify(documents({
      rocketchat_import_data: [
        ...staged('user',
          { importIds: [Long.fromString('9007199254740993')], username: Decimal128.fromString('12345678901234567890.50'), emails: [5], deleted: 0 },
          { importIds: [Decimal128.fromString('1E+3')], username: new BSONSymbol('symbol'), emails: [1e21], deleted: Decimal128.fromString('0') },
          { importIds: [-1.5], username: NaN, emails: [new Date(0)], deleted: 1 },
          { importIds: [Decimal128.fromString('NaN')] }, { importIds: [new ObjectId()] }, { importIds: [[1]] })
      ]
    }), { relaxed: false })
    const reply = (await call(await build(t, rocketChatDump(BSON.EJSON.parse(text, options))))).json()
    const rest = { is_bot: false, do_import: true, is_email_taken: false }
    t.strictSame(reply.users, [
      { user_id: '9007199254740993', email: '5', is_deleted: false, ...rest, username: '12345678901234567890.50' },
      { user_id: '1E+3', email: '1000000000000000000000', is_deleted: false, ...rest, username: 'symbol' },
      { user_id: '-1.5', username: '', email: '', is_deleted: true, ...rest }
    ])
  })
}

t.test('rocketChatDump treats a field _bsontype of a document as data', async t => {
  const forged = ['Int32', 'Double', 'Long', 'Decimal128', 'BSONSymbol', 'Timestamp', 'Binary', 7].map(_bsontype => ({ _bsontype }))
  const { store } = rocketChatDump(documents({ rocketchat_import: untyped(...forged.map((ts, _id) => ({ _id, ts }))) }))
  t.ok(await store.latestOperation(context()))
  const app = await build(t, rocketChatDump(documents({
    rocketchat_import: untyped({ ...operationDocument(), count: forged[0] }),
    rocketchat_import_data: staged('user', ...forged.map(value => ({ importIds: ['U1'], username: value, deleted: value, emails: [value] })))
  })))
  const { users } = (await call(app)).json()
  t.strictSame(users, forged.map(() => ({ user_id: 'U1', username: '', email: '', is_deleted: true, is_bot: false, do_import: true, is_email_taken: false })))
})

t.test('rocketChatDump does not modify the documents, which may be frozen', async t => {
  const frozen = deepFreeze(documents())
  t.strictSame((await call(await build(t, rocketChatDump(frozen)))).json(), selectionOfDocuments)
})

function deepFreeze<T> (value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(deepFreeze)
  return value
}

t.test('hashLoginToken hashes a token like Rocket.Chat: the SHA-256 of its text, in base64', async t => {
  t.equal(hashLoginToken(''), '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=')
  t.equal(hashLoginToken('abc'), 'ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=')
  t.equal(hashLoginToken('ä€'), 'L7innYjfifg3CzEts/9o/WqoV1ScxBpoW0Ai6Z5fxaI=')
})
