import auth from '@fastify/auth'
import createError from '@fastify/error'
import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { importFileData, type ImportFileDataOptions, type ImportOperation } from '../lib/index.js'
import {
  build, call, caller, captureLog, FORBIDDEN, levels, operation, optionsOf, recorded, storeOf, UNAUTHORIZED,
  UNAVAILABLE, URL
} from './fixtures/build.js'

/** A text that must not be in a reply. */
const SECRET = 'mongodb://user:pw@10.0.0.7:27017 boom'

const INTERNAL = errorBody('Internal Server Error', 'error-internal-server-error')

/** The body of an error reply. */
function errorBody (message: string, code: string): string {
  return `{"success":false,"error":"${message} [${code}]","errorType":"${code}"}`
}

/** The body of the reply when a rate limit is exceeded. */
function tooMany (seconds: number): string {
  return errorBody(`Error, too many requests. Please slow down. You must wait ${seconds} seconds before trying this endpoint again.`,
    'error-too-many-requests')
}

/** An error with properties, as other plugins throw them. */
function failure (message: string, properties: object): Error {
  return Object.assign(new Error(message), properties)
}

/** A server of a host that calls `prepare` before it registers the plugin. */
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

/** What a host's hooks can throw, and the reply. */
const foreign: Record<string, [thrown: unknown, status: number, body: string]> = {
  'a 413 with a code': [
    failure('Request body is too large', { statusCode: 413, code: 'FST_ERR_CTP_BODY_TOO_LARGE' }),
    413, errorBody('Request body is too large', 'FST_ERR_CTP_BODY_TOO_LARGE')
  ],
  'a 431 without a code': [
    failure('Too many cookies', { statusCode: 431 }),
    431, errorBody('Too many cookies', 'error-request-header-fields-too-large')
  ],
  'a 400': [failure('No such tenant', { statusCode: 400 }), 400, errorBody('No such tenant', 'error-bad-request')],
  'a 401': [failure('Log in again', { statusCode: 401 }), 401, errorBody('Log in again', 'error-unauthorized')],
  'a 403 of @fastify/error': [
    new (createError('FST_NOT_HERE', 'Not from %s', 403))('there'), 403, errorBody('Not from there', 'FST_NOT_HERE')
  ],
  'a 418': [failure('Short and stout', { statusCode: 418 }), 418, errorBody('Short and stout', 'error-i-m-a-teapot')],
  'a 499, which has no reason phrase': [failure('Gone already', { statusCode: 499 }), 499, errorBody('Gone already', 'error-unknown')],
  'a 409 without a message': [failure('', { statusCode: 409 }), 409, errorBody('Conflict', 'error-conflict')],
  'a code that is not a string': [failure('No such tenant', { statusCode: 404, code: 7 }), 404, errorBody('No such tenant', 'error-not-found')],
  'a 429 without a Retry-After': [failure('Slow down', { statusCode: 429 }), 429, tooMany(60)],
  'an error': [new Error(SECRET), 500, INTERNAL],
  'an error with a code': [failure(SECRET, { code: 'ECONNREFUSED' }), 500, INTERNAL],
  'a 500': [failure(SECRET, { statusCode: 500, code: SECRET }), 500, INTERNAL],
  'a 502': [failure(SECRET, { statusCode: 502 }), 500, INTERNAL],
  'a 504': [failure(SECRET, { statusCode: 504 }), 500, INTERNAL],
  'a 503': [failure(SECRET, { statusCode: 503 }), 503, UNAVAILABLE],
  'a status that is not an error': [failure(SECRET, { statusCode: 200 }), 500, INTERNAL],
  'a status out of range': [failure(SECRET, { statusCode: 4000 }), 500, INTERNAL],
  'a fractional status': [failure(SECRET, { statusCode: 404.5 }), 500, INTERNAL],
  'a status that is not a number': [failure(SECRET, { statusCode: '404' }), 500, INTERNAL],
  'a string': [SECRET, 500, INTERNAL],
  'a number': [404, 500, INTERNAL],
  undefined: [undefined, 500, INTERNAL],
  null: [null, 500, INTERNAL],
  'a 404 in `status`': [failure('No such tenant', { status: 404 }), 404, errorBody('No such tenant', 'error-not-found')],
  'a 500 with a 404 in `status`': [failure(SECRET, { statusCode: 500, status: 404 }), 500, INTERNAL],
  'an object that is not an Error': [{ message: SECRET, stack: SECRET }, 500, INTERNAL],
  'a 404 that is not an Error': [{ statusCode: 404, message: SECRET, code: SECRET }, 404, errorBody('Not Found', 'error-not-found')],
  'an error with additional properties': [
    failure('No such tenant', { statusCode: 404, stack: SECRET, validation: [SECRET], headers: { 'x-secret': SECRET }, success: true }),
    404, errorBody('No such tenant', 'error-not-found')
  ]
}

for (const [name, [thrown, status, expected]] of Object.entries(foreign)) {
  t.test(`${name} thrown by a hook of the host gets a ${status} reply in the error format`, async t => {
    const reply = await call(await buildThrowing(t, thrown))
    t.strictSame([reply.statusCode, reply.body], [status, expected])
    t.equal(reply.headers['content-type'], 'application/json; charset=utf-8')
    t.notMatch(JSON.stringify(reply.headers), SECRET)
  })
}

t.test('an error from any hook of the host is in the error format', async t => {
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
    t.strictSame([statusCode, body], [404, errorBody('No such tenant', 'error-not-found')], name)
  }
})

t.test('an onSend hook of the host that always throws does not reveal its error in the reply, which is private', async t => {
  const onSend = async () => { throw new Error(SECRET) }
  const apps: Record<string, FastifyInstance> = {
    'of the server': await buildAfter(t, app => app.addHook('onSend', onSend)),
    'of the route': await build(t, { route: { onSend } })
  }
  for (const [name, app] of Object.entries(apps)) {
    for (const [headers, expected] of [[caller, [500, INTERNAL]], [{}, [401, errorBody('Unauthorized', 'error-unauthorized')]]] as const) {
      const reply = await app.inject({ url: URL, headers })
      t.strictSame([reply.statusCode, reply.body], expected, name)
      t.match(reply.headers, { 'cache-control': 'private, no-cache', vary: 'X-User-Id, X-Auth-Token', 'x-content-type-options': 'nosniff' }, name)
    }
  }
})

t.test('an error without a status gets the status that the reply has, without its message, which is logged', async t => {
  const rows = [[400, 400, errorBody('Bad Request', 'error-bad-request')], [502, 500, INTERNAL], [201, 500, INTERNAL]] as const
  for (const [status, sent, expected] of rows) {
    const log = captureLog()
    const app = await buildAfter(t, app => app.addHook('onRequest', async (_request, reply) => {
      reply.code(status)
      throw failure(SECRET, { code: SECRET })
    }), log.server)
    const { statusCode, body } = await call(app)
    t.strictSame([statusCode, body], [sent, expected], String(status))
    t.match(log.records().find(({ msg }) => String(msg).includes('[error-')), { err: { message: SECRET } })
  }
})

t.test('a plain object that a hook throws is logged, since its message is not sent', async t => {
  const log = captureLog()
  const { statusCode, body } = await call(await buildAfter(t, app => {
    app.addHook('onRequest', () => Promise.reject(Object.assign(Object.create(null), { statusCode: 409, message: SECRET })))
  }, log.server))
  t.strictSame([statusCode, body], [409, errorBody('Conflict', 'error-conflict')])
  t.match(log.records().find(({ msg }) => msg === 'Conflict [error-conflict]'), { err: { statusCode: 409, message: SECRET } })
})

t.test('a failure in an auth function of the host does not reveal its error in the reply', async t => {
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  await app.register(auth)
  await app.register(async instance => {
    const route = { preHandler: instance.auth([async () => { throw failure(SECRET, { code: 'ECONNREFUSED' }) }]) }
    await instance.register(importFileData, { prefix: '/api/v1', ...optionsOf({ route }) })
  })
  const { statusCode, body } = await call(app)
  t.strictSame([statusCode, body], [401, errorBody('Unauthorized', 'error-unauthorized')])
})

t.test('a 429 of @fastify/rate-limit stays one when the host builds its own response', async t => {
  const errorResponseBuilder = () => ({ statusCode: 429, error: 'Slow down' })
  const app = await buildAfter(t, app => app.register(rateLimit, { max: 1, timeWindow: 7000, errorResponseBuilder }))
  await call(app)
  const { statusCode, headers, body } = await call(app)
  t.strictSame([statusCode, body], [429, tooMany(Number(headers['retry-after']))])
})

t.test('the message of a 429 has the seconds of its Retry-After, or of the default window if that is not a number of seconds', async t => {
  for (const [retryAfter, seconds] of [['90', 90], ['1.5', 2], ['', 60], ['soon', 60], ['Wed, 21 Oct 2026 07:28:00 GMT', 60]] as const) {
    const app = await buildAfter(t, app => app.addHook('onRequest', async (_request, reply) => {
      reply.header('Retry-After', retryAfter)
      throw failure('Slow down', { statusCode: 429 })
    }))
    const { statusCode, headers, body } = await call(app)
    t.strictSame([statusCode, headers['retry-after'], body], [429, retryAfter, tooMany(seconds)])
  }
})

t.test('an error of a hook that runs after a waiting reply was created has neither its Retry-After nor its ETag', async t => {
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

t.test('a 503 without a Retry-After gets one', async t => {
  const { headers } = await call(await buildThrowing(t, failure(SECRET, { statusCode: 503 })))
  t.equal(headers['retry-after'], '5')
})

t.test('after an error of the host before the route, neither the look-up nor the store is called', async t => {
  const { options, calls } = recorded()
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async () => { throw new Error(SECRET) })
  await app.register(importFileData, { prefix: '/api/v1', ...options })
  t.equal((await call(app)).statusCode, 500)
  t.strictSame(calls, [])
})

t.test('a 5xx is logged at the level error with its cause, and a 4xx at the level info, without an Error whose message is sent', async t => {
  for (const [name, [thrown, status, expected]] of Object.entries(foreign)) {
    const log = captureLog()
    await call(await buildThrowing(t, thrown, log.server))
    const { error } = JSON.parse(expected)
    const [record, ...others] = log.records().filter(({ level, msg }) => level > levels.info || msg === error)
    t.strictSame([record?.level, record?.msg, others], [status >= 500 ? levels.error : levels.info, error, []], name)
    if (expected === INTERNAL && thrown instanceof Error) t.match(record?.err, { message: thrown.message, stack: thrown.stack }, name)
    // The reply has the message of an Error already.
    if (status < 500) t.equal(record?.err === undefined, thrown instanceof Error, name)
  }
})

t.test('a value of the wrong kind from a store causes a 500 without Retry-After, and the log names the method', async t => {
  const log = captureLog()
  const reply = await call(await build(t, { store: storeOf({ countMessages: async () => 1.5 }) }, log.server))
  t.strictSame([reply.statusCode, reply.body, reply.headers['retry-after']], [500, INTERNAL, undefined])
  t.match(log.records().find(({ level }) => level === levels.error)?.err, { message: /countMessages/ })
})

t.test('the host\'s error handler is not called for this route, but for the host\'s other routes', async t => {
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

t.test('NODE_ENV=development does not change the replies', async t => {
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

t.test('every documented error has the documented body', async t => {
  const refuse = (properties: Partial<ImportOperation>) => ({ store: storeOf({ latestOperation: async () => operation(properties) }) })
  const rows: Array<[changes: Partial<ImportFileDataOptions>, statusCode: number, body: string]> = [
    [{ lookupUser: () => null }, 401, UNAUTHORIZED],
    [{ hasPermission: () => false }, 403, FORBIDDEN],
    [{ store: storeOf({ latestOperation: async () => null }) }, 400, errorBody('Import Operation Not Found', 'error-operation-not-found')],
    [refuse({ importerKey: 'mine' }), 400, errorBody('The importer (mine) has no import class defined.', 'error-importer-not-defined')],
    [refuse({ importerKey: '%s %d </script>' }), 400,
      errorBody('The importer (%s %d </script>) has no import class defined.', 'error-importer-not-defined')],
    [refuse({ status: 'importer_preparing_users', valid: false }), 400,
      errorBody('Invalid Import Operation', 'error-import-operation-invalid')],
    [refuse({ status: 'importer_import_failed' }), 400,
      errorBody('Failed to process import file. Please check the file format and try again.', 'error-import-file-format-invalid')],
    [{ store: storeOf({ latestOperation: async () => { throw new Error(SECRET) } }) }, 503, UNAVAILABLE]
  ]
  for (const [changes, statusCode, body] of rows) {
    const reply = await call(await build(t, changes))
    t.strictSame([reply.statusCode, reply.body], [statusCode, body])
  }
})

t.test('a reply sent by a hook of the host is not changed', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (_request, reply) => reply.code(503).send({ message: 'maintenance' }))
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf() })
  const reply = await app.inject({ url: URL, headers: caller })
  t.strictSame([reply.statusCode, reply.body], [503, '{"message":"maintenance"}'])
})
