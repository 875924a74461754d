import { deepStrictEqual } from 'node:assert'
import { setTimeout as wait } from 'node:timers/promises'
import { inspect, isDeepStrictEqual } from 'node:util'
import { Ajv } from 'ajv'
import { Long, ObjectId } from 'bson'
import type { FastifyInstance } from 'fastify'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { Batches, ImportDataStore, Selection, StagedChannel, StagedContact, StagedUser, StoreContext } from '../lib/index.js'
import { build, call, captureLog, levels, matchEach, NOTHING_STAGED, operation, storeOf, UNAVAILABLE } from './fixtures/build.js'
import { startImportSchemas } from './fixtures/start-import.js'
import { chunksOf, readAll, request, userBatch, watchedUsers } from './fixtures/streaming.js'

const INTERNAL = '{"success":false,"error":"Internal Server Error [error-internal-server-error]","errorType":"error-internal-server-error"}'

/** The maximum length of a selection that is sent in one piece. */
const PIECE = 64 * 1024

/** Staged records of any type, in batches of each kind. */
interface Staged {
  users?: unknown
  channels?: unknown
  contacts?: unknown
  messages?: unknown
}

/** A store with these staged records. Without contacts it has no method `contacts`. */
function storeWith ({ users = [], channels = [], contacts, messages = 0 }: Staged, changes: Partial<ImportDataStore> = {}): ImportDataStore {
  return storeOf({
    users: () => users as Batches<StagedUser>,
    channels: () => channels as Batches<StagedChannel>,
    ...(contacts !== undefined && { contacts: () => contacts as Batches<StagedContact> }),
    countMessages: async () => messages as number,
    ...changes
  })
}

/** A server with these staged records. */
function serve (t: Test, staged: Staged, server = {}): Promise<FastifyInstance> {
  return build(t, { store: storeWith(staged) }, server)
}

/** The reply to a call with these staged records. */
async function replyTo (t: Test, staged: Staged, server = {}) {
  return call(await serve(t, staged, server))
}

const directMessages = {
  channel_id: '__directMessages__', name: 'Direct Messages', is_archived: false, do_import: true, is_private: true, is_direct: true
}

// Records and items

t.test('a selection has all documented keys', async t => {
  const reply = await call(await build(t, {
    store: storeWith({
      users: [[
        { importIds: ['U1', 'U1-old'], username: 'ada', emails: ['ada@example.com', 'ada@example.org'], deleted: false, type: 'user' },
        { importIds: ['U2'], username: 'robot', emails: [], deleted: true, type: 'bot' }
      ]],
      channels: [[
        { importIds: ['D1'], t: 'd' },
        { importIds: ['C1', 'C1-old'], name: 'general', t: 'c' },
        { importIds: ['C2'], name: 'secret', t: 'p', archived: true }
      ]],
      contacts: [[{ importIds: ['c-1', 'c-2'], name: 'Grace', emails: ['grace@example.com', 'g@example.com'], phones: ['+49 30 1'] }]],
      messages: 12034
    }, { latestOperation: async () => operation({ importerKey: 'slack' }) })
  }))
  const selection = reply.json()
  t.strictSame([reply.statusCode, selection], [200, {
    name: 'Slack',
    users: [
      { user_id: 'U1', username: 'ada', email: 'ada@example.com', is_deleted: false, is_bot: false, do_import: true, is_email_taken: false },
      { user_id: 'U2', username: 'robot', email: '', is_deleted: true, is_bot: true, do_import: true, is_email_taken: false }
    ],
    channels: [
      { channel_id: 'C1', name: 'general', is_archived: false, do_import: true, is_private: false, is_direct: false },
      { channel_id: 'C2', name: 'secret', is_archived: true, do_import: true, is_private: true, is_direct: false },
      directMessages
    ],
    contacts: [{ id: 'c-1', name: 'Grace', emails: ['grace@example.com', 'g@example.com'], phones: ['+49 30 1'], do_import: true }],
    message_count: 12034,
    success: true
  }])
  t.strictSame(Object.keys(selection), ['name', 'users', 'channels', 'contacts', 'message_count', 'success'], 'in the documented order')
})

t.test('the item of a record with an import id only has all keys, in the documented order', async t => {
  const record = { importIds: ['1'] }
  const { body } = await replyTo(t, { users: [[record]], channels: [[record]], contacts: [[record]] })
  t.equal(body, '{"users":[{"user_id":"1","username":"","email":"","is_deleted":false,"is_bot":false,"do_import":true,"is_email_taken":false}],' +
    '"channels":[{"channel_id":"1","name":"","is_archived":false,"do_import":true,"is_private":false,"is_direct":false}],' +
    '"contacts":[{"id":"1","name":"","emails":[],"phones":[],"do_import":true}],"message_count":0,"success":true}')
})

t.test('contacts are left out if none are staged, or none have an import id', async t => {
  for (const contacts of [undefined, null, [], [[]], [[], []], [[{ name: 'without an id' }]]]) {
    t.equal((await replyTo(t, { contacts })).body, NOTHING_STAGED, inspect(contacts))
  }
})

t.test('all direct channels together are one item, which is the last', async t => {
  const direct = { importIds: ['D1'], users: ['U1', 'U2'], t: 'd' }
  const channel = { importIds: ['C1'], name: 'general', t: 'c' }
  const general = { channel_id: 'C1', name: 'general', is_archived: false, do_import: true, is_private: false, is_direct: false }
  const rows = [
    [[[channel]], [general]],
    [[[direct]], [directMessages]],
    [[[direct, channel]], [general, directMessages]],
    [[[channel, direct]], [general, directMessages]],
    [[[direct, direct], [channel], [direct]], [general, directMessages]],
    [[[{ t: 'd' }], [channel]], [general, directMessages]],
    [[[{ ...channel, importIds: ['__directMessages__'] }]], [directMessages]],
    [[[{ ...channel, importIds: ['__directMessages__'] }, direct, channel]], [general, directMessages]]
  ] as const
  for (const [channels, expected] of rows) t.strictSame((await replyTo(t, { channels })).json().channels, expected)
})

t.test('the items are in the order of the store', async t => {
  const ids = ['9', '10', '1', 'b', 'a', 'B', '1']
  const { users } = (await replyTo(t, { users: ids.map(id => [{ importIds: [id] }]) })).json()
  t.strictSame(users.map(({ user_id: id }: { user_id: string }) => id), ids)
})

t.test('message_count is the count of the store', async t => {
  for (const messages of [0, 1, 12034, Number.MAX_SAFE_INTEGER]) {
    t.equal((await replyTo(t, { messages })).body, `{"users":[],"channels":[],"message_count":${messages},"success":true}`)
  }
})

// Kinds of batches

const batches = [[], [{ importIds: ['1'] }, { importIds: ['2'] }], [], [], [{ importIds: ['3'] }], []]

/** An iterator without `return`. */
function minimalIterator () {
  let place = 0
  return { next: () => place < batches.length ? { value: batches[place++] } : { done: true, value: undefined } }
}

const sources: Record<string, () => unknown> = {
  'an array': () => batches,
  'a set': () => new Set(batches),
  'a generator': function * () { yield * batches },
  'an async generator': async function * () { yield * batches },
  'a sync iterable with a minimal iterator': () => ({ [Symbol.iterator]: minimalIterator }),
  'an async iterable with a minimal iterator': () => ({ [Symbol.asyncIterator]: () => { const { next } = minimalIterator(); return { next: async () => next() } } }),
  'an iterable of both kinds': () => ({ async * [Symbol.asyncIterator] () { yield * batches }, [Symbol.iterator]: () => { throw new Error('the sync iterator must not be used') } }),
  'batches that arrive later': async function * () { for (const batch of batches) { await new Promise(setImmediate); yield batch } },
  'one record per batch': () => batches.flat().map(record => [record]),
  'arrays that are frozen': () => Object.freeze(batches.map(batch => Object.freeze(batch)))
}

t.test('batches may be any iterable or async iterable of arrays, including empty ones', async t => {
  const { body: expected } = await replyTo(t, { users: [batches.flat()], channels: [batches.flat()], contacts: [batches.flat()] })
  for (const [kind, source] of Object.entries(sources)) {
    const store = { users: source, channels: source, contacts: source } as Partial<ImportDataStore>
    t.equal((await call(await build(t, { store: storeOf(store) }))).body, expected, kind)
  }
})

t.test('a thousand batches of a few records are one selection', async t => {
  const users = Array.from({ length: 1000 }, (_, batch) => userBatch(batch, batch % 3))
  t.strictSame((await replyTo(t, { users })).json(), simplySelected(users))
})

/** The selection of users, computed in a simple way. */
function simplySelected (users: ReadonlyArray<readonly StagedUser[]>) {
  return {
    users: users.flat().map(({ importIds, username, emails, type }) => ({
      user_id: importIds[0],
      username,
      email: emails?.[0],
      is_deleted: false,
      is_bot: type === 'bot',
      do_import: true,
      is_email_taken: false
    })),
    channels: [],
    message_count: 0,
    success: true
  }
}

// Malformed records

/** Values that may be staged in place of a string, and the string that is sent; undefined if the default is sent. */
const values: Array<[value: unknown, sent: string | undefined]> = [
  ['ada', 'ada'],
  ['', ''],
  [' ', ' '],
  ['\ud800 alone, and \udc00 alone', '\ud800 alone, and \udc00 alone'],
  ['"\\\0\n\u2028</script>', '"\\\0\n\u2028</script>'],
  ['名前 🚀', '名前 🚀'],
  ['\ud83d', '\ud83d'],
  ['long '.repeat(200_000), 'long '.repeat(200_000)],
  [`${'x'.repeat(1000)}\ud800`, `${'x'.repeat(1000)}\ud800`],
  [7, '7'],
  [0, '0'],
  [-1.5, '-1.5'],
  [7n, '7'],
  [2n ** 63n, '9223372036854775808'],
  [NaN, undefined],
  [Infinity, undefined],
  [true, undefined],
  [false, undefined],
  [undefined, undefined],
  [null, undefined],
  [{}, undefined],
  [{ address: 'ada@example.com' }, undefined],
  [[], undefined],
  [['ada'], undefined],
  [Long.fromNumber(7), '7'],
  [new Date(0), undefined],
  [new ObjectId('0123456789abcdef01234567'), undefined],
  [Buffer.from('ada'), undefined],
  [{ toString: () => 'ada', toJSON: () => 'ada' }, undefined],
  [JSON.parse('{"__proto__":{"length":1},"constructor":7}'), undefined]
]

/** Values that may be staged in place of an array, and have no valid element. */
const noLists: unknown[] = [
  undefined, null, [], 'ada', 7, 7n, true, {}, { 0: 'ada', length: 1 }, new Set(['ada']), Long.fromNumber(7), new Date(0), new ObjectId(), [null],
  [undefined], [{}], [[]], [['ada']], Array(1)
]

/** Values that may be staged in place of a record, and have no import id. */
const noRecords: unknown[] = [
  undefined, null, 7, 7n, true, 'ada', [], ['ada'], {}, new Date(0), new ObjectId(), Long.fromNumber(7), { importIds: [''] },
  { importIds: ['', 'U1'] }, { _id: 'U1', id: 'U1' }, JSON.parse('{"__proto__":{"importIds":["U1"]}}'),
  ...noLists.map(importIds => ({ importIds, username: 'ada' }))
]

/** A value as ASCII text, for the name of an assertion. */
const inspected = (value: unknown) => inspect(value, { maxStringLength: 20, breakLength: Infinity }).replace(/[^ -~]/g, '?')

/** Returns a function that stages one record as each kind, and returns the items. */
async function itemsOver (t: Test) {
  let batches: unknown
  const app = await build(t, {
    store: storeWith({}, {
      users: () => batches as Batches<StagedUser>,
      channels: () => batches as Batches<StagedChannel>,
      contacts: () => batches as Batches<StagedContact>
    })
  })
  return async (record: unknown) => {
    batches = [[record]]
    const { users: [user], channels: [channel], contacts: [contact] = [] } = (await call(app)).json()
    return { user, channel, contact }
  }
}

t.test('F6: strings are sent unchanged, numbers as strings, and any other value as if it were missing', async t => {
  const itemsOf = await itemsOver(t)
  for (const [value, text] of values) {
    const { user, channel, contact } =
      await itemsOf({ importIds: ['1'], username: value, name: value, emails: [value, 'second'], phones: ['first', value] })
    const list = text === undefined ? [] : [text]
    t.strictSame(user, {
      user_id: '1',
      username: text ?? '',
      email: text ?? '',
      is_deleted: false,
      is_bot: false,
      do_import: true,
      is_email_taken: false
    }, `a user: ${inspected(value)}`)
    t.strictSame(channel, {
      channel_id: '1', name: text ?? '', is_archived: false, do_import: true, is_private: false, is_direct: false
    }, `a channel: ${inspected(value)}`)
    t.strictSame(contact, {
      id: '1', name: text ?? '', emails: [...list, 'second'], phones: ['first', ...list], do_import: true
    }, `a contact: ${inspected(value)}`)
  }
})

t.test('F6: import ids follow the same rule, and a record without one is left out', async t => {
  const itemsOf = await itemsOver(t)
  for (const [value, text] of values) {
    const { user, channel, contact } = await itemsOf({ importIds: [value, 'second'] })
    const id = text === '' ? undefined : text
    t.strictSame([user?.user_id, channel?.channel_id, contact?.id], [id, id, id], inspected(value))
  }
})

t.test('F6: e-mail addresses and phone numbers that are not arrays, or have no valid element, are sent as empty arrays', async t => {
  const itemsOf = await itemsOver(t)
  for (const value of noLists) {
    const { user, contact } = await itemsOf({ importIds: ['1'], emails: value, phones: value })
    t.strictSame([user.email, contact.emails, contact.phones], ['', [], []], inspected(value))
  }
})

t.test('F6: is_deleted, is_archived, is_bot and is_private are sent for values of any type', async t => {
  const itemsOf = await itemsOver(t)
  for (const [value] of values) {
    const { user, channel } = await itemsOf({ importIds: ['1'], deleted: value, archived: value, type: value, t: value })
    t.strictSame(
      [user.is_deleted, channel.is_archived, user.is_bot, channel.is_private, channel.is_direct],
      [Boolean(value), Boolean(value), false, false, false],
      inspected(value)
    )
  }
})

t.test('F6: records without an import id are left out, and one log line per reply has their number and the position of the first', async t => {
  const well = { importIds: ['1'] }
  const log = captureLog()
  const app = await serve(t, {
    users: [[well], [...noRecords], [well]],
    channels: [[well, { t: 'd' }, ...noRecords], [well]],
    contacts: [[null], [well, null]]
  }, log.server)
  for (let calls = 1; calls <= 2; calls++) {
    const { users, channels, contacts } = (await call(app)).json()
    t.strictSame([users.length, channels.length, contacts.length], [2, 3, 1])
    const warnings = log.problems()
    t.equal(warnings.length, calls, 'one line per reply')
    t.match(warnings.at(-1), {
      level: levels.warn,
      reqId: String,
      msg: 'Staged records without an import id were left out of the selection: their number, and the position of the first',
      leftOut: {
        users: { count: noRecords.length, first: 2 },
        channels: { count: noRecords.length, first: 3 },
        contacts: { count: 2, first: 1 }
      }
    })
  }
  t.notMatch(log.lines.join(''), /ada/, 'without the content of the records')
})

t.test('F6: a selection without malformed records logs nothing, and kinds without malformed records are not logged', async t => {
  const log = captureLog()
  await replyTo(t, { users: [[{ importIds: ['1'] }]], channels: [[{ t: 'd' }]] }, log.server)
  t.strictSame(log.problems(), [])
  await replyTo(t, { users: [[{ importIds: ['1'] }]], channels: [[{ t: 'c' }]] }, log.server)
  t.strictSame(log.problems().map(({ leftOut }) => leftOut), [{ channels: { count: 1, first: 1 } }])
})

t.test('F6: records that are left out of a large selection are logged in one line, too', async t => {
  const log = captureLog()
  const users = Array.from({ length: 20 }, (_, batch) => [...userBatch(batch), null])
  t.equal((await replyTo(t, { users }, log.server)).json().users.length, 20_000)
  matchEach(t, log.problems(), [{ leftOut: { users: { count: 20, first: 1001 } } }])
})

t.test('F6: a key __proto__ of a record is harmless', async t => {
  const record = JSON.parse('{"__proto__":{"username":"eve","polluted":true},"importIds":["1"],"constructor":{"prototype":{"polluted":true}}}')
  const { user, channel, contact } = await (await itemsOver(t))(record)
  t.strictSame([user.username, channel.name, contact.name], ['', '', ''])
  t.equal('polluted' in {}, false)
})

t.test('F6: whatever is staged, the reply is valid JSON that matches the schema, and every missing record is logged', async t => {
  const log = captureLog()
  let staged: Record<'users' | 'channels' | 'contacts', unknown[][]>
  let messages = 0
  const app = await build(t, {
    store: storeWith({}, {
      users: () => staged.users as StagedUser[][],
      channels: () => staged.channels as StagedChannel[][],
      contacts: () => staged.contacts as StagedContact[][],
      countMessages: async () => messages
    })
  }, log.server)
  const anything = fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withSparseArray: true })
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('bot', 'c', 'p', 'd'), anything)
  const list = fc.oneof(fc.array(text), anything)
  const fields = {
    importIds: list, username: text, name: text, emails: list, phones: list, deleted: anything, archived: anything, type: text, t: text
  }
  const record = fc.oneof(anything, { arbitrary: fc.record(fields, { requiredKeys: [] }), weight: 4 })
  const kind = fc.array(fc.array(record, { maxLength: 5 }), { maxLength: 4 })
  await fc.assert(fc.asyncProperty(fc.record({ users: kind, channels: kind, contacts: kind }), fc.maxSafeNat(), async (...example) => {
    [staged, messages] = example
    log.lines.length = 0
    // `call` validates the reply.
    const { statusCode, body } = await call(app)
    const { users, channels, contacts = [], message_count: count } = JSON.parse(body)
    const leftOut = log.records().flatMap(line => line['leftOut'] ?? [])[0] as Record<string, { count: number }> | undefined
    const all = (kind: keyof typeof staged) => staged[kind].flat()
    const direct = all('channels').filter(channel => (channel as Partial<StagedChannel> | null | undefined)?.t === 'd').length
    deepStrictEqual({
      statusCode,
      count,
      users: users.length + (leftOut?.['users']?.count ?? 0),
      channels: channels.length + (leftOut?.['channels']?.count ?? 0),
      contacts: contacts.length + (leftOut?.['contacts']?.count ?? 0)
    }, {
      statusCode: 200,
      count: messages,
      users: all('users').length,
      channels: all('channels').length - direct + (direct > 0 ? 1 : 0),
      contacts: all('contacts').length
    })
  }), { numRuns: 100 })
  t.pass()
})

// Stores with invalid results

/** Invalid values in place of batches. */
const noBatches: Record<string, unknown> = {
  undefined,
  null: null,
  'a number': 7,
  'a string, which is iterable': 'ada',
  'an object': {},
  'a promise of batches': Promise.resolve([]),
  'a function': () => []
}

/** Invalid values in place of a batch. */
const noBatch: Record<string, unknown> = {
  'a record': { importIds: ['1'] },
  'a string': 'ada',
  null: null,
  undefined,
  'a set': new Set(),
  'an array-like': { length: 0 }
}

for (const method of ['users', 'channels', 'contacts'] as const) {
  t.test(`invalid batches from ${method}() of a store cause a 500, and are logged`, async t => {
    const isNoIterable = `The store's ${method}() must return an iterable or async iterable of arrays`
    const isNoArray = `The store's ${method}() must return its records in arrays, a batch at a time`
    const rows = [
      ...Object.entries(noBatches).map(([kind, source]) => [kind, () => source, isNoIterable] as const),
      ...Object.entries(noBatch).map(([kind, batch]) => [`a batch: ${kind}`, () => [[], batch], isNoArray] as const),
      ...Object.entries(noBatch).map(([kind, batch]) => [`an async batch: ${kind}`, async function * () { yield batch }, isNoArray] as const)
    ]
    for (const [kind, source, message] of rows) {
      // Then there are no contacts.
      if (method === 'contacts' && (kind === 'undefined' || kind === 'null')) continue
      const log = captureLog()
      const { statusCode, body } = await call(await build(t, { store: storeOf({ [method]: source }) }, log.server))
      t.strictSame([statusCode, body], [500, INTERNAL], kind)
      matchEach(t, log.problems(), [{ level: levels.error, err: { message } }], kind)
    }
  })
}

t.test('an invalid count from countMessages() of a store causes a 500, and is logged', async t => {
  for (const messages of [NaN, -1, 1.5, Infinity, 2 ** 53, '7', 7n, null, undefined, {}, Long.fromNumber(7)]) {
    const log = captureLog()
    const countMessages = async () => messages as number
    const { statusCode, body } = await call(await build(t, { store: storeOf({ countMessages }) }, log.server))
    t.strictSame([statusCode, body], [500, INTERNAL], inspected(messages))
    matchEach(t, log.problems(), [
      { level: levels.error, err: { message: 'The store\'s countMessages() must return a whole number, 0 or more' } }
    ])
  }
})

t.test('a failure is sent and logged as it is, also if another read of the store rejects first because its signal is aborted', async t => {
  async function * users ({ signal }: StoreContext): AsyncGenerator<never> { await wait(60_000, undefined, { signal }) }
  const log = captureLog()
  const text: unknown = '7'
  const limited = () => Promise.reject(Object.assign(new Error('Over quota'), { statusCode: 429 }))
  for (const [countMessages, status] of [[async () => text as number, 500], [limited, 429]] as const) {
    t.equal((await call(await build(t, { store: storeOf({ countMessages, users }) }, log.server))).statusCode, status)
  }
  matchEach(t, log.problems(), [{ err: { message: /countMessages\(\) must return/ } }])
})

// Large selections

/** Batches of users whose selection has at least `length` characters. */
function usersOfLength (length: number): StagedUser[][] {
  const users: StagedUser[][] = []
  for (let batch = 0, written = 0; written < length; batch++) {
    users.push(userBatch(batch, 10))
    written += JSON.stringify(simplySelected(users.slice(-1)).users).length
  }
  return users
}

t.test('a selection that fits in one piece has a Content-Length, and a larger one has none', async t => {
  const fit = usersOfLength(PIECE - 5_000)
  const rows = [
    ['nothing', [], true],
    ['less than a piece', fit, true],
    ['more than a piece', usersOfLength(PIECE), false],
    ['many pieces', usersOfLength(5 * PIECE), false],
    ['a record larger than a piece', [[{ importIds: ['1'], username: 'x'.repeat(PIECE), emails: ['ada@example.com'] }]], false],
    ['characters of more than a byte', [[{ importIds: ['1'], username: '名'.repeat(PIECE / 2), emails: ['ada@example.com'] }]], true]
  ] as const
  for (const [size, users, isWhole] of rows) {
    const { headers, body } = await replyTo(t, { users })
    t.equal(headers['content-length'], isWhole ? String(Buffer.byteLength(body)) : undefined, size)
    t.ok(isDeepStrictEqual(JSON.parse(body), simplySelected(users)), `${size}: ${body.length} characters`)
  }
})

t.test('a large selection of all kinds equals the one that is computed in a simple way', async t => {
  const kinds = ['c', 'p', 'd']
  const numbers = Array.from({ length: 30 }, (_, batch) => Array.from({ length: 100 }, (_, index) => batch * 100 + index))
  const users = numbers.map((_, batch) => userBatch(batch, 100))
  const channels = numbers.map(batch => batch.map(number => ({ importIds: [`C${number}`], name: `名前-${number}`, t: kinds[number % 3] })))
  const contacts = numbers.map(batch => batch.map(number => ({ importIds: [`c-${number}`], name: `Contact ${number}`, phones: [`+49 ${number}`] })))
  const { headers, body } = await replyTo(t, { users, channels, contacts, messages: 7 })
  t.equal(headers['content-length'], undefined)
  t.ok(isDeepStrictEqual(JSON.parse(body), {
    ...simplySelected(users),
    channels: [
      ...channels.flat().filter(({ t }) => t !== 'd').map(({ importIds: [id], name, t }) =>
        ({ channel_id: id, name, is_archived: false, do_import: true, is_private: t === 'p', is_direct: false })),
      directMessages
    ],
    contacts: contacts.flat().map(({ importIds: [id], name, phones }) => ({ id, name, emails: [], phones, do_import: true })),
    message_count: 7
  }))
})

t.test('a large selection is sent in chunks of about 64 KiB, however large the batches are', async t => {
  const batchesOfThousand = Array.from({ length: 5 }, (_, batch) => userBatch(batch))
  for (const [size, users] of [['small batches', usersOfLength(10 * PIECE)], ['large batches', batchesOfThousand]] as const) {
    const { chunks, isWhole } = await chunksOf(await serve(t, { users }))
    t.ok(isWhole && chunks.length >= 7, `${size}: ${chunks.length} chunks`)
    const lengths = chunks.slice(0, -1).map(({ length }) => length)
    t.ok(lengths.every(length => length >= PIECE / 4 && length < 2 * PIECE), `${size}: ${lengths}`)
    t.ok(isDeepStrictEqual(JSON.parse(chunks.join('')), simplySelected(users)))
  }
})

// Reading the store

t.test('the first batches of all kinds and the count are requested concurrently', { timeout: 10_000 }, async t => {
  const waitedFor = new Set(['users', 'channels', 'contacts', 'countMessages'])
  let allAsked = (): void => {}
  const all = new Promise<void>(resolve => { allAsked = resolve })
  async function asked (method: string): Promise<void> {
    waitedFor.delete(method)
    if (waitedFor.size === 0) allAsked()
    await all
  }
  const store = storeOf({
    async * users () { await asked('users'); yield [{ importIds: ['U1'] }] },
    async * channels () { await asked('channels'); yield [{ importIds: ['C1'], t: 'c' }] },
    async * contacts () { await asked('contacts'); yield [{ importIds: ['c-1'] }] },
    async countMessages () { await asked('countMessages'); return 7 }
  })
  const { users, channels, contacts, message_count: count } = (await call(await build(t, { store }))).json()
  t.strictSame([users.length, channels.length, contacts.length, count], [1, 1, 1, 7])
})

/** A store with some batches of each kind, and the events of its iterators, in order. */
function watchedStore (
  batches: { users: number, channels: number, contacts: number },
  { records = 1000, fail }: { records?: number, fail?: { in: string, at: number } } = {}
) {
  const events: string[] = []
  const open = new Set<string>()
  function note (event: 'open' | 'end' | 'return', kind: string): void {
    events.push(`${event} ${kind}`)
    open[event === 'open' ? 'add' : 'delete'](kind)
  }
  function source (kind: keyof typeof batches) {
    return () => {
      let batch = 0
      note('open', kind)
      return {
        [Symbol.asyncIterator]: () => ({
          async next () {
            if (kind === fail?.in && batch === fail.at) throw new Error(`${kind} failed`)
            if (batch === batches[kind]) {
              note('end', kind)
              return { done: true as const, value: undefined }
            }
            return { value: userBatch(batch++, records).map(user => ({ ...user, t: 'c' })) }
          },
          async return () {
            note('return', kind)
            return { done: true as const, value: undefined }
          }
        })
      }
    }
  }
  return { store: storeOf({ users: source('users'), channels: source('channels'), contacts: source('contacts') }), events, open }
}

t.test('iterators that are read to their end are not closed again, like in for await', async t => {
  const { store, events } = watchedStore({ users: 1, channels: 1, contacts: 1 }, { records: 1 })
  await call(await build(t, { store }))
  t.strictSame(events, ['open users', 'open channels', 'open contacts', 'end users', 'end channels', 'end contacts'])
})

t.test('for a large selection, iterators that were opened ahead are closed and opened again, and each record is sent once', async t => {
  const { store, events } = watchedStore({ users: 5, channels: 5, contacts: 5 })
  const { users, channels, contacts } = (await call(await build(t, { store }))).json()
  t.strictSame([users.length, channels.length, contacts.length], [5000, 5000, 5000])
  t.strictSame(events, [
    'open users', 'open channels', 'open contacts', 'return channels', 'return contacts',
    'end users', 'open channels', 'end channels', 'open contacts', 'end contacts'
  ])
})

t.test('a part that has ended while it was read ahead is not opened again, for selections of any size', async t => {
  for (const users of [1, 5]) {
    const { store, events } = watchedStore({ users, channels: 0, contacts: 0 })
    await call(await build(t, { store }))
    t.strictSame(events.filter(event => event.startsWith('open')), ['open users', 'open channels', 'open contacts'], `${users} batches`)
  }
})

t.test('iterators that are not read to their end because others failed are closed with return', async t => {
  for (const at of [0, 1, 2]) {
    const { store, events, open } = watchedStore({ users: 3, channels: 3, contacts: 3 }, { fail: { in: 'channels', at } })
    const log = captureLog()
    const reply = await request(await build(t, { store }, log.server))
    const { isWhole } = await readAll(reply)
    t.notOk(reply.statusCode === 200 && isWhole, `at batch ${at}`)
    matchEach(t, log.problems(), [{ err: { message: 'channels failed' } }])
    t.ok(events.includes('return contacts'), `at batch ${at}`)
    open.delete('channels')
    t.equal(open.size, 0, 'none is left open')
  }
})

t.test('a store that fails to close an iterator does not change the reply', async t => {
  const log = captureLog()
  const users = Array.from({ length: 3 }, (_, batch) => userBatch(batch))
  for (const fail of [() => { throw new Error('cannot close') }, async () => { throw new Error('cannot close') }]) {
    const close = t.captureFn(fail as () => never)
    const contacts = () => ({
      [Symbol.iterator]: () => {
        const batches: Iterator<never[]> = [[]].values()
        return { next: () => batches.next(), return: close }
      }
    })
    const reply = await call(await build(t, { store: storeWith({ users }, { contacts }) }, log.server))
    t.ok(isDeepStrictEqual(reply.json(), simplySelected(users)))
    t.equal(close.calls.length, 1)
  }
  t.strictSame(log.problems(), [])
})

// Complete or aborted

t.test('a store that fails after a batch, but before the first chunk, causes a 503', async t => {
  async function * failing () {
    yield [{ importIds: ['1'], t: 'c' }]
    throw new Error('connection lost')
  }
  for (const kind of ['users', 'channels', 'contacts']) {
    const log = captureLog()
    const reply = await call(await build(t, { store: storeOf({ [kind]: failing }) }, log.server))
    t.strictSame([reply.statusCode, reply.body], [503, UNAVAILABLE], kind)
    matchEach(t, log.problems(), [{ level: levels.error, err: { message: 'connection lost' } }])
  }
})

t.test('a part that cannot be opened causes a 503, whatever happens to the parts that were opened before', async t => {
  const log = captureLog()
  const lateFailure = new Promise<never>((_resolve, reject) => { setImmediate(() => reject(new Error('too late'))) })
  const reply = await call(await build(t, {
    store: storeOf({
      async * users () { yield await lateFailure },
      channels () { throw new Error('cannot be opened') }
    })
  }, log.server))
  await t.rejects(lateFailure)
  t.strictSame([reply.statusCode, reply.body], [503, UNAVAILABLE])
  matchEach(t, log.problems(), [{ err: { message: /cannot be opened/ } }])
})

t.test('a failure after the first chunk aborts the connection: the body does not parse, and one error is logged', async t => {
  async function * lost () {
    yield * watchedUsers(3).users()
    throw new Error('connection lost')
  }
  let operations = 0
  const rows: Array<[name: string, store: Partial<ImportDataStore>, message: string]> = [
    ['the store fails', { users: lost }, 'connection lost'],
    ['a batch is not an array', { users: async function * () { yield * watchedUsers(3).users(); yield 7 } as unknown as () => Batches<StagedUser> },
      'must return its records in arrays'],
    ['another import replaces it', {
      users: watchedUsers(3).users,
      latestOperation: async () => operation({ id: `operation-${operations++}` })
    }, 'The import operation changed']
  ]
  for (const [name, store, message] of rows) {
    const log = captureLog()
    const app = await build(t, { store: storeOf(store) }, log.server)
    const reply = await request(app)
    const { text, isWhole } = await readAll(reply)
    t.strictSame([reply.statusCode, isWhole], [200, false], name)
    t.match(text, /^\{"users":\[\{"user_id":"U-0-0"/)
    t.notMatch(text, /success/)
    t.throws(() => JSON.parse(text), SyntaxError)
    matchEach(t, log.problems(), [{ level: levels.error, reqId: String, err: { message } }])
  }
})

// The client's next call

/** The paths of the validation errors when a client of a version sends a selection to startImport. */
async function faultsOf (t: Test, staged: Staged): Promise<Record<string, string[]>> {
  const { users, channels, contacts = [] }: Selection = (await replyTo(t, staged)).json()
  const inputs = {
    '6.0': { users, channels },
    6.13: { users, channels },
    8.8: {
      users: { list: users.map(({ user_id: id }) => id) },
      channels: { list: channels.map(({ channel_id: id }) => id) },
      contacts: { list: contacts.map(({ id }) => id) }
    }
  }
  return Object.fromEntries(Object.entries(startImportSchemas).map(([version, schema]) => {
    // Rocket.Chat coerces types. Without that, no error is hidden.
    const validate = new Ajv({ allErrors: true, coerceTypes: false }).compile(schema)
    validate({ input: inputs[version as keyof typeof inputs] })
    return [version, (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)]
  }))
}

t.test('C2: the client\'s next call accepts a selection, also with malformed records and without names or e-mail addresses', async t => {
  const texts = values.flatMap(([value, text]) => text === undefined ? [] : [value])
  const staged = {
    users: [
      [{ importIds: ['U1'], username: 'ada', emails: ['ada@example.com'] }, { importIds: ['U2'], username: 'robot', emails: [], type: 'bot' }],
      noLists.map((emails, place) => ({ importIds: [place + 1], username: 'ada', emails, deleted: emails })),
      values.map(([value]) => ({ importIds: ['U3'], username: 'ada', emails: [value], type: value })),
      texts.map(value => ({ importIds: [value], username: value })),
      [{ importIds: ['U4'] }],
      noRecords
    ],
    channels: [
      [{ importIds: ['C1'], name: 'general', t: 'c' }, { importIds: ['D1'], t: 'd' }],
      values.map(([value]) => ({ importIds: ['C2'], name: 'secret', t: 'p', archived: value })),
      texts.map(value => ({ importIds: [value], name: value })),
      [{ importIds: ['C3'], t: 'c' }],
      noRecords
    ],
    contacts: [[{ importIds: ['c-1'] }], values.map(([value]) => ({ importIds: ['c-2'], name: value, emails: [value], phones: value })), noRecords]
  }
  t.strictSame(await faultsOf(t, staged), { '6.0': [], 6.13: [], 8.8: [] })
})
