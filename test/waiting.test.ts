import t from 'tap'
import type { ImportOperation } from '../lib/index.js'
import { NOTHING_STAGED, build, call, operation } from './fixtures/build.js'
import { WAITING, SETTLED, statuses, preparing, malformed, ago, storeWith, replyTo, stopClock } from './fixtures/progress.js'

t.test('a waiting reply has the step, what is being read, the counts and the time of the last change', async t => {
  const updatedAt = new Date('2026-03-02T09:14:05.120Z')
  t.intercept(Date, 'now', { value: () => updatedAt.getTime() })
  const reply = await replyTo(t, preparing({
    reading: 'general/2023-05-04', count: { total: 12034, users: 320, channels: 41 }, updatedAt
  }))
  t.equal(reply.statusCode, 200)
  t.equal(reply.body, '{"waiting":true,"step":"importer_preparing_messages","reading":"general/2023-05-04",' +
    '"count":{"total":12034,"users":320,"channels":41},"updated_at":"2026-03-02T09:14:05.120Z","success":true}')
  t.equal(reply.headers['content-type'], 'application/json; charset=utf-8')
})

t.test('a waiting reply of an operation with a status only has only the step', async t => {
  for (const status of WAITING) {
    const reply = await replyTo(t, { id: 'operation-1', status })
    t.equal(reply.body, `{"waiting":true,"step":"${status}","success":true}`)
  }
})

t.test('a waiting reply has each optional member only if the operation has it', async t => {
  const updatedAt = ago(0)
  const cases: Array<[has: Partial<ImportOperation>, shown: object]> = [
    [{ reading: 'users.json' }, { reading: 'users.json' }],
    [{ reading: null }, {}],
    [{ count: { users: 3 } }, { count: { users: 3 } }],
    [{ count: {} }, {}],
    [{ updatedAt }, { updated_at: updatedAt.toISOString() }],
    [{ file: '/srv/uploads/import.zip', importerKey: 'slack' }, {}]
  ]
  for (const [has, shown] of cases) {
    const { success, ...body } = (await replyTo(t, preparing(has))).json()
    t.strictSame(body, { waiting: true, step: 'importer_preparing_messages', ...shown }, JSON.stringify(has))
  }
})

t.test('a waiting reply has all counts of the operation, in a fixed order', async t => {
  const reply = await replyTo(t, preparing({
    count: { contacts: 7, messages: 6, channels: 5, users: 4, error: 3, completed: 2, total: 1 }
  }))
  t.match(reply.body, '"count":{"total":1,"completed":2,"error":3,"users":4,"channels":5,"messages":6,"contacts":7}')
})

t.test('each poll has the current state, whatever member of the operation has changed', async t => {
  const updatedAt = ago(0)
  const current = preparing({ reading: 'users.json', count: { users: 1 }, updatedAt })
  const app = await build(t, { store: storeWith(() => current), stalledAfter: 60_000 })
  const changes: Array<[change: Partial<ImportOperation>, shown: object]> = [
    [{}, {}],
    [{ status: 'importer_preparing_users' }, { step: 'importer_preparing_users' }],
    [{ reading: 'channels.json' }, { reading: 'channels.json' }],
    [{ count: { users: 2 } }, { count: { users: 2 } }],
    [{ count: { users: 2, contacts: 1 } }, { count: { users: 2, contacts: 1 } }],
    [{ updatedAt: new Date(updatedAt.getTime() + 1) }, { updated_at: new Date(updatedAt.getTime() + 1).toISOString() }],
    [{ updatedAt: new Date(0) }, { updated_at: '1970-01-01T00:00:00.000Z', stalled: true }]
  ]
  let expected: object = {
    waiting: true, step: current.status, reading: 'users.json', count: { users: 1 }, updated_at: updatedAt.toISOString(), success: true
  }
  for (const [change, shown] of changes) {
    Object.assign(current, change)
    expected = { ...expected, ...shown }
    t.strictSame((await call(app)).json(), expected, JSON.stringify(change))
    t.strictSame((await call(app)).json(), expected, 'the next poll, too')
  }
})

t.test('F7: only a count that is not a whole number of records is left out', async t => {
  const bad: unknown[] = [-1, 1.5, NaN, Infinity, 2 ** 53, '12', null, undefined, true, [1], { $numberLong: '1' }]
  for (const users of bad) {
    const beside = await replyTo(t, malformed(preparing(), { count: { users, channels: 0 } }))
    t.strictSame(beside.json().count, { channels: 0 }, String(users))
    const alone = await replyTo(t, malformed(preparing(), { count: { users } }))
    t.notOk('count' in alone.json(), `${String(users)} alone`)
  }
})

t.test('F7: counts of the wrong type or of unknown kinds are left out', async t => {
  for (const count of [null, 'many', 3, [], { emoji: 12 }]) {
    t.notOk('count' in (await replyTo(t, malformed(preparing(), { count }))).json(), String(count))
  }
})

t.test('F7: reading is left out unless it is a string', async t => {
  for (const reading of [0, {}, ['general'], true]) {
    t.notOk('reading' in (await replyTo(t, malformed(preparing(), { reading }))).json(), String(reading))
  }
})

t.test('F7: an invalid time of the last change is left out, and the selection has no ETag', async t => {
  for (const updatedAt of [new Date(NaN), null, 1772442845120, '2026-03-02T09:14:05.120Z']) {
    const reply = await replyTo(t, malformed(preparing(), { updatedAt }))
    t.equal(reply.body, '{"waiting":true,"step":"importer_preparing_messages","success":true}')
    t.notOk('etag' in (await replyTo(t, malformed(operation(), { updatedAt }))).headers)
  }
})

t.test('a waiting reply has stalled when the operation has not changed for stalledAfter', async t => {
  const clock = stopClock(t)
  const updatedAt = new Date(clock.now)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })), stalledAfter: 5000 })
  clock.now += 4999
  t.notOk('stalled' in (await call(app)).json())
  clock.now += 1
  t.equal((await call(app)).json().stalled, true)
  t.match((await call(app)).body, `"updated_at":"${updatedAt.toISOString()}","stalled":true,"success":true}`)
})

t.test('by default an operation stalls after ten minutes', async t => {
  const clock = stopClock(t)
  const updatedAt = new Date(clock.now)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })) })
  clock.now += 599_999
  t.notOk('stalled' in (await call(app)).json())
  clock.now += 1
  t.equal((await call(app)).json().stalled, true)
})

t.test('an operation that changes again is no longer stalled', async t => {
  let updatedAt = ago(600_000)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })) })
  t.equal((await call(app)).json().stalled, true)
  updatedAt = ago(0)
  t.notOk('stalled' in (await call(app)).json())
})

t.test('an operation without updatedAt is never stalled', async t => {
  t.notOk('stalled' in (await replyTo(t, preparing(), { stalledAfter: 1 })).json())
})

t.test('a selection of any age is never stalled', async t => {
  for (const status of SETTLED) {
    t.equal((await replyTo(t, operation({ status, updatedAt: new Date(0) }))).body, NOTHING_STAGED)
  }
})

t.test('Retry-After grows from 1 to 10 seconds with the time since the last change', async t => {
  const clock = stopClock(t)
  const updatedAt = new Date(clock.now)
  const app = await build(t, { store: storeWith(() => preparing({ updatedAt })) })
  const seen: number[] = []
  for (let second = 0; second <= 300; second++, clock.now += 1000) {
    seen.push(Number((await call(app)).headers['retry-after']))
  }
  t.equal(seen[0], 1)
  t.equal(seen.at(-1), 10)
  t.strictSame(seen, [...seen].sort((a, b) => a - b), 'it never decreases while the operation does not change')
  t.strictSame([...new Set(seen)], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
})

t.test('Retry-After is 10 seconds for an operation that has not changed for hours', async t => {
  t.equal((await replyTo(t, preparing({ updatedAt: new Date(0) }))).headers['retry-after'], '10')
})

t.test('Retry-After is 1 second if the time of the last change is unknown or in the future', async t => {
  t.equal((await replyTo(t, preparing())).headers['retry-after'], '1')
  t.equal((await replyTo(t, preparing({ updatedAt: ago(-3_600_000) }))).headers['retry-after'], '1')
})

t.test('waiting replies have Retry-After, and selections and errors of the operation do not', async t => {
  for (const status of statuses) {
    const reply = await replyTo(t, operation({ status, updatedAt: ago(0) }))
    t.equal('retry-after' in reply.headers, reply.json().waiting === true, status)
  }
})
