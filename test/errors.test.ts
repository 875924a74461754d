import createError from '@fastify/error'
import rateLimit from '@fastify/rate-limit'
import underPressure from '@fastify/under-pressure'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { importFileData, type ImportFileDataOptions, type ImportOperation } from '../lib/index.js'
import {
  build, call, caller, captureLog, FORBIDDEN, levels, NOTHING_STAGED, operation, optionsOf, recorded, storeOf, UNAUTHORIZED, URL
} from './fixtures/build.js'

/** Text that no caller may see. */
const SECRET = 'mongodb://user:pw@10.0.0.7:27017 boom'

const INTERNAL = inEnvelope('Internal Server Error', 'error-internal-server-error')
const UNAVAILABLE =
  inEnvelope('The import data cannot be read at the moment. Please try again in a few seconds.', 'error-service-unavailable')

/** The contract's envelope: byte for byte. */
function inEnvelope (message: string, code: string): string {
  return `{"success":false,"error":"${message} [${code}]","errorType":"${code}"}`
}

/** The reply to a caller who has called too often: byte for byte. */
function tooMany (seconds: number): string {
  return inEnvelope(`Error, too many requests. Please slow down. You must wait ${seconds} seconds before trying this endpoint again.`,
    'error-too-many-requests')
}

/** An error as other plugins throw them. */
function failure (message: string, properties: object): Error {
  return Object.assign(new Error(message), properties)
}

/** A server of a host that has set things up, by `prepare`, before it registers the plugin. */
async function buildAfter (
  t: Test,
  prepare: (app: FastifyInstance) => unknown,
  server: FastifyServerOptions = {}
): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify(server)
  t.teardown(() => app.close())
  await prepare(app)
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf() })
  return app
}

/** A server of a host whose `onRequest` hook throws. */
function buildThrowing (t: Test, thrown: unknown, server: FastifyServerOptions = {}): Promise<FastifyInstance> {
  return buildAfter(t, app => app.addHook('onRequest', async () => { throw thrown }), server)
}

/** What the hooks of a host can throw, and the reply that comes of it. */
const foreign: Record<string, [thrown: unknown, status: number, body: string]> = {
  'a 413 with a code': [
    failure('Request body is too large', { statusCode: 413, code: 'FST_ERR_CTP_BODY_TOO_LARGE' }),
    413, inEnvelope('Request body is too large', 'FST_ERR_CTP_BODY_TOO_LARGE')
  ],
  'a 431 without a code': [
    failure('Too many cookies', { statusCode: 431 }),
    431, inEnvelope('Too many cookies', 'error-request-header-fields-too-large')
  ],
  'a 400': [failure('No such tenant', { statusCode: 400 }), 400, inEnvelope('No such tenant', 'error-bad-request')],
  'a 401': [failure('Log in again', { statusCode: 401 }), 401, inEnvelope('Log in again', 'error-unauthorized')],
  'a 403 of @fastify/error': [
    new (createError('FST_NOT_HERE', 'Not from %s', 403))('there'), 403, inEnvelope('Not from there', 'FST_NOT_HERE')
  ],
  'a 418': [failure('Short and stout', { statusCode: 418 }), 418, inEnvelope('Short and stout', 'error-i-m-a-teapot')],
  'a 499, for which there is no word': [failure('Gone already', { statusCode: 499 }), 499, inEnvelope('Gone already', 'error-unknown')],
  'a 409 without a word': [failure('', { statusCode: 409 }), 409, inEnvelope('Conflict', 'error-conflict')],
  'a code that is no text': [failure('No such tenant', { statusCode: 404, code: 7 }), 404, inEnvelope('No such tenant', 'error-not-found')],
  'a 429 without a Retry-After': [failure('Slow down', { statusCode: 429 }), 429, tooMany(60)],
  'an error': [new Error(SECRET), 500, INTERNAL],
  'an error with a code': [failure(SECRET, { code: 'ECONNREFUSED' }), 500, INTERNAL],
  'a 500': [failure(SECRET, { statusCode: 500, code: SECRET }), 500, INTERNAL],
  'a 502': [failure(SECRET, { statusCode: 502 }), 500, INTERNAL],
  'a 504': [failure(SECRET, { statusCode: 504 }), 500, INTERNAL],
  'a 503': [failure(SECRET, { statusCode: 503 }), 503, UNAVAILABLE],
  'a status that is no error\'s': [failure(SECRET, { statusCode: 200 }), 500, INTERNAL],
  'a status that is none': [failure(SECRET, { statusCode: 4000 }), 500, INTERNAL],
  'a status between two': [failure(SECRET, { statusCode: 404.5 }), 500, INTERNAL],
  'a status that is no number': [failure(SECRET, { statusCode: '404' }), 500, INTERNAL],
  'a string': [SECRET, 500, INTERNAL],
  'a number': [404, 500, INTERNAL],
  undefined: [undefined, 500, INTERNAL],
  null: [null, 500, INTERNAL],
  'an object that is no error': [{ statusCode: 404, message: SECRET, stack: SECRET }, 500, INTERNAL],
  'an error with more to it': [
    failure('No such tenant', { statusCode: 404, stack: SECRET, validation: [SECRET], headers: { 'x-secret': SECRET }, success: true }),
    404, inEnvelope('No such tenant', 'error-not-found')
  ]
}

for (const [name, [thrown, status, expected]] of Object.entries(foreign)) {
  t.test(`${name} that a hook of the host throws is answered ${status} in the contract's envelope`, async t => {
    const reply = await call(await buildThrowing(t, thrown))
    t.strictSame([reply.statusCode, reply.body], [status, expected])
    t.equal(reply.headers['content-type'], 'application/json; charset=utf-8')
    t.notMatch(JSON.stringify(reply.headers), SECRET)
  })
}

t.test('an error is in the envelope whatever hook of the host throws it', async t => {
  const error = failure('No such tenant', { statusCode: 404 })
  const add: Record<string, (app: FastifyInstance) => void> = {
    onRequest: app => app.addHook('onRequest', async () => { throw error }),
    preParsing: app => app.addHook('preParsing', async () => { throw error }),
    preValidation: app => app.addHook('preValidation', async () => { throw error }),
    preHandler: app => app.addHook('preHandler', async () => { throw error }),
    'onRequest, by callback': app => app.addHook('onRequest', (_request, _reply, done) => done(error)),
    'onRequest, by send': app => app.addHook('onRequest', async (_request, reply) => reply.send(error)),
    'onSend, once': app => app.addHook('onSend', async (_request, reply) => { if (reply.statusCode === 200) throw error })
  }
  for (const [name, hook] of Object.entries(add)) {
    const { statusCode, body } = await call(await buildAfter(t, hook))
    t.strictSame([statusCode, body], [404, inEnvelope('No such tenant', 'error-not-found')], name)
  }
})

t.test('an onSend hook of the host that throws whatever is sent leaves no word of its error in the reply', async t => {
  const app = await buildAfter(t, app => app.addHook('onSend', async () => { throw new Error(SECRET) }))
  const { statusCode, body } = await call(app)
  t.strictSame([statusCode, body], [500, INTERNAL])
})

t.test('a 429 of @fastify/rate-limit says in its message how long to wait, as its Retry-After does', async t => {
  const app = await buildAfter(t, app => app.register(rateLimit, { max: 2, timeWindow: 7000 }))
  for (let calls = 0; calls < 2; calls++) t.equal((await call(app)).body, NOTHING_STAGED)
  const { statusCode, headers, body } = await call(app)
  t.strictSame([statusCode, body], [429, tooMany(Number(headers['retry-after']))])
  t.match(headers['retry-after'], /^[1-7]$/)
  t.match(headers, { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': /^[0-7]$/ })
})

t.test('a 429 says the seconds of its Retry-After, or those of the usual window where that is no number of them', async t => {
  for (const [retryAfter, seconds] of [['90', 90], ['', 60], ['soon', 60], ['Wed, 21 Oct 2026 07:28:00 GMT', 60]] as const) {
    const app = await buildAfter(t, app => app.addHook('onRequest', async (_request, reply) => {
      reply.header('Retry-After', retryAfter)
      throw failure('Slow down', { statusCode: 429 })
    }))
    const { statusCode, headers, body } = await call(app)
    t.strictSame([statusCode, headers['retry-after'], body], [429, retryAfter, tooMany(seconds)])
  }
})

t.test('an error of a hook that runs after a waiting reply was made has neither its Retry-After nor its ETag', async t => {
  const waiting = operation({ status: 'importer_preparing_users', updatedAt: new Date() })
  for (const [retryAfter, seconds] of [[undefined, 60], ['30', 30]] as const) {
    const app = Fastify()
    t.teardown(() => app.close())
    app.addHook('onSend', async (_request, reply) => {
      if (reply.statusCode !== 200) return
      if (retryAfter !== undefined) reply.header('Retry-After', retryAfter)
      throw failure('Slow down', { statusCode: 429 })
    })
    await app.register(importFileData, { prefix: '/api/v1', ...optionsOf({ store: storeOf({ latestOperation: async () => waiting }) }) })
    const { statusCode, headers, body } = await call(app)
    t.strictSame([statusCode, body, headers['retry-after'], headers.etag], [429, tooMany(seconds), retryAfter, undefined])
  }
})

t.test('a 503 of @fastify/under-pressure keeps its Retry-After', async t => {
  const app = await buildAfter(t, app => app.register(underPressure, {
    healthCheck: async () => false,
    healthCheckInterval: 60_000,
    retryAfter: 50
  }))
  const { statusCode, headers, body } = await call(app)
  t.strictSame([statusCode, headers['retry-after'], body], [503, '50', UNAVAILABLE])
})

t.test('a 503 without a Retry-After gets one', async t => {
  const { headers } = await call(await buildThrowing(t, failure(SECRET, { statusCode: 503 })))
  t.match(headers['retry-after'], /^[1-9]\d*$/)
})

t.test('what the host throws before the route is not asked of the look-up or the store', async t => {
  const { options, calls } = recorded()
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async () => { throw new Error(SECRET) })
  await app.register(importFileData, { prefix: '/api/v1', ...options })
  t.equal((await call(app)).statusCode, 500)
  t.strictSame(calls, [])
})

t.test('a 5xx is logged as an error, with what was thrown, and any other as information', async t => {
  for (const [name, [thrown, status, expected]] of Object.entries(foreign)) {
    const log = captureLog()
    await call(await buildThrowing(t, thrown, log.server))
    const { error } = JSON.parse(expected)
    const [record, ...others] = log.records().filter(({ level, msg }) => level > levels.info || msg === error)
    t.strictSame([record?.level, record?.msg, others], [status >= 500 ? levels.error : levels.info, error, []], name)
    if (expected === INTERNAL && thrown instanceof Error) t.match(record?.err, { message: thrown.message, stack: thrown.stack }, name)
  }
})

t.test('what a store gives that is not what it has to give is a 500, which no retry mends, and the log says which method', async t => {
  const log = captureLog()
  const reply = await call(await build(t, { store: storeOf({ countMessages: async () => 1.5 }) }, log.server))
  t.strictSame([reply.statusCode, reply.body, reply.headers['retry-after']], [500, INTERNAL, undefined])
  t.match(log.records().find(({ level }) => level === levels.error)?.err, { message: /countMessages/ })
})

t.test('the host\'s own error handler has no part in this route, and keeps the rest', async t => {
  let handled = 0
  const app = await buildAfter(t, app => {
    app.addHook('onRequest', async request => { if (request.headers['x-throw'] !== undefined) throw new Error(SECRET) })
    app.setErrorHandler(async (error, _request, reply) => {
      handled++
      return reply.code(599).send(String(error))
    })
    app.get('/other', async () => { throw new Error('of another route') })
  })
  const rows = [
    [{ 'x-throw': 'yes' }, 500, INTERNAL],
    [{ 'x-auth-token': undefined }, 401, UNAUTHORIZED]
  ] as const
  for (const [headers, status, expected] of rows) {
    const { statusCode, body } = await call(app, { headers })
    t.strictSame([statusCode, body], [status, expected])
  }
  t.equal(handled, 0)
  const { statusCode, body } = await app.inject('/other')
  t.strictSame([statusCode, body, handled], [599, 'Error: of another route', 1])
})

t.test('NODE_ENV=development changes no reply', async t => {
  const { NODE_ENV } = process.env
  t.teardown(() => {
    if (NODE_ENV === undefined) delete process.env.NODE_ENV
    else process.env.NODE_ENV = NODE_ENV
  })
  for (const mode of ['development', 'production', 'test']) {
    process.env.NODE_ENV = mode
    for (const [name, [thrown, status, expected]] of Object.entries(foreign)) {
      const { statusCode, body } = await call(await buildThrowing(t, thrown))
      t.strictSame([statusCode, body], [status, expected], `${mode}: ${name}`)
    }
  }
})

t.test('every error of the contract is shown as the contract has it', async t => {
  const refuse = (properties: Partial<ImportOperation>) => ({ store: storeOf({ latestOperation: async () => operation(properties) }) })
  const rows: Array<[changes: Partial<ImportFileDataOptions>, statusCode: number, body: string]> = [
    [{ lookupUser: () => null }, 401, UNAUTHORIZED],
    [{ hasPermission: () => false }, 403, FORBIDDEN],
    [{ store: storeOf({ latestOperation: async () => null }) }, 400, inEnvelope('Import Operation Not Found', 'error-operation-not-found')],
    [refuse({ importerKey: 'mine' }), 400, inEnvelope('The importer (mine) has no import class defined.', 'error-importer-not-defined')],
    [refuse({ importerKey: '%s %d </script>' }), 400,
      inEnvelope('The importer (%s %d </script>) has no import class defined.', 'error-importer-not-defined')],
    [refuse({ status: 'importer_preparing_users', valid: false }), 400,
      inEnvelope('Invalid Import Operation', 'error-import-operation-invalid')],
    [refuse({ status: 'importer_import_failed' }), 400,
      inEnvelope('Failed to process import file. Please check the file format and try again.', 'error-import-file-format-invalid')],
    [{ store: storeOf({ latestOperation: async () => { throw new Error(SECRET) } }) }, 503, UNAVAILABLE]
  ]
  for (const [changes, statusCode, body] of rows) {
    const reply = await call(await build(t, changes))
    t.strictSame([reply.statusCode, reply.body], [statusCode, body])
  }
})

t.test('a reply that a hook of the host gives itself is left as it is', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (_request, reply) => reply.code(503).send({ message: 'maintenance' }))
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf() })
  const reply = await app.inject({ url: URL, headers: caller })
  t.strictSame([reply.statusCode, reply.body], [503, '{"message":"maintenance"}'])
})
