import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { PassThrough, Readable, Transform } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib'
import auth from '@fastify/auth'
import compress from '@fastify/compress'
import cors from '@fastify/cors'
import etag from '@fastify/etag'
import helmet from '@fastify/helmet'
import httpProxy from '@fastify/http-proxy'
import rateLimit from '@fastify/rate-limit'
import responseValidation from '@fastify/response-validation'
import swagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import underPressure from '@fastify/under-pressure'
import { Validator } from '@seriousme/openapi-schema-validator'
import ajvFormats from 'ajv-formats'
import NewestFastify, { type FastifyInstance, type FastifyRequest, type FastifyServerOptions, type HTTPMethods } from 'fastify'
import LowestFastify from 'fastify-lowest'
import MiddleFastify from 'fastify-middle'
import { jsonSchemaTransform, serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { kCaller } from '../lib/auth.js'
import { importFileData, type ImportFileDataOptions, type ImportOperation, type RouteSettings, type StagedUser } from '../lib/index.js'
import {
  call, caller, callerLines, captureLog, FORBIDDEN, levels, matchEach, NOTHING_STAGED, operation, optionsOf, recorded, requestText, sendText,
  storeOf, UNAUTHORIZED, UNAVAILABLE, URL
} from './fixtures/build.js'
import { deferred, listen, readAll, request, userBatch, watchedUsers } from './fixtures/streaming.js'

type Build = (options?: FastifyServerOptions) => FastifyInstance

/** Sets up a host before it registers the plugin. */
type SetUp = (app: FastifyInstance) => unknown

const newest: Build = options => NewestFastify(options)
// Their types belong to other packages, but the tests use only what all have.
const lowest = LowestFastify as unknown as Build
const middle = MiddleFastify as unknown as Build

/** Supported versions of Fastify: the newest, the last before a range that is rejected, and the lowest. */
const versions = { 'the newest Fastify': newest, 'Fastify 5.8': middle, 'the lowest Fastify': lowest }

/** A server of a host that was set up before it registers the plugin. It is closed after the test. */
async function host (
  t: Test,
  setUp: SetUp,
  changes: Partial<ImportFileDataOptions> = {},
  { server, build = newest }: { server?: FastifyServerOptions, build?: Build } = {}
): Promise<FastifyInstance> {
  const app = build(server)
  t.teardown(() => app.close())
  await setUp(app)
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf(changes) })
  return app
}

const NOT_FOUND = '{"success":false,"error":"Import Operation Not Found [error-operation-not-found]","errorType":"error-operation-not-found"}'
const SMALL = '{"users":[{"user_id":"U1","username":"","email":"","is_deleted":false,"is_bot":false,"do_import":true,"is_email_taken":false}],' +
  '"channels":[],"message_count":0,"success":true}'

const smallBatches: StagedUser[][] = [[{ importIds: ['U1'] }]]
const largeBatches = Array.from({ length: 3 }, (_, batch) => userBatch(batch))

/** A store whose results a test sets before each call. */
function changeableStore () {
  const state: { operation: ImportOperation | null, users: StagedUser[][] | Error } = { operation: operation(), users: smallBatches }
  const users = () => { if (state.users instanceof Error) throw state.users; return state.users }
  return { state, store: storeOf({ latestOperation: async () => state.operation, users }) }
}

/** Checks that every kind of reply is the same as in a host without other plugins. */
async function everyReplyIsUnchanged (t: Test, setUp: SetUp, options: { server?: FastifyServerOptions, build?: Build } = {}): Promise<void> {
  const { state, store } = changeableStore()
  const app = await host(t, setUp, {
    lookupUser: ({ userId, authToken }) => authToken === caller['x-auth-token'] ? { userId } : null,
    hasPermission: user => 'userId' in user && user.userId === caller['x-user-id'],
    store
  }, options)
  const rows: Array<[headers: object, operation: ImportOperation | null, status: number, body: string]> = [
    [{}, operation(), 200, SMALL],
    [{}, operation({ status: 'importer_preparing_users' }), 200, '{"waiting":true,"step":"importer_preparing_users","success":true}'],
    [{}, null, 400, NOT_FOUND],
    [{ 'x-auth-token': undefined }, operation(), 401, UNAUTHORIZED],
    [{ 'x-auth-token': 'wrong' }, operation(), 401, UNAUTHORIZED],
    [{ 'x-user-id': 'bob' }, operation(), 403, FORBIDDEN]
  ]
  for (const [headers, operation, status, body] of rows) {
    state.operation = operation
    const reply = await call(app, { headers: { ...headers } })
    t.strictSame([reply.statusCode, reply.body], [status, body])
    t.equal(reply.headers['content-type'], 'application/json; charset=utf-8')
    t.equal(reply.headers['cache-control'], 'private, no-cache')
  }
  state.operation = operation()
  state.users = largeBatches
  const large = (await call(app)).json()
  t.strictSame([large.users.length, large.users[2999].user_id, large.success], [3000, 'U-2-999', true])
  state.users = new Error('the database is down')
  const failed = await call(app)
  t.strictSame([failed.statusCode, failed.body, failed.headers['retry-after']], [503, UNAVAILABLE, '5'])
  for (const [method, url, status] of [['HEAD', URL, 405], ['POST', URL, 405], ['GET', `${URL}/`, 404]] as const) {
    const refused = await app.inject({ method, url, headers: caller })
    t.strictSame([refused.statusCode, refused.headers['content-type']], [status, 'application/json; charset=utf-8'], `${method} ${url}`)
  }
}

/** A function of the host that must not be called for this route. */
const never = (): never => { throw new Error('called for this route') }

/** The compilers of a host with Zod schemas. They cannot compile JSON Schema. */
function setZodCompilers (app: FastifyInstance): void {
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  app.get('/own', { schema: { querystring: z.object({ q: z.string().optional() }), response: { 200: z.object({ own: z.boolean() }) } } },
    async () => ({ own: true }))
}

/** Hosts with settings and plugins that could interfere. */
const hosts: Record<string, [setUp: SetUp, server?: FastifyServerOptions]> = {
  '@fastify/auth': [app => app.register(auth)],
  'a different decorator named auth': [app => app.decorate('auth', never)],
  'a request decorator named user': [app => {
    app.decorateRequest('user', null)
    app.addHook('onRequest', async request => { request.setDecorator('user', { name: 'of the host' }) })
  }],
  'an error handler': [app => app.setErrorHandler(never)],
  'a not-found handler': [app => app.setNotFoundHandler(never)],
  'a reply serializer': [app => app.setReplySerializer(payload => JSON.stringify({ host: payload }))],
  'no content-type parsers': [app => app.removeAllContentTypeParsers()],
  '@fastify/rate-limit': [app => app.register(rateLimit, { max: 100 })],
  '@fastify/cors': [app => app.register(cors, { origin: true })],
  '@fastify/helmet': [app => app.register(helmet)],
  '@fastify/compress': [app => app.register(compress, { threshold: 0 })],
  '@fastify/under-pressure': [app => app.register(underPressure, { maxEventLoopDelay: 60_000 })],
  '@fastify/etag': [app => app.register(etag)],
  '@fastify/response-validation and ajv-formats': [app => app.register(responseValidation, { ajv: { plugins: [ajvFormats.default] } })],
  '@fastify/http-proxy for all other paths': [app => app.register(httpProxy, { upstream: 'http://localhost:1' })],
  'the compilers of fastify-type-provider-zod': [setZodCompilers],
  'a schema controller': [() => {}, {
    schemaController: { compilersFactory: { buildValidator: () => never, buildSerializer: () => never } }
  }],
  'a schema error formatter': [() => {}, { schemaErrorFormatter: never }],
  'Ajv options': [() => {}, {
    ajv: { customOptions: { strict: true, allErrors: true, coerceTypes: false, removeAdditional: 'all', useDefaults: false } }
  }],
  'no HEAD routes': [() => {}, { exposeHeadRoutes: false }]
}

for (const [name, [setUp, server]] of Object.entries(hosts)) {
  t.test(`in a host with ${name} every reply is unchanged`, async t => {
    await everyReplyIsUnchanged(t, setUp, { ...(server && { server }) })
  })
}

t.test('the host can register @fastify/auth itself after the plugin', async t => {
  const app = await host(t, () => {})
  await app.register(auth)
  const isHost = async ({ headers }: FastifyRequest) => { if (headers['x-host'] !== 'yes') throw new Error('the host says no') }
  app.get('/own', { onRequest: app.auth([isHost]) }, async () => 'own')
  t.equal((await app.inject({ url: '/own', headers: { 'x-host': 'yes' } })).body, 'own')
  t.match((await app.inject({ url: '/own', headers: caller })).json(), { statusCode: 401, message: 'the host says no' })
  t.equal((await call(app)).body, NOTHING_STAGED)
})

t.test('the injected functions see the host\'s request decorators, and the plugin does not change them', async t => {
  const seen: unknown[] = []
  const app = await host(t, app => {
    app.decorateRequest('user', null)
    app.addHook('onRequest', async request => { request.setDecorator('user', 'of the host') })
    app.addHook('onResponse', async request => { seen.push(request.getDecorator('user')) })
  }, {
    lookupUser (_credentials, request) { seen.push(request.getDecorator('user')); return { id: 'of the plugin' } },
    hasPermission (_user, _permission, request) { seen.push(request.getDecorator('user')); return true }
  })
  t.equal((await call(app)).statusCode, 200)
  t.strictSame(seen, ['of the host', 'of the host', 'of the host'])
})

// The host's plugins apply to the route

t.test('a 429 of @fastify/rate-limit is in the error format, whatever its format on the host\'s other routes', async t => {
  const app = await host(t, async app => {
    const errorResponseBuilder = () => Object.assign(new Error('not so fast'), { statusCode: 429 })
    await app.register(rateLimit, { max: 1, timeWindow: 60_000, errorResponseBuilder })
    app.get('/own', async () => 'own')
  })
  const first = await call(app)
  t.strictSame([first.statusCode, first.body, first.headers['x-ratelimit-remaining']], [200, NOTHING_STAGED, '0'])
  const { statusCode, headers, body } = await call(app)
  t.strictSame([statusCode, body], [429, '{"success":false,"error":"Error, too many requests. Please slow down. You must wait ' +
    `${headers['retry-after']} seconds before trying this endpoint again. [error-too-many-requests]","errorType":"error-too-many-requests"}`])
  t.match(headers, { 'x-ratelimit-limit': '1', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': /^\d+$/ })
  t.match((await app.inject('/own')).json(), { message: 'not so fast' })
})

t.test('S10: the host\'s @fastify/rate-limit limits guesses of a token before the look-up', async t => {
  const { options, calls } = recorded()
  const app = await host(t, app => app.register(rateLimit, { max: 2 }), options)
  const statuses: number[] = []
  for (let guess = 0; guess < 4; guess++) statuses.push((await call(app, { headers: { 'x-auth-token': `guess ${guess}` } })).statusCode)
  t.strictSame(statuses, [401, 401, 429, 429])
  t.strictSame(calls, ['lookupUser', 'lookupUser'])
})

t.test('@fastify/cors and @fastify/helmet add their headers to every reply, and Vary has the values of all', async t => {
  const app = await host(t, async app => {
    await app.register(cors, { origin: ['https://chat.example'], credentials: true })
    await app.register(helmet)
  })
  for (const [token, status] of [[caller['x-auth-token'], 200], ['wrong', 401]] as const) {
    const { statusCode, headers } = await call(app, { headers: { origin: 'https://chat.example', 'x-auth-token': token } })
    t.equal(statusCode, status)
    t.match(headers, {
      vary: 'Origin, X-User-Id, X-Auth-Token',
      'access-control-allow-origin': 'https://chat.example',
      'access-control-allow-credentials': 'true',
      'strict-transport-security': /max-age/,
      'x-content-type-options': 'nosniff',
      'cache-control': 'private, no-cache'
    })
  }
})

const decompress = { gzip: gunzipSync, br: brotliDecompressSync, deflate: inflateSync }

t.test('@fastify/compress compresses a selection of any size without changing it', async t => {
  const { state, store } = changeableStore()
  const app = await host(t, app => app.register(compress, { threshold: 100 }), { store })
  for (const [size, users] of [['small', smallBatches], ['large', largeBatches]] as const) {
    state.users = users
    const { body: expected } = await call(app)
    for (const [encoding, unpack] of Object.entries(decompress)) {
      const { statusCode, headers, rawPayload } = await app.inject({ url: URL, headers: { ...caller, 'accept-encoding': encoding } })
      t.strictSame([statusCode, headers['content-encoding']], [200, encoding], size)
      t.equal(unpack(rawPayload).toString() === expected, true, `${size}: ${rawPayload.length} bytes`)
      t.strictSame(String(headers['vary']).toLowerCase().split(', ').sort(), ['accept-encoding', 'x-auth-token', 'x-user-id'])
    }
  }
})

t.test('a selection that fails while @fastify/compress compresses it is aborted', async t => {
  const { users, seen } = watchedUsers(200)
  const app = await host(t, app => app.register(compress), {
    store: storeOf({ async * users () { yield * users(); throw new Error('connection lost') } })
  })
  const reply = await request(app, { headers: { ...caller, 'accept-encoding': 'gzip' } })
  t.equal(reply.headers['content-encoding'], 'gzip')
  t.notOk((await readAll(reply)).isWhole)
  await seen.closed
})

t.test('a 503 of @fastify/under-pressure is in the error format, and unchanged on the host\'s other routes', async t => {
  const app = await host(t, async app => {
    await app.register(underPressure, { healthCheck: async () => false, healthCheckInterval: 60_000, retryAfter: 50 })
    app.get('/own', async () => 'own')
  })
  const { statusCode, headers, body } = await call(app)
  t.strictSame([statusCode, headers['retry-after'], body], [503, '50', UNAVAILABLE])
  t.match((await app.inject('/own')).json(), { code: 'FST_UNDER_PRESSURE', statusCode: 503 })
})

t.test('@fastify/etag adds an ETag to replies without one, including errors, and replies 304 to it', async t => {
  const { state, store } = changeableStore()
  const app = await host(t, app => app.register(etag), { store })
  const rows: Array<[operation: ImportOperation | null, status: number, tag: RegExp]> = [
    [operation(), 200, /^"/],
    [operation({ updatedAt: new Date(0) }), 200, /^W\/"/],
    [null, 400, /^"/]
  ]
  for (const [operation, status, tag] of rows) {
    state.operation = operation
    const { statusCode, headers } = await call(app)
    t.equal(statusCode, status)
    t.match(headers.etag, tag)
    t.equal((await app.inject({ url: URL, headers: { ...caller, 'if-none-match': headers.etag } })).statusCode, 304)
  }
  state.users = largeBatches
  state.operation = operation()
  t.equal((await call(app)).headers.etag, undefined)
})

t.test('@fastify/response-validation cannot compile the route\'s schema without ajv-formats', async t => {
  await t.rejects(host(t, app => app.register(responseValidation)), { message: /unknown format "date-time"/ })
})

// The host as a proxy

/** A server that proxies all requests without a route, and the requests that the upstream gets. */
async function proxied (t: Test, setUp: SetUp = () => {}, httpMethods: HTTPMethods[] = ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT']) {
  const upstream = NewestFastify()
  const came: string[] = []
  upstream.all('/*', async ({ method, url }) => { came.push(`${method} ${url}`); return 'of the upstream' })
  t.teardown(() => upstream.close())
  const { options, calls } = recorded()
  const app = await host(t, async app => {
    await setUp(app)
    await app.register(httpProxy, { upstream: await upstream.listen({ host: '127.0.0.1', port: 0 }), httpMethods })
  }, options)
  return { app, came, calls }
}

t.test('in a host that proxies all other paths with @fastify/http-proxy, no request for the path reaches the upstream', async t => {
  const { app, came, calls } = await proxied(t)
  for (const method of ['DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT'] as const) {
    t.equal((await app.inject({ method, url: URL, headers: caller })).statusCode, method === 'OPTIONS' ? 204 : 405, method)
  }
  for (const url of [`${URL}/`, `${URL}/?importerKey=slack`, `${URL}/more`]) {
    t.equal((await app.inject({ url, headers: caller })).statusCode, 404, url)
  }
  t.strictSame([came, calls], [[], []])
  t.equal((await call(app)).body, NOTHING_STAGED)
  t.equal((await app.inject({ method: 'POST', url: '/api/v1/startImport', headers: caller })).body, 'of the upstream')
  t.strictSame(came, ['POST /api/v1/startImport'])
})

t.test('in a host that proxies all other paths, @fastify/cors replies to a preflight for the path', async t => {
  // Both plugins can handle OPTIONS for all paths.
  const withCors: SetUp = app => app.register(cors, { origin: 'https://chat.example', cacheControl: 600 })
  const { app, came, calls } = await proxied(t, withCors, ['DELETE', 'GET', 'HEAD', 'PATCH', 'POST', 'PUT'])
  const { statusCode, headers } = await app.inject({
    method: 'OPTIONS', url: URL, headers: { origin: 'https://chat.example', 'access-control-request-method': 'GET' }
  })
  t.equal(statusCode, 204)
  t.match(headers, { 'access-control-allow-origin': 'https://chat.example', 'access-control-allow-methods': /GET/, 'cache-control': 'max-age=600' })
  t.strictSame([came, calls], [[], []])
})

// The host configures the route

/** The OpenAPI document of a server. */
async function openapi (t: Test, app: FastifyInstance) {
  await app.ready()
  const document: { paths: Record<string, Record<string, { operationId: string }>> } = JSON.parse(JSON.stringify(app.swagger()))
  t.match(await new Validator().validate({ ...document }), { valid: true })
  return document
}

const documented: FastifyDynamicSwaggerOptions = { openapi: { openapi: '3.1.0' } }

t.test('the OpenAPI document has only the GET route, also if it hides routes without tags', async t => {
  const app = await host(t, app => app.register(swagger, { ...documented, hideUntagged: true }))
  const { paths } = await openapi(t, app)
  t.strictSame(Object.keys(paths), [URL])
  t.match(paths[URL], { get: { tags: ['import'], operationId: 'getImportFileData', summary: 'Get the progress of an upload' } })
  t.strictSame(Object.keys(paths[URL] ?? {}), ['get'])
})

t.test('two registrations have different operation ids', async t => {
  const app = await host(t, app => app.register(swagger, documented))
  await app.register(importFileData, { prefix: '/other', ...optionsOf() })
  const { paths } = await openapi(t, app)
  t.equal(paths[URL]?.['get']?.operationId, 'getImportFileData')
  t.equal(paths['/other/getImportFileData']?.['get']?.operationId, 'getImportFileData2')
})

t.test('the host can set the description of the route', async t => {
  const app = await host(t, app => app.register(swagger, documented), { route: { schema: { tags: ['Migration'], operationId: 'progress' } } })
  const { paths } = await openapi(t, app)
  t.match(paths[URL]?.['get'], { tags: ['Migration'], operationId: 'progress', summary: 'Get the progress of an upload', responses: { 200: {} } })
})

t.test('with the jsonSchemaTransform of fastify-type-provider-zod the route is documented if the transform skips it', async t => {
  const setUp: SetUp = async app => {
    setZodCompilers(app)
    await app.register(swagger, { ...documented, transform: jsonSchemaTransform })
    app.get('/own/documented', { schema: { response: { 200: z.object({ own: z.boolean() }) } } }, async () => ({ own: true }))
  }
  const app = await host(t, setUp, { route: { config: { swaggerTransform: false } } })
  const { paths } = await openapi(t, app)
  t.strictSame(Object.keys(paths).sort(), [URL, '/own/documented'])
  t.match(paths[URL]?.['get'], { operationId: 'getImportFileData', responses: { 200: {} } })
})

t.test('the host\'s hooks for the route run before the look-up, for every method on the path', async t => {
  const { options, calls } = recorded()
  const app = await host(t, () => {}, {
    ...options,
    route: {
      onRequest: async ({ method }) => { calls.push(`onRequest of ${method}`) },
      onResponse: [async () => { calls.push('onResponse') }]
    }
  })
  t.equal((await call(app)).statusCode, 200)
  t.strictSame(calls.slice(0, 2), ['onRequest of GET', 'lookupUser'])
  t.equal(calls.at(-1), 'onResponse')
  calls.length = 0
  t.equal((await app.inject({ method: 'POST', url: URL })).statusCode, 405)
  t.strictSame(calls, ['onRequest of POST', 'onResponse'])
})

t.test('a rate limit can be set for this route only', async t => {
  const app = await host(t, app => app.register(rateLimit, { global: false }), { route: { config: { rateLimit: { max: 1 } } } })
  t.equal((await call(app)).statusCode, 200)
  t.equal((await call(app)).statusCode, 429)
})

t.test('with constraints the same path can be registered for two hosts, and is not found for a third', async t => {
  const app = await host(t, () => {}, { route: { constraints: { host: 'one.example' } } })
  await app.register(importFileData, {
    prefix: '/api/v1', ...optionsOf({ store: storeOf({ countMessages: async () => 2 }) }), route: { constraints: { host: 'two.example' } }
  })
  const messages = async (host: string) => (await call(app, { headers: { host } })).json().message_count
  t.strictSame([await messages('one.example'), await messages('two.example')], [0, 2])
  for (const method of ['GET', 'POST'] as const) {
    t.equal((await app.inject({ method, url: URL, headers: { ...caller, host: 'three.example' } })).json().message, `Route ${method}:${URL} not found`)
  }
})

/** Settings of the route without a `handlerTimeout`. */
const withoutTimeout: Record<string, RouteSettings> = {
  'without settings of the route': {},
  'with an undefined handlerTimeout of the route': Object.assign<RouteSettings, object>({}, { handlerTimeout: undefined })
}

for (const [name, route] of Object.entries(withoutTimeout)) {
  t.test(`the server's handlerTimeout does not abort a selection ${name}`, async t => {
    let mayGoOn = (): void => {}
    const permission = new Promise<void>(resolve => { mayGoOn = resolve })
    const { users } = watchedUsers(10, batch => batch === 5 ? permission : undefined)
    const hang: SetUp = app => app.get('/hangs', () => new Promise(() => {}))
    const app = await host(t, hang, { store: storeOf({ users }), route }, { server: { handlerTimeout: 20 } })
    const reply = await request(app)
    // By then, everything before is older than the timeout.
    t.equal((await app.inject('/hangs')).statusCode, 503)
    mayGoOn()
    const { text, isWhole } = await readAll(reply)
    t.ok(isWhole)
    t.equal(JSON.parse(text).users.length, 10_000)
  })
}

t.test('a selection is complete if a hook of the host reads the request to its end while a handlerTimeout runs', async t => {
  const { promise: closed, resolve: close } = deferred()
  const { users } = watchedUsers(10, batch => batch === 5 ? closed : undefined)
  const onSend = async ({ raw }: FastifyRequest): Promise<void> => { raw.on('close', () => close()).resume() }
  const app = await host(t, () => {}, { store: storeOf({ users }), route: { handlerTimeout: 60_000, onSend } })
  const { text, isWhole } = await readAll(await request(app))
  t.ok(isWhole)
  t.equal(JSON.parse(text).users.length, 10_000)
})

t.test('a handlerTimeout of the route causes a 503 in the error format, whether or not the server has one', async t => {
  const hangs = { lookupUser: () => new Promise<null>(() => {}), route: { handlerTimeout: 20 } }
  for (const server of [{}, { handlerTimeout: 60_000 }]) {
    const { statusCode, body, headers } = await call(await host(t, () => {}, hangs, { server }))
    t.strictSame([statusCode, body, headers['retry-after']], [503, UNAVAILABLE, '5'])
  }
})

t.test('a handlerTimeout of the route that expires while a hook of the host delays a selection causes a 503, and ends its read', async t => {
  const { users, seen } = watchedUsers(10)
  const onSend = async (_request: unknown, _reply: unknown, payload: unknown) => { if (payload instanceof Readable) await new Promise(() => {}) }
  const log = captureLog()
  const app = await host(t, () => {}, { store: storeOf({ users }), route: { handlerTimeout: 300, onSend } }, { server: log.server })
  const reply = await request(app)
  t.strictSame([reply.statusCode, (await readAll(reply)).text], [503, UNAVAILABLE])
  await seen.closed
  t.equal(seen.open, 0)
  matchEach(t, log.problems(), [{ level: levels.error, err: { code: 'FST_ERR_HANDLER_TIMEOUT' } }])
})

t.test('a caller who disconnects before the handlerTimeout of the route is not logged as an error', async t => {
  const log = captureLog()
  const { promise: ended, resolve: end } = deferred()
  const store = storeOf({
    async * users ({ signal }) {
      signal.addEventListener('abort', () => end())
      yield * watchedUsers(10).users()
    }
  })
  const app = await host(t, () => {}, { store, route: { handlerTimeout: 60_000 } }, { server: log.server })
  const reply = await request(app)
  await once(reply, 'data')
  reply.destroy()
  await ended
  await turnOfTheLoop()
  t.strictSame(log.problems(), [])
})

t.test('after a handlerTimeout of the route, the end of a read of the store is not logged', async t => {
  for (const failing of ['latestOperation', 'countMessages'] as const) {
    for (const result of [() => operation({ status: 'importer_preparing_users' }), () => { throw new Error('too late') }]) {
      const { promise: late, resolve: end } = deferred()
      const store = storeOf({ [failing]: async () => { await late; return result() } })
      const log = captureLog()
      const app = await host(t, () => {}, { store, route: { handlerTimeout: 20 } }, { server: log.server })
      t.equal((await call(app)).statusCode, 503)
      end()
      await turnOfTheLoop()
      matchEach(t, log.problems(), [{ level: levels.error, err: { code: 'FST_ERR_HANDLER_TIMEOUT' } }], failing)
    }
  }
})

t.test('after a handlerTimeout of the route, a pipelined selection is neither sent nor logged', async t => {
  const [first, timedOut, read] = [deferred(), deferred(), deferred()]
  const log = captureLog()
  const app = await host(t, app => {
    app.get('/first', async () => { await first.promise; return 'first' })
    app.addHook('onError', async () => { timedOut.resolve() })
  }, {
    store: storeOf({ users: async function * () { await read.promise; yield userBatch(0, 1) } }), route: { handlerTimeout: 20 }
  }, { server: log.server })
  const replies = sendText(app, requestText([], { start: 'GET /first HTTP/1.1' }) + requestText([...callerLines, 'Connection: close']))
  await timedOut.promise
  await turnOfTheLoop()
  read.resolve()
  await turnOfTheLoop()
  first.resolve()
  t.strictSame((await replies).map(({ status, body }) => [status, body]), [[200, 'first'], [503, UNAVAILABLE]])
  matchEach(t, log.problems(), [{ level: levels.error, err: { code: 'FST_ERR_HANDLER_TIMEOUT' } }])
})

// Encapsulation

/** Routes of a host that the plugin could affect, with and without an error and a schema. */
function setOwnRoutes (app: FastifyInstance): void {
  app.get('/own', async () => ({ own: true }))
  app.get('/api/v1/own', async () => ({ own: true }))
  app.get('/throws', async () => { throw Object.assign(new Error('an error of the host'), { statusCode: 418 }) })
  app.get('/fails', async () => { throw new Error('of the host') })
  app.post('/own', { schema: { body: { type: 'object', required: ['name'], properties: { name: { type: 'string' } } } } }, async () => 'posted')
}

const ownCalls = [
  { method: 'GET', url: '/own', headers: caller },
  { method: 'GET', url: '/api/v1/own', headers: caller },
  { method: 'HEAD', url: '/api/v1/own' },
  { method: 'GET', url: '/throws' },
  { method: 'GET', url: '/fails' },
  { method: 'POST', url: '/own', payload: { name: 'ada' } },
  { method: 'POST', url: '/own', payload: {} },
  { method: 'POST', url: '/own', payload: 'name', headers: { 'content-type': 'text/csv' } },
  { method: 'GET', url: '/api/v1/nothing', headers: caller },
  { method: 'GET', url: '/getImportFileData', headers: caller }
] as const

for (const [version, build] of Object.entries(versions)) {
  t.test(`on ${version} the replies of the host's other routes are the same as without the plugin, including headers`, async t => {
    const without = build()
    t.teardown(() => without.close())
    setOwnRoutes(without)
    const guested = await host(t, setOwnRoutes, {}, { build })
    for (const options of ownCalls) {
      const [expected, actual] = await Promise.all([without, guested].map(async app => {
        const { statusCode, headers: { date, ...headers }, body } = await app.inject(options)
        return { statusCode, headers, body }
      }))
      t.strictSame(actual, expected, `${options.method} ${options.url}`)
    }
  })
}

t.test('the plugin\'s decorators and hooks are not visible to the host', async t => {
  const ours = ['auth', 'verifyBearerAuth', 'user', 'caller', 'credentials', 'importFileData', kCaller]
  const app = await host(t, () => {})
  const routes: string[] = []
  app.addHook('onRoute', ({ method, url }) => { routes.push(`${String(method)} ${url}`) })
  app.get('/own', async request => ({ isMarked: kCaller in request }))
  t.strictSame((await app.inject('/own')).json(), { isMarked: false })
  for (const name of ours) {
    t.notOk(app.hasDecorator(name), String(name))
    t.notOk(app.hasRequestDecorator(name), `request: ${String(name)}`)
    t.notOk(app.hasReplyDecorator(name), `reply: ${String(name)}`)
  }
  t.strictSame(routes, ['GET /own', 'HEAD /own'])
})

t.test('the list of plugins has the plugin, and @fastify/auth inside it', async t => {
  const app = await host(t, () => {})
  await app.ready()
  t.ok(app.hasPlugin('fastify-import-file-data'))
  t.notOk(app.hasPlugin('@fastify/auth'))
  t.match(app.printPlugins(), /fastify-import-file-data[^]*@fastify\/auth/)
})

t.test('the plugin adds no listeners to the process or the server', async t => {
  const listeners = (emitter: NodeJS.EventEmitter) =>
    Object.fromEntries(emitter.eventNames().map(name => [String(name), emitter.listenerCount(name)]))
  const without = NewestFastify()
  t.teardown(() => without.close())
  const processBefore = listeners(process)
  const app = await host(t, () => {}, { prepare: async () => {}, store: storeOf({ users: () => largeBatches }) })
  await Promise.all([app.ready(), without.ready()])
  t.strictSame(listeners(app.server), listeners(without.server))
  await call(app)
  t.strictSame(listeners(process), processBefore)
})

// Versions of Fastify

for (const [version, build] of [['5.3.2', lowest], ['5.8.5', middle]] as const) {
  t.test(`on Fastify ${version} every reply is unchanged`, async t => {
    await everyReplyIsUnchanged(t, app => t.equal(app.version, version), { build })
  })
}

t.test('on Fastify 5.8, where an error after the headers ends the process, a handlerTimeout of the route aborts a selection that takes longer', async t => {
  const { seen, users } = watchedUsers(10, batch => batch === 5 ? new Promise(() => {}) : undefined)
  const app = await host(t, () => {}, { store: storeOf({ users }), route: { handlerTimeout: 500 } }, { build: middle })
  t.notOk((await readAll(await request(app))).isWhole)
  t.equal(seen.read, 5)
})

/** Hooks that send a stream of their own, which does not end, when they get a selection. */
const endless: Record<string, (selection: Readable) => Readable> = {
  'wraps a selection that was read to its end': selection => selection.pipe(new Transform({
    writableObjectMode: true,
    transform (chunk, _encoding, done) { done(null, chunk) },
    flush () {}
  })),
  'replaces a selection' (selection) {
    selection.destroy()
    const own = new PassThrough()
    own.write('a part')
    return own
  }
}

for (const [what, send] of Object.entries(endless)) {
  for (const [version, build] of [['the newest Fastify', newest], ['Fastify 5.8', middle]] as const) {
    t.test(`on ${version} a handlerTimeout of the route aborts a stream of a hook that ${what}`, async t => {
      const log = captureLog()
      const onSend = async (_request: unknown, _reply: unknown, payload: unknown) => payload instanceof Readable ? send(payload) : payload
      const store = storeOf({ users: watchedUsers(5).users })
      const app = await host(t, () => {}, { store, route: { handlerTimeout: 300, onSend } }, { server: log.server, build })
      const socket = connect(await listen(app), '127.0.0.1')
      socket.write(requestText(callerLines, { start: `GET ${URL} HTTP/1.0` }))
      await t.rejects(text(socket), { code: 'ECONNRESET' })
      const errors = log.problems().filter(({ level }) => level === levels.error)
      matchEach(t, errors, [{ msg: /^The selection was aborted/, err: { code: 'FST_ERR_HANDLER_TIMEOUT' } }])
    })
  }
}

for (const [version, build] of Object.entries(versions)) {
  t.test(`F14: on ${version} a selection in progress when the server closes is sent completely`, async t => {
    let mayGoOn = (): void => {}
    const permission = new Promise<void>(resolve => { mayGoOn = resolve })
    const { users } = watchedUsers(10, batch => batch === 5 ? permission : undefined)
    const app = await host(t, () => {}, { store: storeOf({ users }) }, { build })
    const reply = await request(app)
    const closed = app.close()
    mayGoOn()
    const { text, isWhole } = await readAll(reply)
    t.ok(isWhole)
    t.equal(JSON.parse(text).users.length, 10_000)
    await closed
  })
}

t.test('versions of Fastify 5 that are too old, or abort replies when they close, are rejected, and all others are accepted', async t => {
  const register = async (version: string) => {
    const app = NewestFastify()
    t.teardown(() => app.close())
    Object.defineProperty(app, 'version', { value: version })
    await app.register(importFileData, optionsOf())
  }
  for (const version of ['5.3.2', '5.8.5', '5.11.2', '5.12.8', '5.99.0']) await t.resolves(register(version), version)
  for (const version of ['4.29.1', '5.3.1', '5.9.0', '5.9.1', '5.10.0', '5.11.0', '5.11.1', '6.0.0']) {
    await t.rejects(register(version), { code: 'FST_ERR_PLUGIN_VERSION_MISMATCH', message: /fastify-import-file-data/ }, version)
  }
})

t.test('package.json has the same range of Fastify, and the versions that are tested', async t => {
  const { name, peerDependencies, devDependencies } =
    JSON.parse(await readFile(new globalThis.URL('../package.json', import.meta.url), 'utf8'))
  const meta: unknown = Reflect.get(importFileData, Symbol.for('plugin-meta'))
  t.match(meta, { name, fastify: peerDependencies.fastify })
  t.match(devDependencies, { 'fastify-lowest': 'npm:fastify@5.3.2', 'fastify-middle': 'npm:fastify@5.8.5' })
})
