import { inspect } from 'node:util'
import { Long, ObjectId } from 'bson'
import t, { type Test } from 'tap'
import type { ImportFileDataOptions, ImportOperation } from '../lib/index.js'
import { build, call, captureLog, levels, matchEach, NOTHING_STAGED, operation, recorded, storeOf } from './fixtures/build.js'
import { golden, statuses } from './fixtures/progress.js'

// The documented replies, written out: nothing of them is imported from lib.

const NOT_FOUND = '{"success":false,"error":"Import Operation Not Found [error-operation-not-found]","errorType":"error-operation-not-found"}'
const INVALID = '{"success":false,"error":"Invalid Import Operation [error-import-operation-invalid]","errorType":"error-import-operation-invalid"}'
const FORMAT_INVALID = '{"success":false,"error":"Failed to process import file. Please check the file format and try again. ' +
  '[error-import-file-format-invalid]","errorType":"error-import-file-format-invalid"}'

/** The body of the reply if the importer is not registered. */
const notDefined = (key: string) => '{"success":false,' +
  `"error":"The importer (${key}) has no import class defined. [error-importer-not-defined]","errorType":"error-importer-not-defined"}`

/** The body of an empty selection with this importer name. */
const nothingBy = (name: string) => `{"name":"${name}","users":[],"channels":[],"message_count":0,"success":true}`

/** The reply in the table for an operation, with the display name of its importer, if any. */
function goldenReply (status: keyof typeof golden, valid: boolean | undefined, name: string | undefined): [status: number, body: string] {
  switch (golden[status][valid === false ? 1 : 0]) {
    case 'selection': return [200, name === undefined ? NOTHING_STAGED : nothingBy(name)]
    case 'waiting': return [200, `{"waiting":true,"step":"${status}","success":true}`]
    case 'invalid': return [400, INVALID]
    case 'format invalid': return [400, FORMAT_INVALID]
  }
}

/** An operation with members that may violate the types. Undefined members are left out. */
function operationWith (changes: Record<string, unknown>): ImportOperation {
  const known = Object.entries({ ...operation(), ...changes }).filter(([, value]) => value !== undefined)
  return Object.fromEntries(known) as unknown as ImportOperation
}

/** Returns a function that calls one server with a test's operation, and returns status and body. */
async function answers (t: Test, options: Partial<ImportFileDataOptions> = {}, server = {}) {
  let current: unknown
  const store = storeOf({ latestOperation: async () => current as ImportOperation })
  const app = await build(t, { store, ...options }, server)
  return async (operation: unknown): Promise<[status: number, body: string]> => {
    current = operation
    const { statusCode, body } = await call(app)
    return [statusCode, body]
  }
}

t.test('there are twenty statuses', async t => {
  t.equal(statuses.length, 20)
})

for (const status of statuses) {
  const [whileValid, whenInvalid] = golden[status]
  const replies = whileValid === whenInvalid ? whileValid : `${whileValid} if it is valid, and ${whenInvalid} otherwise`
  t.test(`C1: ${status} with a known importer gets ${replies}`, async t => {
    const answer = await answers(t)
    for (const valid of [true, false, undefined]) {
      for (const file of [undefined, null, '/uploads/import.zip']) {
        const replyFor = (importerKey?: string) => answer(operationWith({ status, valid, file, importerKey }))
        const combination = `valid: ${valid}, file: ${file}`
        t.strictSame(await replyFor('slack'), goldenReply(status, valid, 'Slack'), `${combination}, a known importer`)
        t.strictSame(await replyFor(), goldenReply(status, valid, undefined), `${combination}, no importer`)
        t.strictSame(await replyFor('msteams'), [400, notDefined('msteams')], `${combination}, an unknown importer`)
      }
    }
  })
}

t.test('C1: without an operation the reply is error-operation-not-found, and no staged records are read', async t => {
  for (const nothing of [null, undefined]) {
    const { options, calls } = recorded({ store: storeOf({ latestOperation: async () => nothing as unknown as ImportOperation }) })
    const { statusCode, body } = await call(await build(t, options))
    t.strictSame([statusCode, body], [400, NOT_FOUND], String(nothing))
    t.strictSame(calls, ['lookupUser', 'hasPermission', 'latestOperation'])
  }
})

t.test('an invalid operation from a store causes a 500, and is logged', async t => {
  for (const value of [7, 'operation-1', true, () => {}, [operation()]]) {
    const log = captureLog()
    const [status, body] = await (await answers(t, {}, log.server))(value)
    t.strictSame([status, JSON.parse(body).errorType], [500, 'error-internal-server-error'], inspect(value))
    matchEach(t, log.problems(), [
      { level: levels.error, err: { message: 'The store\'s latestOperation() must return an operation, or null' } }
    ])
  }
})

t.test('C1: waiting replies and errors of an operation read no staged records', async t => {
  let current: ImportOperation | null = null
  const { options, calls } = recorded({ store: storeOf({ latestOperation: async () => current }) })
  const app = await build(t, options)
  for (const [status, valid, importerKey] of [
    ['importer_preparing_users', true, 'csv'],
    ['importer_preparing_users', false, 'csv'],
    ['importer_import_failed', true, 'csv'],
    ['importer_done', true, 'msteams']
  ] as const) {
    current = operation({ status, valid, importerKey })
    await call(app)
    t.strictSame(calls.splice(0), ['lookupUser', 'hasPermission', 'latestOperation'], `${status}, ${importerKey}`)
  }
})

t.test('C1: the selection has Rocket.Chat\'s name of the importer', async t => {
  const answer = await answers(t)
  for (const [importerKey, name] of [
    ['csv', 'CSV'],
    ['slack', 'Slack'],
    ['slack-users', 'Slack_Users'],
    ['hipchatenterprise', 'HipChat (tar.gz)'],
    ['pending-files', 'Pending Files'],
    ['pending-avatars', 'Pending Avatars'],
    ['omnichannel_contact', 'omnichannel_contacts_importer'],
    ['api', 'API']
  ] as const) {
    t.strictSame(await answer(operation({ importerKey })), [200, nothingBy(name)], importerKey)
  }
})

t.test('an operation with an empty importerKey has no importer', async t => {
  const answer = await answers(t)
  for (const importerKey of [null, undefined, '']) t.strictSame(await answer(operationWith({ importerKey })), [200, NOTHING_STAGED])
})

t.test('the host\'s importers are found by their own keys only, even if a key is the name of an inherited property', async t => {
  const keys = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '%s', ' ']
  const answerByNone = await answers(t, { importers: {} })
  const own: Record<string, string> = Object.fromEntries(keys.map(key => [key, `Importer ${key}`]))
  const answerByOwn = await answers(t, { importers: own })
  for (const importerKey of keys) {
    t.strictSame(await answerByNone(operation({ importerKey })), [400, notDefined(importerKey)], `${importerKey} is not registered`)
    t.strictSame(await answerByOwn(operation({ importerKey })), [200, nothingBy(`Importer ${importerKey}`)], `${importerKey} is registered`)
  }
  t.strictSame(await answerByOwn(operation({ importerKey: 'csv' })), [400, notDefined('csv')], 'Rocket.Chat\'s own are not')
})

t.test('a display name is sent unchanged, whatever it contains', async t => {
  const names = ['', '"quoted" \\ </script> \u2028', 'お名前 🚀', '\ud800 alone', 'x'.repeat(100_000)]
  for (const name of names) {
    const answer = await answers(t, { importers: { mine: name } })
    const [status, body] = await answer(operation({ importerKey: 'mine' }))
    t.strictSame([status, JSON.parse(body)], [200, { name, users: [], channels: [], message_count: 0, success: true }])
  }
})

t.test('F7: an unknown status gets the selection, and is logged with each reply', async t => {
  const log = captureLog()
  const answer = await answers(t, {}, log.server)
  const unknown = ['importer_from_the_future', 'importer_importing', '', 'IMPORTER_DONE', 'user_selection', 'constructor', '__proto__', 'toString']
  for (const status of unknown) {
    for (const valid of [true, false, undefined]) t.strictSame(await answer(operationWith({ status, valid })), [200, NOTHING_STAGED], status)
  }
  t.strictSame(log.problems().map(({ level, status }) => [level, status]), unknown.flatMap(status => Array(3).fill([levels.warn, status])))
})

t.test('F7: an id or valid of another type than the documented one is no error', async t => {
  const answer = await answers(t, { prepare: async () => {} })
  const waiting = (step: string) => `{"waiting":true,"step":"${step}","success":true}`
  for (const id of [1n, 7, new ObjectId('0a'.repeat(12)), null, { part: 1n }, Object.create(null)]) {
    for (const valid of [1n, 1, 'yes', new Long(1)]) {
      const changes = () => ({ id: id instanceof ObjectId ? new ObjectId(id.id) : id, valid })
      const updatedAt = new Date(0)
      t.strictSame(await answer(operationWith({ ...changes(), updatedAt })), [200, NOTHING_STAGED], inspect(changes()))
      for (const status of ['importer_preparing_users', 'importer_file_loaded']) {
        t.strictSame(await answer(operationWith({ ...changes(), status, file: 'import.zip' })), [200, waiting(status)], inspect(changes()))
      }
    }
  }
})

t.test('known statuses are not logged', async t => {
  const log = captureLog()
  const answer = await answers(t, {}, log.server)
  for (const status of statuses) await answer(operation({ status }))
  t.strictSame(log.problems(), [])
})

t.test('F7: an operation with missing or malformed fields never causes a 500', async t => {
  const answer = await answers(t)
  const waiting = '{"waiting":true,"step":"importer_preparing_users","success":true}'
  const malformed: Array<[changes: Record<string, unknown>, selection: string]> = [
    [{ valid: undefined }, NOTHING_STAGED],
    [{ valid: null }, NOTHING_STAGED],
    [{ id: undefined }, NOTHING_STAGED],
    [{ count: undefined }, NOTHING_STAGED],
    [{ count: null }, NOTHING_STAGED],
    [{ count: 'many' }, NOTHING_STAGED],
    [{ count: { total: -1, users: NaN, channels: '7', messages: 1.5, contacts: null } }, NOTHING_STAGED],
    [{ reading: 7 }, NOTHING_STAGED],
    [{ file: 7 }, NOTHING_STAGED],
    [{ updatedAt: 'yesterday' }, NOTHING_STAGED],
    [{ updatedAt: new Date(NaN) }, NOTHING_STAGED]
  ]
  for (const [changes, selection] of malformed) {
    t.strictSame(await answer(operationWith(changes)), [200, selection], inspect(changes))
    t.strictSame(await answer(operationWith({ status: 'importer_preparing_users', ...changes })), [200, waiting], inspect(changes))
  }
  for (const status of [undefined, null, 7, {}, Object.create(null)]) t.strictSame(await answer(operationWith({ status })), [200, NOTHING_STAGED], inspect(status))
  t.strictSame(await answer({}), [200, NOTHING_STAGED], 'an empty operation')
  t.strictSame(await answer(operationWith({ importerKey: 7 })), [400, notDefined('7')], 'a key that is a number')
  const [status, body] = await answer(operationWith({ importerKey: Object.create(null) }))
  t.strictSame([status, JSON.parse(body).errorType], [400, 'error-importer-not-defined'])
})
