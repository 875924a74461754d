import cors from '@fastify/cors'
import Fastify, { type FastifyInstance, type FastifyPluginOptions, type FastifyServerOptions, type InjectOptions } from 'fastify'
import t, { type Test } from 'tap'
import { importFileData, type StagedUser } from '../lib/index.js'
import { build, call, caller, callerLines, NOTHING_STAGED, operation, optionsOf, recorded, requestText, sendText, storeOf, UNAUTHORIZED, URL } from './fixtures/build.js'

/** A server with the plugin under a test's prefix. */
async function buildUnder (t: Test, prefix: string | undefined, server: FastifyServerOptions = {}): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify(server)
  t.teardown(() => app.close())
  await app.register(importFileData, { ...(prefix !== undefined && { prefix }), ...optionsOf() })
  return app
}

/** The statuses of GET requests of the documented caller, by URL. */
async function statusesOf (app: FastifyInstance, urls: readonly string[]): Promise<Record<string, number>> {
  const statuses: Record<string, number> = {}
  for (const url of urls) statuses[url] = (await app.inject({ url, headers: caller })).statusCode
  return statuses
}

/** More records than fit into one chunk. */
const manyUsers: StagedUser[] = Array.from({ length: 5000 }, (_, number) => ({ importIds: [`U${number}`], username: `user ${number}` }))

t.test('the documented call gets the documented reply', async t => {
  const { statusCode, headers, body } = await call(await build(t))
  t.strictSame([statusCode, headers['content-type'], body], [200, 'application/json; charset=utf-8', NOTHING_STAGED])
})

t.test('I4: under any prefix the route replies at its path only', async t => {
  const rows: Array<[prefix: string | undefined, answers: string]> = [
    [undefined, '/getImportFileData'],
    ['', '/getImportFileData'],
    ['/', '/getImportFileData'],
    ['/api/v1', URL],
    ['/api/v1/', URL],
    ['/:tenant/api', '/acme/api/getImportFileData']
  ]
  const urls = rows.map(([, url]) => url).concat('/api/getImportFileData', '/api/v1', '/')
  for (const [prefix, answers] of rows) {
    const statuses = await statusesOf(await buildUnder(t, prefix), urls)
    t.strictSame(statuses, Object.fromEntries(urls.map(url => [url, url === answers ? 200 : 404])), `prefix ${prefix}`)
  }
})

t.test('I4: inside a plugin of the host the prefixes are combined', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(async (api: FastifyInstance, _options: FastifyPluginOptions) => {
    await api.register(importFileData, { prefix: '/v1', ...optionsOf() })
  }, { prefix: '/api' })
  t.strictSame(await statusesOf(app, [URL, '/v1/getImportFileData']), { [URL]: 200, '/v1/getImportFileData': 404 })
})

t.test('I4: under two prefixes each registration has its own options', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const store = storeOf({ latestOperation: async () => operation({ importerKey: 'csv' }) })
  await app.register(importFileData, { prefix: '/one', ...optionsOf({ store }) })
  await app.register(importFileData, { prefix: '/two', ...optionsOf({ store, importers: { csv: 'another' } }) })
  await app.register(importFileData, { prefix: '/three', ...optionsOf({ store, hasPermission: () => false }) })
  const replies = await Promise.all(['one', 'two', 'three'].map(prefix => call(app, { url: `/${prefix}/getImportFileData` })))
  t.strictSame(replies.map(({ statusCode, body }) => [statusCode, JSON.parse(body).name]), [[200, 'CSV'], [200, 'another'], [403, undefined]])
})

t.test('I4: a second registration with the same prefix fails', async t => {
  const app = await buildUnder(t, '/api/v1')
  await t.rejects(async () => await app.register(importFileData, { prefix: '/api/v1', ...optionsOf() }), { code: 'FST_ERR_DUPLICATED_ROUTE' })
})

t.test('I4: paths with an extra slash, in another case or with an escaped slash are not found', async t => {
  const { options, calls } = recorded()
  const app = await build(t, options)
  const urls = [
    '/api/v1/getImportFileData/',
    '/api/v1//getImportFileData',
    '//api/v1/getImportFileData',
    '/api/v1/getimportfiledata',
    '/API/V1/getImportFileData',
    '/api/v1%2fgetImportFileData',
    '/api/v1/getImportFileData%20',
    '/api/v1/getImportFileData;a=b',
    '/api/v1/getImportFileData.json'
  ]
  t.strictSame(await statusesOf(app, urls), Object.fromEntries(urls.map(url => [url, 404])))
  t.strictSame(calls, [])
})

t.test('I4: a host\'s options to ignore slashes or case apply to this route', async t => {
  const rows = [
    [{ ignoreTrailingSlash: true }, '/api/v1/getImportFileData/'],
    [{ ignoreDuplicateSlashes: true }, '/api//v1//getImportFileData'],
    [{ caseSensitive: false }, '/api/v1/getimportfiledata']
  ] as const
  for (const [routerOptions, url] of rows) {
    const { statusCode, body } = await call(await buildUnder(t, '/api/v1', { routerOptions }), { url })
    t.strictSame([statusCode, body], [200, NOTHING_STAGED], url)
  }
})

t.test('I4: a path with unnecessary escapes, and an absolute URL as sent to proxies, are the same path', async t => {
  const app = await build(t)
  for (const target of ['/api/v1/getImportFileDat%61', `http://localhost${URL}`]) {
    const [reply] = await sendText(app, requestText([...callerLines, 'Connection: close'], { start: `GET ${target} HTTP/1.1` }))
    t.strictSame([reply?.status, reply?.body], [200, NOTHING_STAGED], target)
  }
})

t.test('I5: the query does not change the reply', async t => {
  const store = storeOf({ users: () => [[{ importIds: ['U1'], username: 'ada' }, { importIds: ['U2'] }]], countMessages: async () => 3 })
  const app = await build(t, { store })
  const { body: without } = await call(app)
  const queries = {
    'parameters of older clients': 'importerKey=slack',
    'parameters of other endpoints': 'fields={"users":0}&count=1&offset=1&sort={"username":-1}&query={"users":1}',
    'a repeated key': 'importerKey=slack&importerKey=csv&importerKey[]=api',
    '1,000 keys': Array.from({ length: 1000 }, (_, number) => `key${number}=${number}`).join('&'),
    'invalid percent-encodings': 'a=%zz&%=%&b=%E0%A4%A',
    'names of inherited properties': '__proto__[a]=1&constructor.prototype.a=1&__proto__=1&toString=1',
    'the headers as parameters': 'X-User-Id=bob&X-Auth-Token=other',
    nothing: '',
    'separators only': '&&==&?&'
  }
  for (const [name, query] of Object.entries(queries)) {
    const { statusCode, body } = await call(app, { url: `${URL}?${query}` })
    t.strictSame([statusCode, body], [200, without], name)
  }
})

t.test('I5: credentials in the query are ignored', async t => {
  const { options, calls } = recorded()
  const app = await build(t, options)
  const { statusCode, body } = await app.inject(`${URL}?${new URLSearchParams(caller)}`)
  t.strictSame([statusCode, body], [401, UNAUTHORIZED])
  t.strictSame(calls, [])
})

t.test('I5: an invalid percent-encoding in the path is rejected by the host', async t => {
  const { options, calls } = recorded()
  const { statusCode } = await (await build(t, options)).inject({ url: '/api/v1/getImport%zzFileData', headers: caller })
  t.equal(statusCode, 400)
  t.strictSame(calls, [])
})

const NOT_ALLOWED = '{"success":false,"error":"Method Not Allowed [error-method-not-allowed]","errorType":"error-method-not-allowed"}'

t.test('I6: any method except GET gets a 405 reply with Allow, and neither the look-up nor the store is called', async t => {
  for (const exposeHeadRoutes of [true, false]) {
    const { options, calls } = recorded()
    const app = await build(t, options, { exposeHeadRoutes })
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'HEAD'] as const) {
      const sent: InjectOptions = { method, url: URL, headers: caller, ...(method.startsWith('P') && { payload: { importerKey: 'slack' } }) }
      const { statusCode, headers, body } = await app.inject(sent)
      t.strictSame([statusCode, headers.allow, body], [405, 'GET', method === 'HEAD' ? '' : NOT_ALLOWED], method)
    }
    t.strictSame(calls, [])
  }
})

t.test('I6: a POST gets a 405 reply with any body', async t => {
  const app = await build(t)
  for (const type of ['application/json', 'text/csv', 'no type at all']) {
    const { statusCode, body } = await app.inject({ method: 'POST', url: URL, headers: { 'content-type': type }, payload: '{"half' })
    t.strictSame([statusCode, body], [405, NOT_ALLOWED], type)
  }
})

t.test('I6: OPTIONS gets a reply with Allow, and neither the look-up nor the store is called', async t => {
  const { options, calls } = recorded()
  const { statusCode, headers, body } = await (await build(t, options)).inject({ method: 'OPTIONS', url: URL })
  t.strictSame([statusCode, headers.allow, body], [204, 'GET', ''])
  t.strictSame(calls, [])
})

t.test('I4: a trailing slash and any path below get a 404 reply in the error format, for every method', async t => {
  const { options, calls } = recorded()
  const app = await build(t, options)
  for (const method of ['GET', 'POST', 'OPTIONS'] as const) {
    for (const url of [`${URL}/`, `${URL}/more`]) {
      const { statusCode, body } = await app.inject({ method, url, headers: caller })
      t.strictSame([statusCode, body], [404, '{"success":false,"error":"Not Found [error-not-found]","errorType":"error-not-found"}'], url)
    }
  }
  t.strictSame(calls, [])
})

t.test('I6: TRACE, an unknown method and a lower-case method are rejected, and the reply does not contain the headers', async t => {
  const { options, calls } = recorded()
  const app = await build(t, options)
  for (const [method, status] of [['TRACE', 405], ['BREW', 400], ['get', 400]] as const) {
    const [reply] = await sendText(app, requestText([...callerLines, 'Connection: close'], { start: `${method} ${URL} HTTP/1.1` }))
    t.equal(reply?.status, status, method)
    t.notMatch(reply?.body, caller['x-auth-token'])
  }
  t.strictSame(calls, [])
})

t.test('I6: the host\'s CORS plugin replies to a preflight, and neither the look-up nor the store is called', async t => {
  const { options, calls } = recorded()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cors, { origin: 'https://chat.example' })
  await app.register(importFileData, { prefix: '/api/v1', ...options })
  const reply = await app.inject({
    method: 'OPTIONS',
    url: URL,
    headers: {
      origin: 'https://chat.example',
      'access-control-request-method': 'GET',
      'access-control-request-headers': 'x-user-id, x-auth-token'
    }
  })
  t.strictSame([reply.statusCode, reply.body], [204, ''])
  t.equal(reply.headers['access-control-allow-headers'], 'x-user-id, x-auth-token')
  t.strictSame(calls, [])
})

t.test('I6: a preflight that the host\'s CORS plugin passes to the route succeeds', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cors, { origin: 'https://chat.example', preflightContinue: true })
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf() })
  const { statusCode, headers } = await app.inject({
    method: 'OPTIONS', url: URL, headers: { origin: 'https://chat.example', 'access-control-request-method': 'GET' }
  })
  t.strictSame([statusCode, headers['access-control-allow-origin']], [204, 'https://chat.example'])
})

t.test('I7: the body of a GET is ignored, and the next call on the connection gets its reply', async t => {
  const app = await build(t)
  app.addContentTypeParser('*', () => { throw new Error('the body must not be read') })
  const bodies = {
    JSON: ['Content-Type: application/json', '{"fields":'],
    'a form': ['Content-Type: application/x-www-form-urlencoded', 'importerKey=slack'],
    'no type at all': ['X-Nothing: nothing', '\0\0\0\0']
  } as const
  for (const [name, [type, body]] of Object.entries(bodies)) {
    const replies = await sendText(app,
      requestText([...callerLines, type, `Content-Length: ${body.length}`], { body }) + requestText([...callerLines, 'Connection: close']))
    t.strictSame(replies.map(({ status, body }) => [status, body]), [[200, NOTHING_STAGED], [200, NOTHING_STAGED]], name)
  }
})

t.test('I7: the reply does not wait for an announced body that never arrives', async t => {
  const app = await build(t)
  const [reply] = await sendText(app, requestText([...callerLines, 'Content-Length: 500', 'Connection: close'], { body: '{' }))
  t.strictSame([reply?.status, reply?.body], [200, NOTHING_STAGED])
})

t.test('I7: a request with both Content-Length and Transfer-Encoding, which could smuggle another request, is rejected', async t => {
  const { options, calls } = recorded()
  const app = await build(t, options)
  const hidden = requestText(callerLines)
  const replies = await sendText(app, requestText(
    [...callerLines, 'Transfer-Encoding: chunked', `Content-Length: ${hidden.length + 5}`], { body: `0\r\n\r\n${hidden}` }))
  t.strictSame(replies.map(({ status }) => status), [400])
  t.strictSame(calls, [])
})

t.test('I7: an Expect header is fulfilled or rejected without a delay', async t => {
  const app = await build(t)
  const lines = [...callerLines, 'Content-Length: 5', 'Connection: close']
  const met = await sendText(app, requestText([...lines, 'Expect: 100-continue']))
  t.strictSame(met.map(({ status, body }) => [status, body]), [[100, ''], [200, NOTHING_STAGED]])
  const refused = await sendText(app, requestText([...lines, 'Expect: the-spanish-inquisition']))
  t.strictSame(refused.map(({ status }) => status), [417])
})

t.test('I7: pipelined calls get complete replies, in order', async t => {
  let turn = 0
  const app = await build(t, { store: storeOf({ countMessages: async () => ++turn }) })
  const replies = await sendText(app, requestText(callerLines) + requestText([]) + requestText([...callerLines, 'Connection: close']))
  t.strictSame(replies.map(({ status, body }) => [status, body]), [
    [200, '{"users":[],"channels":[],"message_count":1,"success":true}'],
    [401, UNAUTHORIZED],
    [200, '{"users":[],"channels":[],"message_count":2,"success":true}']
  ])
})

t.test('I7: an HTTP/1.0 client gets a small reply with Content-Length', async t => {
  const app = await build(t)
  const [reply] = await sendText(app, requestText(callerLines, { start: `GET ${URL} HTTP/1.0` }))
  t.strictSame([reply?.status, reply?.body], [200, NOTHING_STAGED])
  t.equal(reply?.headers.get('content-length'), String(NOTHING_STAGED.length))
})

t.test('I8: the reply is the complete JSON, whatever media type, range or encoding a caller asks for', async t => {
  for (const users of [[], [manyUsers]]) {
    const app = await build(t, { store: storeOf({ users: () => users }) })
    const { body: whole } = await call(app)
    const rows = [
      { accept: 'text/html' },
      { accept: 'image/png, */*;q=0' },
      { accept: '' },
      { 'accept-language': 'de', 'accept-charset': 'iso-8859-1' },
      { 'accept-encoding': 'gzip, br' },
      { range: 'bytes=0-9' },
      { range: 'bytes=-1', 'if-range': '"an-etag"' },
      { range: 'users=0-9' }
    ]
    for (const headers of rows) {
      const reply = await call(app, { headers })
      t.strictSame([reply.statusCode, reply.headers['content-type']], [200, 'application/json; charset=utf-8'], JSON.stringify(headers))
      t.equal(reply.body === whole, true, `${whole.length} characters`)
      t.strictSame([reply.headers['content-range'], reply.headers['content-encoding']], [undefined, undefined])
    }
  }
})
