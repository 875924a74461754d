import t, { type Test } from 'tap'
import { demoImport } from '../examples/demo-import.js'
import { loadDump } from '../examples/load-dump.js'
import { SAMPLE_IMPORT } from '../examples/settings.js'
import type { Waiting } from '../lib/index.js'
import { type RocketChatDocuments, hashLoginToken } from '../lib/rocketchat/index.js'
import { build as buildPlugin, call, caller } from './fixtures/build.js'

const hashedToken = hashLoginToken(caller['x-auth-token'])
const documents: RocketChatDocuments = {
  users: [{ _id: caller['x-user-id'], roles: ['admin'], services: { resume: { loginTokens: [{ hashedToken }] } } }],
  rocketchat_permissions: [{ _id: 'run-import', roles: ['admin'] }],
  rocketchat_import: [],
  rocketchat_import_data: [
    ...Array.from({ length: 40 }, (_, place) => ({ dataType: 'user', data: { importIds: [`U${place}`], t: '' } })),
    { dataType: 'channel', data: { importIds: ['C1'], name: 'general', t: 'c' } },
    { dataType: 'channel', data: { importIds: ['C2'], name: 'random', t: 'p' } },
    { dataType: 'channel', data: { importIds: ['D1'], t: 'd' } },
    { dataType: 'contact', data: { importIds: ['c-1'], name: 'Grace', t: '' } },
    { dataType: 'message', data: null }
  ]
}

const HALF_A_MINUTE = 30_000

/** A server with the demo, and the demo's clock. */
async function build (t: Test, of = documents) {
  const clock = { now: Date.UTC(2026, 2, 1) }
  t.intercept(Date, 'now', { value: () => clock.now })
  const app = await buildPlugin(t, demoImport(of))
  return { app, clock }
}

/** The replies in the first half minute, one every `interval` milliseconds. */
async function watch (t: Test, every: number): Promise<Waiting[]> {
  const { app, clock } = await build(t)
  const replies: Waiting[] = []
  for (let time = 0; time < HALF_A_MINUTE; time += every, clock.now += every) replies.push((await call(app)).json())
  return replies
}

t.test('the demo goes through the steps of an import in half a minute, and is then ready', async t => {
  const steps = (await watch(t, 100)).map(({ step }) => step)
  t.strictSame([...new Set(steps)], [
    'importer_downloading_file',
    'importer_preparing_started',
    'importer_preparing_users',
    'importer_preparing_channels',
    'importer_preparing_contacts',
    'importer_preparing_messages'
  ])
  const { app, clock } = await build(t)
  clock.now += HALF_A_MINUTE - 1
  t.equal((await call(app)).json().waiting, true)
  clock.now += 1
  t.equal((await call(app)).json().users.length, 40)
})

t.test('its counts grow to the number of records of each kind, and never exceed the total', async t => {
  const counts = (await watch(t, 250)).map(({ count = {} }) => count)
  t.strictSame(counts[0], {}, 'there are no counts at first')
  for (const kind of ['users', 'channels', 'contacts', 'messages'] as const) {
    const amounts = counts.map(count => count[kind] ?? 0)
    t.strictSame(amounts, [...amounts].sort((a, b) => a - b), `${kind} never decrease`)
  }
  const { total, messages = 0, ...others } = counts.at(-1) ?? {}
  t.strictSame(others, { users: 40, channels: 3, contacts: 1 })
  t.ok(messages > 0 && messages < 12_034)
  t.equal(total, 40 + 3 + 1 + 12_034)
})

t.test('what it reads changes every second, and includes every channel with a name', async t => {
  const readings = (await watch(t, 1000)).flatMap(({ step, reading = '' }) => step === 'importer_preparing_messages' ? [reading] : [])
  t.equal(new Set(readings).size, readings.length)
  for (const reading of readings) t.match(reading, /^(general|random)\/2023-05-\d\d$/)
  t.strictSame(new Set(readings.map(reading => reading.split('/')[0])), new Set(['general', 'random']))
})

t.test('an import without channels is read, too', async t => {
  const { app, clock } = await build(t, { ...documents, rocketchat_import_data: [] })
  clock.now += HALF_A_MINUTE - 5000
  t.match((await call(app)).json().reading, /^messages\/2023-05-\d\d$/)
  clock.now += 5000
  t.strictSame((await call(app)).json(), { name: 'Slack', users: [], channels: [], message_count: 12_034, success: true })
})

t.test('a poller gets a new reply every second during preparation, and a 304 when the import is ready', async t => {
  const { app, clock } = await build(t)
  let etag
  const statusCodes = []
  for (let seconds = 0; seconds < 60; seconds++, clock.now += 1000) {
    const reply = await call(app, { headers: { 'if-none-match': etag } })
    statusCodes.push(reply.statusCode)
    etag = String(reply.headers['etag'])
  }
  t.strictSame(statusCodes, [...Array(31).fill(200), ...Array(29).fill(304)])
})

t.test('it is ready for a minute, then the next import starts', async t => {
  const { app, clock } = await build(t)
  clock.now += HALF_A_MINUTE + 59_999
  const ready = await call(app)
  t.equal(ready.json().message_count, 12_034)
  clock.now += 1
  const next = await call(app, { headers: { 'if-none-match': String(ready.headers['etag']) } })
  t.match(next.json(), { waiting: true, step: 'importer_downloading_file', updated_at: new Date(clock.now).toISOString() })
  clock.now += HALF_A_MINUTE
  const again = await call(app, { headers: { 'if-none-match': String(ready.headers['etag']) } })
  t.equal(again.statusCode, 200, 'the second import is not the first')
})

t.test('the demo of the sample import ends with counts that match the selection', async t => {
  const sample = await loadDump(SAMPLE_IMPORT)
  const { app, clock } = await build(t, sample)
  clock.now += HALF_A_MINUTE - 1
  const { count } = (await call(app)).json()
  clock.now += 1
  const { users, channels, contacts } = (await call(app)).json()
  const direct = sample.rocketchat_import_data.filter(({ data }) => data?.t === 'd').length
  t.equal(users.length, count.users)
  t.equal(channels.length, count.channels - direct + 1)
  t.equal(contacts.length, count.contacts)
})

t.test('it authenticates the users of the documents', async t => {
  const { app } = await build(t)
  t.equal((await call(app, { headers: { 'x-auth-token': 'wrong' } })).statusCode, 401)
})

t.test('it is never stalled', async t => {
  for (const { stalled } of await watch(t, 1000)) t.equal(stalled, undefined)
})
