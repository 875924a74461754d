import { deepStrictEqual } from 'node:assert'
import { inspect, isDeepStrictEqual } from 'node:util'
import { Ajv } from 'ajv'
import { Long, ObjectId } from 'bson'
import Fastify, { type FastifyInstance } from 'fastify'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { type Batches, type ImportDataStore, type StagedChannel, type StagedContact, type StagedUser, type StoreContext } from '../lib/index.js'
import { SelectionText } from '../lib/selection-stream.js'
import { build, call, captureLog, levels, NOTHING_STAGED, operation, recorded, storeOf } from './fixtures/build.js'
import { readAll, request, userBatch, watchedUsers } from './fixtures/streaming.js'

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

/** What a store is told of a call, where there is no call. */
const context: StoreContext = { signal: new AbortController().signal, log: Fastify().log }

/** The pieces of a selection's text. */
async function piecesOf (store: ImportDataStore, name?: string, confirm = async () => {}): Promise<string[]> {
  const text = new SelectionText(store, context, name, confirm)
  const pieces: string[] = []
  for (let piece = await text.next(); piece !== undefined; piece = await text.next()) pieces.push(String(piece))
  return pieces
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

t.test('a record with nothing but its import id has every key that is not optional', async t => {
  const record = { importIds: ['1'] }
  const { body } = await replyTo(t, { users: [[record]], channels: [[record]], contacts: [[record]] })
  t.equal(body, '{"users":[{"user_id":"1","email":"","is_deleted":false,"is_bot":false,"do_import":true,"is_email_taken":false}],' +
    '"channels":[{"channel_id":"1","is_archived":false,"do_import":true,"is_private":false,"is_direct":false}],' +
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
    [[[{ t: 'd' }], [channel]], [general, directMessages]]
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
  [Long.fromNumber(7), undefined],
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
      ...(text !== undefined && { username: text }),
      email: text ?? '',
      is_deleted: false,
      is_bot: false,
      do_import: true,
      is_email_taken: false
    }, `a user: ${inspected(value)}`)
    t.strictSame(channel, {
      channel_id: '1', ...(text !== undefined && { name: text }), is_archived: false, do_import: true, is_private: false, is_direct: false
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
      msg: 'Staged records without an import id were left out of the selection: how many, and the place of the first',
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
  t.strictSame([user.username, channel.name, contact.name], [undefined, undefined, ''])
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
    const isNoIterable = `The store's ${method}() must give an iterable or async iterable of arrays`
    const isNoArray = `The store's ${method}() must give its records in arrays, a batch at a time`
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
      { level: levels.error, err: { message: 'The store\'s countMessages() must give a whole number, 0 or more' } }
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

t.test('pieces are some 64 KiB, or at least 16 at the end of a turn that has had a whole one; together they are the whole', async t => {
  const batchesOfThousand = Array.from({ length: 5 }, (_, batch) => userBatch(batch))
  for (const [size, users] of [['small batches', usersOfLength(10 * PIECE)], ['large batches', batchesOfThousand]] as const) {
    const pieces = await piecesOf(storeWith({ users }), 'Slack')
    t.ok(pieces.length >= 10, `${size}: ${pieces.length} pieces`)
    const lengths = pieces.slice(0, -1).map(({ length }) => length)
    t.ok(lengths.every(length => length >= PIECE / 4 && length < PIECE + 200), `${size}: ${lengths}`)
    t.ok(lengths.filter(length => length >= PIECE).length >= lengths.length / 2, `${size}: most are whole`)
    t.ok(isDeepStrictEqual(JSON.parse(pieces.join('')), { name: 'Slack', ...simplySelected(users) }))
  }
})

t.test('the operation is looked up again for a selection of several pieces, and before the last of them only', async t => {
  for (const [users, calls] of [[usersOfLength(PIECE - 5_000), 0], [usersOfLength(3 * PIECE), 1]] as const) {
    let confirmed = 0
    await piecesOf(storeWith({ users }), undefined, async () => { confirmed++ })
    t.equal(confirmed, calls)
  }
  const { options, calls } = recorded({ store: storeWith({ users: usersOfLength(3 * PIECE) }) })
  await call(await build(t, options))
  t.strictSame([calls[2], calls.at(-1)], ['latestOperation', 'latestOperation'])
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
  await piecesOf(store)
  t.strictSame(events, ['open users', 'open channels', 'open contacts', 'end users', 'end channels', 'end contacts'])
})

t.test('the batches of a selection that takes less than a minute are read once, however many they are', async t => {
  const { store, events } = watchedStore({ users: 5, channels: 5, contacts: 5 })
  await piecesOf(store)
  const [users, channels, contacts] = ['users', 'channels', 'contacts'].map(kind => events.filter(event => event === `open ${kind}`).length)
  t.strictSame([users, channels, contacts], [1, 1, 1])
})

t.test('the batches of later kinds are closed when they have waited for a minute, and opened again in their turn', async t => {
  const { store, events, open } = watchedStore({ users: 2, channels: 2, contacts: 2 })
  const now = Date.now
  t.teardown(() => { Date.now = now })
  let minutes = 0
  Date.now = () => now() + ++minutes * 61_000
  const { users, channels, contacts } = JSON.parse((await piecesOf(store)).join(''))
  const opened = events.filter(event => !event.startsWith('end')).slice(0, 7)
  t.strictSame(opened, ['open users', 'open channels', 'open contacts', 'return channels', 'return contacts', 'open channels', 'open contacts'])
  t.strictSame([users.length, channels.length, contacts.length], [2000, 2000, 2000], 'and each record is told once')
  t.equal(open.size, 0)
})

t.test('batches that are not read to their end, since others failed, are told to return', async t => {
  for (const at of [0, 1, 2]) {
    const { store, events, open } = watchedStore({ users: 3, channels: 3, contacts: 3 }, { fail: { in: 'channels', at } })
    await t.rejects(piecesOf(store), { message: 'channels failed' })
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
      'must give its records in arrays'],
    ['another import takes its place', {
      users: watchedUsers(3).users,
      latestOperation: async () => operation({ id: `operation-${operations++}` })
    }, 'Another import took the place']
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

/** What Rocket.Chat's startImport takes of a selection: as it was, and as it is now, when an e-mail address is optional. */
function startImportSchemas (): { was: object, is: object } {
  const text = { type: 'string' }
  const yesOrNo = { type: 'boolean' }
  const user = {
    user_id: text, username: text, email: text, is_deleted: yesOrNo, is_bot: yesOrNo, do_import: yesOrNo, is_email_taken: yesOrNo
  }
  const channel = {
    channel_id: text, name: text, creator: text, is_archived: yesOrNo, do_import: yesOrNo, is_private: yesOrNo, is_direct: yesOrNo
  }
  const listOf = (properties: object, optional: string[], additionalProperties = false) => ({
    type: 'array',
    items: { type: 'object', properties, required: Object.keys(properties).filter(key => !optional.includes(key)), additionalProperties }
  })
  const closed = (properties: object, required: string[]) => ({ type: 'object', properties, required, additionalProperties: false })
  const channels = listOf(channel, ['creator'])
  return {
    was: closed({ input: closed({ users: listOf(user, []), channels }, ['users', 'channels']) }, ['input']),
    is: closed({
      input: closed({
        users: listOf({ ...user, email: { ...text, nullable: true } }, ['email']),
        channels,
        contacts: listOf({ id: text, do_import: yesOrNo }, [], true)
      }, ['users', 'channels'])
    }, ['input'])
  }
}

/** What startImport finds wrong with a selection that a client sends back as it came: the place of each fault. */
async function faultsOf (t: Test, staged: Staged): Promise<{ was: string[], is: string[] }> {
  const { users, channels, contacts } = (await replyTo(t, staged)).json()
  const faults = (schema: object, input: object): string[] => {
    // Rocket.Chat makes one kind of value of another where it can; without that nothing is let through by it.
    const validate = new Ajv({ allErrors: true, coerceTypes: false }).compile(schema)
    validate({ input })
    return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
  }
  const { was, is } = startImportSchemas()
  return { was: faults(was, { users, channels }), is: faults(is, { users, channels, ...(contacts && { contacts }) }) }
}

t.test('C2: a selection passes into the next call of a client, without e-mail addresses and of ill records, too', async t => {
  const texts = values.flatMap(([value, text]) => text === undefined ? [] : [value])
  const staged = {
    users: [
      [{ importIds: ['U1'], username: 'ada', emails: ['ada@example.com'] }, { importIds: ['U2'], username: 'robot', emails: [], type: 'bot' }],
      noLists.map((emails, place) => ({ importIds: [place + 1], username: 'ada', emails, deleted: emails })),
      values.map(([value]) => ({ importIds: ['U3'], username: 'ada', emails: [value], type: value })),
      texts.map(value => ({ importIds: [value], username: value })),
      noRecords
    ],
    channels: [
      [{ importIds: ['C1'], name: 'general', t: 'c' }, { importIds: ['D1'], t: 'd' }],
      values.map(([value]) => ({ importIds: ['C2'], name: 'secret', t: 'p', archived: value })),
      texts.map(value => ({ importIds: [value], name: value })),
      noRecords
    ],
    contacts: [[{ importIds: ['c-1'] }], values.map(([value]) => ({ importIds: ['c-2'], name: value, emails: [value], phones: value })), noRecords]
  }
  t.strictSame(await faultsOf(t, staged), { was: [], is: [] })
})

t.test('C2: a username or a name that is not staged is all that the next call misses', async t => {
  const faults = ['/input/users/0 must have required property \'username\'', '/input/channels/0 must have required property \'name\'']
  t.strictSame(await faultsOf(t, { users: [[{ importIds: ['U1'] }]], channels: [[{ importIds: ['C1'], t: 'c' }]] }), { was: faults, is: faults })
})
