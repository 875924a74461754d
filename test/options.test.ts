import Fastify, { type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import importFileData, { importFileData as named, rocketChatImporters, type ImportFileDataOptions } from '../lib/index.js'
import { build, call, operation, optionsOf, storeOf } from './fixtures/build.js'

/** A value of every kind, by its name in an error message. */
const kinds: Record<string, unknown> = {
  missing: undefined,
  null: null,
  true: true,
  7: 7,
  'a string': 'Zu-Z6eKzIIz7MCCRGeHi29bYkXZCJ4SxFC0JAasqm92',
  'a bigint': 7n,
  'a symbol': Symbol('seven'),
  'an array': [],
  'an object': {},
  'a function': () => 7
}

/** An option, how to set it, its description in the error message, and the valid kinds. */
type Row = [option: string, put: (value: unknown) => object, expected: string, right: string[]]

const inStore = (method: string) => (value: unknown) => ({ store: { ...storeOf(), [method]: value } })

const rows: Row[] = [
  ['lookupUser', lookupUser => ({ lookupUser }), 'a function', ['a function']],
  ['hasPermission', hasPermission => ({ hasPermission }), 'a function', ['a function']],
  ['store', store => ({ store }), 'an object', ['an object']],
  ['store.latestOperation', inStore('latestOperation'), 'a function', ['a function']],
  ['store.users', inStore('users'), 'a function', ['a function']],
  ['store.channels', inStore('channels'), 'a function', ['a function']],
  ['store.countMessages', inStore('countMessages'), 'a function', ['a function']],
  ['store.contacts', inStore('contacts'), 'a function, or left out', ['a function', 'missing']],
  ['importers', importers => ({ importers }), 'an object of display names by importer key', ['an object', 'missing']],
  ['importers.mine', mine => ({ importers: { mine } }), 'a string', ['a string']],
  ['prepare', prepare => ({ prepare }), 'a function, or left out', ['a function', 'missing']],
  ['stalledAfter', stalledAfter => ({ stalledAfter }), 'a whole number of milliseconds above 0', ['7', 'missing']],
  ['writeTimeout', writeTimeout => ({ writeTimeout }), 'a whole number of milliseconds above 0', ['7', 'missing']],
  ['route', route => ({ route }), 'an object of settings of the route', ['an object', 'missing']],
  ['route.schema', schema => ({ route: { schema } }), 'an object of members of a schema', ['an object', 'missing']],
  ...['method', 'url', 'path', 'handler', 'exposeHeadRoute', 'validatorCompiler', 'serializerCompiler', 'errorHandler'].map((name): Row =>
    [`route.${name}`, value => ({ route: { [name]: value } }), 'left out, because the plugin sets it', ['missing']]),
  ...['headers', 'response'].map((name): Row =>
    [`route.schema.${name}`, value => ({ route: { schema: { [name]: value } } }), 'left out, because the plugin sets it', ['missing']])
]

const CODE = 'FST_IMPORT_FILE_DATA_INVALID_OPTION'

/** The error of a registration. */
function invalid (option: string, expected: string, came: string) {
  return {
    code: CODE,
    message: `The option "${option}" of fastify-import-file-data must be ${expected}, but it is ${came}`
  }
}

/** Options with members of any type, as JavaScript code may pass them. */
const untyped = (changes: object) => changes as Partial<ImportFileDataOptions>

for (const [option, put, expected, right] of rows) {
  t.test(`a value of ${option} that is not ${right.join(' or ')} fails the registration, and the error has the expected and the actual kind`, async t => {
    for (const [came, value] of Object.entries(kinds)) {
      if (right.includes(came)) continue
      await t.rejects(build(t, untyped(put(value))), invalid(option, expected, came), came)
    }
  })

  t.test(`a value of ${option} of the right kind is accepted`, async t => {
    for (const kind of right) {
      // An empty object is a store without methods, see the rows above.
      const value = option === 'store' ? storeOf() : kinds[kind]
      await t.resolves(build(t, untyped(put(value))), kind)
    }
  })
}

t.test('a time that is not a whole number above 0, or is too long for a timer, fails the registration, and the error has its value', async t => {
  for (const option of ['stalledAfter', 'writeTimeout']) {
    for (const time of [0, -1, 1.5, NaN, Infinity, 2 ** 31]) {
      const failure = { code: CODE, message: new RegExp(`"${option}" .*, but it is ${time}$`) }
      await t.rejects(build(t, { [option]: time }), failure, `${option}: ${time}`)
    }
    await t.resolves(build(t, { [option]: 2 ** 31 - 1 }), option)
  }
})

t.test('an object that is not a plain one, such as a Map, fails the registration as importers, route or route.schema, and the error has its class', async t => {
  for (const [option, put, expected] of rows.filter(([option]) => ['importers', 'route', 'route.schema'].includes(option))) {
    await t.rejects(build(t, untyped(put(new Map([['mine', 'My importer']])))), invalid(option, expected, 'an instance of Map'))
    await t.rejects(build(t, untyped(put(Object.create(Object.create(null))))), { code: CODE })
    await t.resolves(build(t, untyped(put(Object.create(null)))))
  }
})

t.test('a registration without options fails, and the error names the first required option', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const untypedPlugin = importFileData as unknown as FastifyPluginAsync
  await t.rejects(async () => await app.register(untypedPlugin), invalid('lookupUser', 'a function', 'missing'))
})

t.test('an error never contains the string value of an option, which may be a secret', async t => {
  const failure: unknown = await build(t, untyped({ lookupUser: kinds['a string'] })).then(() => undefined, error => error)
  t.notMatch(String(failure), String(kinds['a string']))
})

t.test('a store may be a class instance, and its methods keep their this', async t => {
  class Store {
    readonly messages = 12

    async latestOperation () { return operation() }
    users () { return [] }
    channels () { return [] }
    async countMessages () { return this.messages }
  }
  const { body } = await call(await build(t, { store: new Store() }))
  t.equal(body, '{"users":[],"channels":[],"message_count":12,"success":true}')
})

t.test('rocketChatImporters has the names of Rocket.Chat\'s importers, and cannot be changed', async t => {
  t.strictSame(rocketChatImporters, {
    csv: 'CSV',
    slack: 'Slack',
    'slack-users': 'Slack_Users',
    hipchatenterprise: 'HipChat (tar.gz)',
    'pending-files': 'Pending Files',
    'pending-avatars': 'Pending Avatars',
    omnichannel_contact: 'omnichannel_contacts_importer',
    api: 'API'
  })
  t.throws(() => Object.assign(rocketChatImporters, { csv: 'mine' }), TypeError)
})

t.test('the option importers replaces Rocket.Chat\'s importers', async t => {
  let importerKey = 'mine'
  const store = storeOf({ latestOperation: async () => operation({ importerKey }) })
  const app = await build(t, { store, importers: { ...rocketChatImporters, mine: 'My importer' } })
  t.equal((await call(app)).body, '{"name":"My importer","users":[],"channels":[],"message_count":0,"success":true}')
  importerKey = 'slack'
  t.equal((await call(app)).json().name, 'Slack')

  const { statusCode, body } = await call(await build(t, { store, importers: { mine: 'My importer' } }))
  t.equal(statusCode, 400)
  t.equal(body, '{"success":false,"error":"The importer (slack) has no import class defined. [error-importer-not-defined]",' +
    '"errorType":"error-importer-not-defined"}')
})

t.test('the options are not modified, and may be frozen', async t => {
  const importers = Object.freeze({ mine: 'My importer' })
  const options = Object.freeze({ prefix: '/api/v1', ...optionsOf(), store: Object.freeze(storeOf()), importers })
  const before = { ...options, store: { ...options.store }, importers: { ...importers } }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(importFileData, options)
  t.equal((await call(app)).statusCode, 200)
  t.strictSame(options, before)
})

t.test('the same options can be registered more than once', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const options = optionsOf()
  await app.register(importFileData, { ...options, prefix: '/api/v1' })
  await app.register(importFileData, { ...options, prefix: '/api/v2' })
  for (const url of ['/api/v1/getImportFileData', '/api/v2/getImportFileData']) {
    t.equal((await call(app, { url })).statusCode, 200, url)
  }
})

t.test('an unknown option with a name similar to a known option fails the registration, and the error suggests the known name', async t => {
  const rows = {
    importer: 'importers',
    lookUpUser: 'lookupUser',
    hasPermision: 'hasPermission',
    Store: 'store',
    stalledafter: 'stalledAfter',
    write_timeout: 'writeTimeout',
    routes: 'route',
    prefx: 'prefix',
    loglevel: 'logLevel'
  }
  for (const [option, nearest] of Object.entries(rows)) {
    await t.rejects(build(t, untyped({ [option]: {} })), invalid(option, `left out, or named "${nearest}"`, 'an object'), option)
  }
})

t.test('an unknown option without a similar name fails the registration, before a missing option is reported', async t => {
  for (const option of ['somebodyElse', '__proto', 'toString', 'db']) {
    await t.rejects(build(t, untyped({ [option]: true, store: undefined })),
      invalid(option, 'left out: there is no such option', 'true'), option)
  }
})

t.test('Fastify\'s own options are accepted, and so is any other option that is undefined', async t => {
  await t.resolves(build(t, untyped({ logLevel: 'silent', logSerializers: {}, somebodyElse: undefined })))
})

t.test('the plugin is the default export and a named export', async t => {
  t.equal(named, importFileData)
})
