import { deepStrictEqual } from 'node:assert'
import { inspect, isDeepStrictEqual } from 'node:util'
import { Ajv } from 'ajv'
import { Long, ObjectId } from 'bson'
import { type FastifyInstance } from 'fastify'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { type Batches, type ImportDataStore, type Selection, type StagedChannel, type StagedContact, type StagedUser } from '../lib/index.js'
import { build, call, captureLog, levels, NOTHING_STAGED, operation, storeOf } from './fixtures/build.js'
import { startImportSchemas } from './fixtures/start-import.js'
import { chunksOf, readAll, request, userBatch, watchedUsers } from './fixtures/streaming.js'

const INTERNAL = '{"success":false,"error":"Internal Server Error [error-internal-server-error]","errorType":"error-internal-server-error"}'
const UNAVAILABLE = '{"success":false,"error":"The import data cannot be read at the moment. Please try again in a few seconds. ' +
  '[error-service-unavailable]","errorType":"error-service-unavailable"}'

/** The length of text that goes out in one piece. */
const PIECE = 64 * 1024

/** What is staged, as somebody without types may stage it: each kind in batches. */
interface Staged {
  users?: unknown
  channels?: unknown
  contacts?: unknown
  messages?: unknown
}

/** A store of what is staged; without contacts it has no such method. */
function storeWith ({ users = [], channels = [], contacts, messages = 0 }: Staged, changes: Partial<ImportDataStore> = {}): ImportDataStore {
  return storeOf({
    users: () => users as Batches<StagedUser>,
    channels: () => channels as Batches<StagedChannel>,
    ...(contacts !== undefined && { contacts: () => contacts as Batches<StagedContact> }),
    countMessages: async () => messages as number,
    ...changes
  })
}

/** A server over what is staged. */
function serve (t: Test, staged: Staged, server = {}): Promise<FastifyInstance> {
  return build(t, { store: storeWith(staged) }, server)
}

/** The reply to one call over what is staged. */
async function replyTo (t: Test, staged: Staged, server = {}) {
  return call(await serve(t, staged, server))
}

const directMessages = {
  channel_id: '__directMessages__', name: 'Direct Messages', is_archived: false, do_import: true, is_private: true, is_direct: true
}

// What is staged and what is told

t.test('a selection has every key of the contract', async t => {
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
  t.strictSame(Object.keys(selection), ['name', 'users', 'channels', 'contacts', 'message_count', 'success'], 'in its order')
})

t.test('a record with nothing but its import id has every key, in the order of the contract', async t => {
  const record = { importIds: ['1'] }
  const { body } = await replyTo(t, { users: [[record]], channels: [[record]], contacts: [[record]] })
  t.equal(body, '{"users":[{"user_id":"1","username":"","email":"","is_deleted":false,"is_bot":false,"do_import":true,"is_email_taken":false}],' +
    '"channels":[{"channel_id":"1","name":"","is_archived":false,"do_import":true,"is_private":false,"is_direct":false}],' +
    '"contacts":[{"id":"1","name":"","emails":[],"phones":[],"do_import":true}],"message_count":0,"success":true}')
})

t.test('the contacts are left out where none is staged, or none can be told', async t => {
  for (const contacts of [undefined, [], [[]], [[], []], [[{ name: 'without an id' }]]]) {
    t.equal((await replyTo(t, { contacts })).body, NOTHING_STAGED, inspect(contacts))
  }
})

t.test('direct channels are one item together, which comes once and last', async t => {
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

t.test('the records are told in the order of the store', async t => {
  const ids = ['9', '10', '1', 'b', 'a', 'B', '1']
  const { users } = (await replyTo(t, { users: ids.map(id => [{ importIds: [id] }]) })).json()
  t.strictSame(users.map(({ user_id: id }: { user_id: string }) => id), ids)
})

t.test('message_count is what the store counts', async t => {
  for (const messages of [0, 1, 12034, Number.MAX_SAFE_INTEGER]) {
    t.equal((await replyTo(t, { messages })).body, `{"users":[],"channels":[],"message_count":${messages},"success":true}`)
  }
})

// The kinds of batches

const batches = [[], [{ importIds: ['1'] }, { importIds: ['2'] }], [], [], [{ importIds: ['3'] }], []]

/** An iterator written by hand that has nothing but what it must have. */
function byHand () {
  let place = 0
  return { next: () => place < batches.length ? { value: batches[place++] } : { done: true, value: undefined } }
}

const sources: Record<string, () => unknown> = {
  'an array': () => batches,
  'a set': () => new Set(batches),
  'a generator': function * () { yield * batches },
  'an async generator': async function * () { yield * batches },
  'a sync iterable by hand': () => ({ [Symbol.iterator]: byHand }),
  'an async iterable by hand': () => ({ [Symbol.asyncIterator]: () => { const { next } = byHand(); return { next: async () => next() } } }),
  'an iterable of both kinds': () => ({ async * [Symbol.asyncIterator] () { yield * batches }, [Symbol.iterator]: () => { throw new Error('not this one') } }),
  'batches that come late': async function * () { for (const batch of batches) { await new Promise(setImmediate); yield batch } },
  'a record a batch': () => batches.flat().map(record => [record]),
  'arrays that are frozen': () => Object.freeze(batches.map(batch => Object.freeze(batch)))
}

t.test('batches may be any iterable or async iterable of arrays, and some of them empty', async t => {
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

/** The selection of users, computed the simple way. */
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

// Ill records

/** What may be staged in the place of a text, and the text that is told of it: none where there is none. */
const values: Array<[value: unknown, told: string | undefined]> = [
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

/** What may be staged in the place of a list, and has no member that could be told. */
const noLists: unknown[] = [
  undefined, null, [], 'ada', 7, 7n, true, {}, { 0: 'ada', length: 1 }, new Set(['ada']), Long.fromNumber(7), new Date(0), new ObjectId(), [null],
  [undefined], [{}], [[]], [['ada']], Array(1)
]

/** What may be staged in the place of a record, and has no import id. */
const noRecords: unknown[] = [
  undefined, null, 7, 7n, true, 'ada', [], ['ada'], {}, new Date(0), new ObjectId(), Long.fromNumber(7), { importIds: [''] },
  { importIds: ['', 'U1'] }, { _id: 'U1', id: 'U1' }, JSON.parse('{"__proto__":{"importIds":["U1"]}}'),
  ...noLists.map(importIds => ({ importIds, username: 'ada' }))
]

/** A value in ASCII, for the name of an assertion. */
const inspected = (value: unknown) => inspect(value, { maxStringLength: 20, breakLength: Infinity }).replace(/[^ -~]/g, '?')

/** A function that gives what comes of one record staged as each of the kinds, in one reply. */
async function teller (t: Test) {
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

t.test('F6: a text of any sort is told as itself, a number as its text, and anything else as if it were not there', async t => {
  const told = await teller(t)
  for (const [value, text] of values) {
    const { user, channel, contact } =
      await told({ importIds: ['1'], username: value, name: value, emails: [value, 'second'], phones: ['first', value] })
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

t.test('F6: an import id of any sort is told by the same rule, and a record without one is left out', async t => {
  const told = await teller(t)
  for (const [value, text] of values) {
    const { user, channel, contact } = await told({ importIds: [value, 'second'] })
    const id = text === '' ? undefined : text
    t.strictSame([user?.user_id, channel?.channel_id, contact?.id], [id, id, id], inspected(value))
  }
})

t.test('F6: e-mail addresses and phone numbers that are no list, or have nothing in it to tell, are none', async t => {
  const told = await teller(t)
  for (const value of noLists) {
    const { user, contact } = await told({ importIds: ['1'], emails: value, phones: value })
    t.strictSame([user.email, contact.emails, contact.phones], ['', [], []], inspected(value))
  }
})

t.test('F6: whether something is deleted, archived, a bot or private is told for a value of any sort', async t => {
  const told = await teller(t)
  for (const [value] of values) {
    const { user, channel } = await told({ importIds: ['1'], deleted: value, archived: value, type: value, t: value })
    t.strictSame(
      [user.is_deleted, channel.is_archived, user.is_bot, channel.is_private, channel.is_direct],
      [Boolean(value), Boolean(value), false, false, false],
      inspected(value)
    )
  }
})

t.test('F6: a record without an import id is left out, and one log line a reply says how many were, and the place of the first', async t => {
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
    const warnings = log.records().filter(({ level }) => level >= levels.warn)
    t.equal(warnings.length, calls, 'one line a reply')
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
  t.notMatch(log.lines.join(''), /ada/, 'and nothing of the records themselves')
})

t.test('F6: a selection in which nothing is ill logs nothing of it, and a kind in which nothing is ill is not named', async t => {
  const log = captureLog()
  await replyTo(t, { users: [[{ importIds: ['1'] }]], channels: [[{ t: 'd' }]] }, log.server)
  t.strictSame(log.records().filter(({ level }) => level >= levels.warn), [])
  await replyTo(t, { users: [[{ importIds: ['1'] }]], channels: [[{ t: 'c' }]] }, log.server)
  t.strictSame(log.records().filter(({ level }) => level >= levels.warn).map(({ leftOut }) => leftOut), [{ channels: { count: 1, first: 1 } }])
})

t.test('F6: records left out of a large selection are one log line, too', async t => {
  const log = captureLog()
  const users = Array.from({ length: 20 }, (_, batch) => [...userBatch(batch), null])
  t.equal((await replyTo(t, { users }, log.server)).json().users.length, 20_000)
  t.match(log.records().filter(({ level }) => level >= levels.warn), [{ leftOut: { users: { count: 20, first: 1001 } } }])
})

t.test('F6: a key __proto__ of a record does no harm', async t => {
  const record = JSON.parse('{"__proto__":{"username":"eve","polluted":true},"importIds":["1"],"constructor":{"prototype":{"polluted":true}}}')
  const { user, channel, contact } = await (await teller(t))(record)
  t.strictSame([user.username, channel.name, contact.name], ['', '', ''])
  t.equal('polluted' in {}, false)
})

t.test('F6: whatever is staged, the reply is valid JSON of the documented shape, and no record is lost unsaid', async t => {
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
    // `call` holds the reply against its schema.
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

// Stores that answer wrongly

/** What a store may give in the place of batches, and the method's name may be any of the three. */
const noBatches: Record<string, unknown> = {
  undefined,
  null: null,
  'a number': 7,
  'a text, which is iterable': 'ada',
  'an object': {},
  'a promise of batches': Promise.resolve([]),
  'a function': () => []
}

/** What a store may give in the place of a batch. */
const noBatch: Record<string, unknown> = {
  'a record': { importIds: ['1'] },
  'a text': 'ada',
  null: null,
  undefined,
  'a set': new Set(),
  'an array-like': { length: 0 }
}

for (const method of ['users', 'channels', 'contacts'] as const) {
  t.test(`a store whose ${method}() gives what are no batches is a 500, and the log says so`, async t => {
    const isNoIterable = `The store's ${method}() must return an iterable or async iterable of arrays`
    const isNoArray = `The store's ${method}() must return its records in arrays, a batch at a time`
    const rows = [
      ...Object.entries(noBatches).map(([kind, source]) => [kind, () => source, isNoIterable] as const),
      ...Object.entries(noBatch).map(([kind, batch]) => [`a batch: ${kind}`, () => [[], batch], isNoArray] as const),
      ...Object.entries(noBatch).map(([kind, batch]) => [`an async batch: ${kind}`, async function * () { yield batch }, isNoArray] as const)
    ]
    for (const [kind, source, message] of rows) {
      // Where contacts() gives undefined it is as if there were no contacts.
      if (method === 'contacts' && (kind === 'undefined' || kind === 'null')) continue
      const log = captureLog()
      const { statusCode, body } = await call(await build(t, { store: storeOf({ [method]: source }) }, log.server))
      t.strictSame([statusCode, body], [500, INTERNAL], kind)
      t.match(log.records().filter(({ level }) => level >= levels.warn), [{ level: levels.error, err: { message } }], kind)
    }
  })
}

t.test('a store whose countMessages() gives what is no count is a 500, and the log says so', async t => {
  for (const messages of [NaN, -1, 1.5, Infinity, 2 ** 53, '7', 7n, null, undefined, {}, Long.fromNumber(7)]) {
    const log = captureLog()
    const countMessages = async () => messages as number
    const { statusCode, body } = await call(await build(t, { store: storeOf({ countMessages }) }, log.server))
    t.strictSame([statusCode, body], [500, INTERNAL], inspected(messages))
    t.match(log.records().filter(({ level }) => level >= levels.warn), [
      { level: levels.error, err: { message: 'The store\'s countMessages() must return a whole number, 0 or more' } }
    ])
  }
})

// Large selections

/** Batches of users whose selection is a text of so many characters, or some more. */
function usersOfLength (length: number): StagedUser[][] {
  const users: StagedUser[][] = []
  for (let batch = 0, written = 0; written < length; batch++) {
    users.push(userBatch(batch, 10))
    written += JSON.stringify(simplySelected(users.slice(-1)).users).length
  }
  return users
}

t.test('a selection that fits in one piece has a content-length, and the bytes of a larger one are not counted', async t => {
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

t.test('a large selection of every kind is the one that is computed the simple way', async t => {
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

// How the store is read

t.test('the first batches of every kind and the count are asked for at once', { timeout: 10_000 }, async t => {
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

/** A store of so many batches of each kind, and what became of them, in the order in which it did. */
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

t.test('batches that are read to their end are told nothing more, as for await does it', async t => {
  const { store, events } = watchedStore({ users: 1, channels: 1, contacts: 1 }, { records: 1 })
  await call(await build(t, { store }))
  t.strictSame(events, ['open users', 'open channels', 'open contacts', 'end users', 'end channels', 'end contacts'])
})

t.test('each record is told once, and no batches are left open, however large a selection is', async t => {
  const { store, open } = watchedStore({ users: 5, channels: 5, contacts: 5 })
  const { users, channels, contacts } = (await call(await build(t, { store }))).json()
  t.strictSame([users.length, channels.length, contacts.length], [5000, 5000, 5000])
  t.equal(open.size, 0)
})

t.test('batches that are not read to their end, since others failed, are told to return', async t => {
  for (const at of [0, 1, 2]) {
    const { store, events, open } = watchedStore({ users: 3, channels: 3, contacts: 3 }, { fail: { in: 'channels', at } })
    const log = captureLog()
    const reply = await request(await build(t, { store }, log.server))
    const { isWhole } = await readAll(reply)
    t.notOk(reply.statusCode === 200 && isWhole, `at batch ${at}`)
    t.match(log.records().filter(({ level }) => level >= levels.warn), [{ err: { message: 'channels failed' } }])
    t.ok(events.includes('return contacts'), `at batch ${at}`)
    open.delete('channels')
    t.equal(open.size, 0, 'and none is left open')
  }
})

t.test('a store that fails to tidy up changes nothing of the reply', async t => {
  const log = captureLog()
  const users = Array.from({ length: 3 }, (_, batch) => userBatch(batch))
  for (const fail of [() => { throw new Error('cannot close') }, async () => { throw new Error('cannot close') }]) {
    const contacts = () => ({ [Symbol.iterator]: () => ({ next: () => ({ done: true as const, value: undefined }), return: fail as () => never }) })
    const reply = await call(await build(t, { store: storeWith({ users }, { contacts }) }, log.server))
    t.ok(isDeepStrictEqual(reply.json(), simplySelected(users)))
  }
  t.strictSame(log.records().filter(({ level }) => level >= levels.warn), [])
})

// Whole or broken

t.test('a store that fails after a batch, but before the first piece, is a 503', async t => {
  async function * failing () {
    yield [{ importIds: ['1'], t: 'c' }]
    throw new Error('lost the connection')
  }
  for (const kind of ['users', 'channels', 'contacts']) {
    const log = captureLog()
    const reply = await call(await build(t, { store: storeOf({ [kind]: failing }) }, log.server))
    t.strictSame([reply.statusCode, reply.body], [503, UNAVAILABLE], kind)
    t.match(log.records().filter(({ level }) => level >= levels.warn), [{ level: levels.error, err: { message: 'lost the connection' } }])
  }
})

t.test('a part that cannot be opened is a 503, whatever becomes of the parts that were opened before it', async t => {
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
  t.match(log.records().filter(({ level }) => level >= levels.warn), [{ err: { message: /cannot be opened/ } }])
})

t.test('what fails after the first piece breaks the connection: the body does not parse, and one error is logged', async t => {
  async function * lost () {
    yield * watchedUsers(3).users()
    throw new Error('lost the connection')
  }
  let operations = 0
  const rows: Array<[name: string, store: Partial<ImportDataStore>, message: string]> = [
    ['the store fails', { users: lost }, 'lost the connection'],
    ['a batch is none', { users: async function * () { yield * watchedUsers(3).users(); yield 7 } as unknown as () => Batches<StagedUser> },
      'must return its records in arrays'],
    ['another import takes its place', {
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
    t.match(log.records().filter(({ level }) => level >= levels.warn), [{ level: levels.error, reqId: String, err: { message } }])
  }
})

// The next call of a client

/** What startImport finds wrong with a selection that a client sends back in the way of its version: the place of each fault. */
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
    // Rocket.Chat converts types where it can; without that no fault is hidden by it.
    const validate = new Ajv({ allErrors: true, coerceTypes: false }).compile(schema)
    validate({ input: inputs[version as keyof typeof inputs] })
    return [version, (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)]
  }))
}

t.test('C2: a selection passes into the next call of a client, with malformed records and without names or e-mail addresses too', async t => {
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
