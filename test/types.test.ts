import Fastify, { type FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import t from 'tap'
import { importFileData, type ImportFileDataOptions, type ImportOperation } from '../lib/index.js'
import { type DatabaseLike, rocketChatDatabase, rocketChatDump } from '../lib/rocketchat/index.js'
import { call, matchEach, optionsOf, storeOf } from './fixtures/build.js'
import { documents } from './fixtures/documents.js'
import { buildPackage, compile } from './fixtures/package.js'

// Most of this is checked by `npm run typecheck` only, and never run. An unused `@ts-expect-error` is an error.

interface HostUser { name: string, roles: string[] }

const store = storeOf()

t.test('a user object of the host\'s type is passed from the look-up to the permission check', async t => {
  const user: HostUser = { name: 'ada', roles: ['admin'] }
  const options: ImportFileDataOptions<HostUser> = {
    lookupUser: async ({ userId }) => userId === '' ? undefined : user,
    hasPermission: ({ roles }, permission) => permission === 'run-import' && roles.includes('admin'),
    store: storeOf()
  }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(importFileData, { prefix: '/api/v1', ...options })
  t.equal((await call(app)).statusCode, 200)
})

/** Code that TypeScript accepts or rejects. */
const typed: Record<string, (app: FastifyInstance) => unknown> = {
  'hasPermission takes the user type that lookupUser returns, sync or async, with null or undefined for no user': app => [
    app.register(importFileData, {
      prefix: '/api/v1',
      lookupUser: async ({ userId, authToken }) => userId === 'ada' && authToken === 'secret' ? { id: userId, role: 'admin' } : null,
      hasPermission: async (user, permission) => user.role === 'admin' && permission === 'run-import',
      store
    }),
    app.register(importFileData, {
      lookupUser: ({ userId }, request) => request.ip === userId ? { role: 'admin' } : undefined,
      hasPermission: ({ role }) => role === 'admin',
      store
    }),
    app.register(importFileData, {
      lookupUser () { return { role: 'admin' } }, hasPermission (user) { return user.role === 'admin' }, store
    }),
    app.register(importFileData, { lookupUser: () => null, hasPermission: async () => false, store }),
    app.register(import('../lib/index.js'), {
      lookupUser: () => ({ role: 'admin' }), hasPermission: user => user.role === 'admin', store
    })
  ],
  'hasPermission needs an annotation in options that a function returns, and before a lookupUser with parameters': app => [
    app.register(importFileData, () => ({
      lookupUser: () => ({ role: 'admin' }), hasPermission: (user: { role: string }) => user.role === 'admin', store
    })),
    app.register(importFileData, {
      hasPermission: (user: { role: string }) => user.role === 'admin', lookupUser: ({ userId }) => ({ role: userId }), store
    }),
    // @ts-expect-error the user is of no type
    app.register(importFileData, () => ({ lookupUser: () => ({ role: 'admin' }), hasPermission: user => user.role === 'admin', store })),
    // @ts-expect-error the user is an object of unknown type
    app.register(importFileData, { hasPermission: user => user.role === 'admin', lookupUser: ({ userId }) => ({ role: userId }), store })
  ],
  'hasPermission may require only a part of the user that lookupUser returns': app =>
    app.register(importFileData, {
      lookupUser: () => ({ id: 7, role: 'admin' }), hasPermission: ({ role }: { role: string }) => role === 'admin', store
    }),
  'hasPermission that does not accept the user that lookupUser returns is an error': app => [
    // @ts-expect-error unknown property
    app.register(importFileData, { lookupUser: () => ({ role: 'admin' }), hasPermission: user => user.roles.length > 0, store }),
    // @ts-expect-error another user type
    app.register(importFileData, { lookupUser: () => ({ role: 'admin' }), hasPermission: (user: HostUser) => user.name === 'ada', store }),
    // @ts-expect-error missing property
    app.register(importFileData, { lookupUser: async () => ({ name: 'ada' }), hasPermission: (user: HostUser) => user.name === 'ada', store }),
    // @ts-expect-error a user of unknown type
    app.register(importFileData, { ...optionsOf(), hasPermission: (user: HostUser) => user.roles.length > 0 })
  ],
  'options in variables are accepted, with or without a user type': (app, options: ImportFileDataOptions = optionsOf()) => [
    app.register(importFileData, options),
    app.register(importFileData, { prefix: '/api/v1', ...options }),
    app.register(importFileData, () => ({ prefix: '/api/v1', ...options }))
  ],
  'the options for Rocket.Chat\'s documents are accepted': (app, db: DatabaseLike = { collection: () => { throw new Error('never called') } }) => [
    app.register(importFileData, { prefix: '/api/v1', ...rocketChatDatabase(db) }),
    app.register(importFileData, { prefix: '/api/v1', ...rocketChatDump(documents()), stalledAfter: 1000 })
  ],
  'servers of any kind are accepted': () => [
    Fastify({ http2: true }).register(importFileData, {
      lookupUser: () => ({ role: 'admin' }), hasPermission: user => user.role === 'admin', store
    }),
    Fastify({ https: {} }).register(importFileData, {
      lookupUser: () => ({ role: 'admin' }), hasPermission: user => user.role === 'admin', store
    }),
    Fastify({ loggerInstance: Object.assign(Fastify().log, { audit: () => {} }) }).register(importFileData, {
      lookupUser: () => ({ role: 'admin' }), hasPermission: user => user.role === 'admin', store
    }),
    Fastify().withTypeProvider<ZodTypeProvider>().register(importFileData, {
      lookupUser: () => ({ role: 'admin' }), hasPermission: user => user.role === 'admin', store
    })
  ],
  'options that fail the registration are errors': (app, { lookupUser, hasPermission } = optionsOf()) => [
    // @ts-expect-error options are missing
    app.register(importFileData),
    // @ts-expect-error lookupUser is missing
    app.register(importFileData, { hasPermission, store }),
    // @ts-expect-error hasPermission is missing
    app.register(importFileData, { lookupUser, store }),
    // @ts-expect-error store is missing
    app.register(importFileData, { lookupUser, hasPermission }),
    // @ts-expect-error a user is an object
    app.register(importFileData, { lookupUser: () => 'ada', hasPermission, store }),
    // @ts-expect-error a permission is true or false
    app.register(importFileData, { lookupUser, hasPermission: () => 'yes', store }),
    // @ts-expect-error a permission is true or false
    app.register(importFileData, { lookupUser, hasPermission: () => undefined, store }),
    // @ts-expect-error a method of the store is missing
    app.register(importFileData, { lookupUser, hasPermission, store: { users: store.users, channels: store.channels } }),
    // @ts-expect-error records must be in batches
    app.register(importFileData, { lookupUser, hasPermission, store: { ...store, users: () => [{ importIds: ['U1'] }] } }),
    // @ts-expect-error a display name is a string
    app.register(importFileData, { lookupUser, hasPermission, store, importers: { mine: 7 } }),
    // @ts-expect-error unknown option
    app.register(importFileData, { lookupUser, hasPermission, store, lookUpUser: lookupUser }),
    // @ts-expect-error the plugin sets it
    app.register(importFileData, { lookupUser, hasPermission, store, route: { handler: () => {} } }),
    // @ts-expect-error the plugin sets it
    app.register(importFileData, { lookupUser, hasPermission, store, route: { schema: { response: {} } } })
  ],
  'settings of the route are accepted': app =>
    app.register(importFileData, {
      ...optionsOf(),
      route: {
        constraints: { host: 'chat.example' },
        config: { swaggerTransform: false },
        handlerTimeout: 10_000,
        logLevel: 'warn',
        onRequest: [async ({ ip }, reply) => { reply.header('X-Address', ip) }],
        schema: { tags: ['Import'], operationId: 'progress', security: [], params: { type: 'object' } }
      }
    }),
  'a status may be any string': (_app, row: { id: string, status: string } = { id: 'operation-1', status: '' }): ImportOperation[] => [
    row, { id: row.id, status: row.status }, { id: 'operation-1', status: 'importer_done' }
  ]
}

for (const [name, onlyTyped] of Object.entries(typed)) {
  t.test(`in types, ${name}`, async t => {
    t.type(onlyTyped, 'function')
  })
}

// One program for all files, because the types of Fastify are compiled for each.
const { folder } = buildPackage(t, {
  'host.ts': `
    import Fastify from 'fastify'
    import importFileData, { type ImportFileDataOptions } from 'fastify-import-file-data'
    declare const options: ImportFileDataOptions
    const app = Fastify()
    app.register(importFileData, { prefix: '/api/v1', ...options })
    // @ts-expect-error the decorator of @fastify/auth, which the plugin registers internally
    app.auth([])
    app.get('/', async (request, reply) => {
      // @ts-expect-error
      request.user
      // @ts-expect-error
      request.caller
      // @ts-expect-error
      reply.caller
      // @ts-expect-error
      app.importFileData
    })`,
  'other-plugins.ts': `
    import 'fastify-import-file-data'
    import Fastify from 'fastify'
    import fp from 'fastify-plugin'
    interface Options { size: number }
    const app = Fastify()
    app.register(async (instance, options) => { instance.log.info(options.size.toFixed()) }, { size: 1 })
    app.register(async (instance, options) => { instance.log.info(options.size.toFixed()) }, parent => ({ size: parent.prefix.length }))
    app.register((instance, options, done) => { instance.log.info(options.size.toFixed()); done() }, parent => ({ size: parent.prefix.length }))
    app.register(fp(async (instance, options: Options) => { instance.log.info(options.size.toFixed()) }), { size: 1 })
    app.register(fp((instance, options: Options, done) => { instance.log.info(options.size.toFixed()); done() }), () => ({ size: 1 }))`,
  'wrong-options.ts': `
    import { type ImportDataStore, importFileData } from 'fastify-import-file-data'
    import Fastify from 'fastify'
    declare const store: ImportDataStore
    Fastify().register(importFileData, { hasPermission: () => true, store })
    Fastify().register(importFileData, { lookupUser: () => ({ role: 'admin' }), hasPermission: () => true, store, importer: {} })`
})
const problems = compile(folder, ['host.ts', 'other-plugins.ts', 'wrong-options.ts'])
const problemsIn = (file: string) => problems.filter(problem => problem.file === file).map(({ message }) => message)

t.test('the types compile without problems in any other file', async t => {
  t.strictSame(problems.filter(({ file }) => file !== 'wrong-options.ts'), [])
})

t.test('the plugin does not change the host\'s Fastify types', async t => {
  t.strictSame(problemsIn('host.ts'), [])
})

t.test('the plugin does not change the types of the host\'s other plugins', async t => {
  t.strictSame(problemsIn('other-plugins.ts'), [])
})

t.test('the error for a missing or misspelt option names it', async t => {
  matchEach(t, problemsIn('wrong-options.ts'), [/Property 'lookupUser' is missing/, /'importer' does not exist/])
})
