import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import rateLimit from '@fastify/rate-limit'
import { Validator } from '@seriousme/openapi-schema-validator'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { Value } from 'typebox/value'
import { apiReference } from '../examples/api-reference.js'
import { buildServer } from '../examples/server.js'
import { readSettings } from '../examples/settings.js'
import { type ImportFileDataOptions, importFileData } from '../lib/index.js'
import { URL, caller, matchEach, operation, optionsOf, storeOf } from './fixtures/build.js'

/** The parts of an OpenAPI document that the tests read. */
interface Document {
  openapi: string
  info: { title: string, version: string, description: string }
  components: { securitySchemes: Record<string, { type: string, in: string, name: string }> }
  servers: Array<{ url: string }>
  tags: Array<{ name: string, description: string }>
  paths: Record<string, Record<string, Operation>>
}

interface Operation {
  operationId: string
  tags: string[]
  parameters: Array<{ name: string, in: string, required: boolean }>
  security: Array<Record<string, string[]>>
  responses: Record<string, Response>
}

interface Response {
  description: string
  headers: Record<string, { schema: { type: string, examples?: unknown[] } }>
  content?: Record<string, { schema: object, example?: unknown, examples?: Record<string, { value: unknown }> }>
}

/** A server with the reference and the route. `register` is called between the two. */
async function build (
  t: Test,
  changes: Partial<ImportFileDataOptions> = {},
  register: (app: FastifyInstance) => void = () => {}
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(apiReference)
  register(app)
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf(changes) })
  return app
}

/** The problems that `redocly lint` finds in a document, with its recommended rules. */
async function lint (t: Test, document: string): Promise<object[]> {
  const file = join(t.testdir({ 'openapi.json': document }), 'openapi.json')
  const cli = join(dirname(createRequire(import.meta.url).resolve('@redocly/cli/package.json')), 'bin/cli.js')
  const env = { ...process.env, REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' }
  // Its exit code is 1 if it finds an error. The report has the error, too.
  const report = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, [cli, 'lint', file, '--format=json'], { env, cwd: dirname(file) }, (failure, stdout) =>
      stdout === '' ? reject(failure ?? new Error('No report')) : resolve(stdout))
  })
  return JSON.parse(report).problems
}

async function documentOf (app: FastifyInstance): Promise<Document> {
  const reply = await app.inject('/docs/json')
  return reply.json()
}

async function operationOf (app: FastifyInstance): Promise<Operation> {
  const operation = (await documentOf(app)).paths[URL]?.['get']
  if (operation === undefined) throw new Error('The route is not documented')
  return operation
}

t.test('the OpenAPI document is valid', async t => {
  const app = await build(t)
  t.match(await new Validator().validate({ ...await documentOf(app) }), { valid: true })
})

t.test('redocly lint finds nothing in the OpenAPI document of the import server', async t => {
  const app = await buildServer(readSettings({ LOG_LEVEL: 'silent' }))
  t.teardown(() => app.close())
  const { body } = await app.inject('/docs/json')
  t.strictSame(await lint(t, body), [])
  t.match(await lint(t, body.replace('"servers"', '"x-servers"')), [{ ruleId: 'no-empty-servers' }], 'problems are found')
})

t.test('the document has the server and a description of the operation\'s tag', async t => {
  const app = await build(t)
  const { servers, tags } = await documentOf(app)
  matchEach(t, servers, [{ url: '/' }])
  matchEach(t, tags, [{ name: 'import', description: /Rocket\.Chat/ }])
  t.match(await operationOf(app), { operationId: 'getImportFileData', tags: ['import'] })
})

t.test('a route\'s own tag and operation id are kept', async t => {
  const app = await build(t, {}, app => {
    app.addHook('onRoute', route => {
      if (route.url === URL) route.schema = { ...route.schema, tags: ['own'], operationId: 'own' }
    })
  })
  t.match(await operationOf(app), { operationId: 'own', tags: ['own'] })
})

t.test('the description links to the page', async t => {
  t.match((await documentOf(await build(t))).info.description, '[The page](/)')
})

t.test('the document has a title, a description and the package\'s version', async t => {
  const { openapi, info } = await documentOf(await build(t))
  t.equal(openapi, '3.1.0')
  t.match(info, { title: 'Import file data', version: /^\d+\.\d+\.\d+/, description: /Retry-After/ })
})

t.test('the document has the route under any prefix, and not the routes of the reference', async t => {
  const app = await build(t)
  await app.register(importFileData, { prefix: '/elsewhere', ...optionsOf() })
  t.strictSame(Object.keys((await documentOf(app)).paths), [URL, '/elsewhere/getImportFileData'])
})

t.test('the two credential headers are security schemes, and both are required', async t => {
  const app = await build(t)
  const { securitySchemes } = (await documentOf(app)).components
  const { security } = await operationOf(app)
  t.equal(security.length, 1)
  const needed = Object.keys(security[0] ?? {}).map(name => securitySchemes[name])
  matchEach(t, needed, [{ type: 'apiKey', in: 'header', name: 'X-User-Id' }, { type: 'apiKey', in: 'header', name: 'X-Auth-Token' }])
})

t.test('If-None-Match is the only parameter, and is optional', async t => {
  const { parameters } = await operationOf(await build(t))
  matchEach(t, parameters, [{ in: 'header', name: 'If-None-Match', required: false }])
})

t.test('every reply has a description, and an example of each kind that matches its schema', async t => {
  const { responses } = await operationOf(await build(t))
  t.strictSame(Object.keys(responses).sort(), ['200', '304', '400', '401', '403', '429', '4XX', '500', '503'])
  for (const [status, { description, content }] of Object.entries(responses)) {
    t.not(description, 'Default Response', status)
    if (status === '304') {
      t.equal(content, undefined, 'a 304 has no content')
      continue
    }
    const { schema = {}, example, examples = {} } = content?.['application/json'] ?? {}
    const values = [...Object.values(examples).map(({ value }) => value), ...(example === undefined ? [] : [example])]
    t.ok(values.length >= (status === '200' ? 2 : 1), `${status}: ${values.length} examples`)
    for (const value of values) t.ok(Value.Check(schema, value), `${status}: ${JSON.stringify(value)}`)
    t.notOk(Value.Check(schema, { success: true, error: 5 }), `${status} has a restrictive schema`)
  }
})

t.test('the examples of all reply headers match their schemas', async t => {
  const { responses } = await operationOf(await build(t))
  for (const [status, { headers }] of Object.entries(responses)) {
    for (const [name, { schema }] of Object.entries(headers)) {
      t.ok(schema.examples?.every(example => Value.Check(schema, example)), `${status} ${name}`)
    }
  }
})

t.test('C4: a reply of each status matches the document', async t => {
  const updatedAt = new Date()
  const ready = storeOf({
    latestOperation: async () => operation({ updatedAt, importerKey: 'slack' }),
    users: () => [[{ importIds: ['U1'], username: 'ada', emails: ['ada@example.com'], type: 'bot' }]],
    channels: () => [[{ importIds: ['C1'], t: 'p' }, { importIds: ['D1'], t: 'd' }]],
    contacts: () => [[{ importIds: ['c-1'] }]]
  })
  const waiting = storeOf({
    latestOperation: async () => operation({
      status: 'importer_preparing_users', updatedAt: new Date(0), reading: 'users.json', count: { total: 1, users: 1 }
    })
  })
  const refused = Object.assign(new Error('I am a teapot'), { statusCode: 418 })
  const lives: Array<[status: number, options: Partial<ImportFileDataOptions>, register?: (app: FastifyInstance) => void]> = [
    [200, { store: ready }],
    [200, { store: waiting }],
    [304, { store: ready }],
    [304, { store: waiting }],
    [400, { store: storeOf({ latestOperation: async () => null }) }],
    [400, { store: storeOf({ latestOperation: async () => operation({ status: 'importer_import_failed' }) }) }],
    [401, { lookupUser: () => null }],
    [403, { hasPermission: () => false }],
    [429, {}, app => { app.register(rateLimit, { max: 0 }) }],
    [500, {}, app => { app.addHook('preHandler', async () => { throw new Error('a fault') }) }],
    [503, { store: storeOf({ latestOperation: async () => { throw new Error('down') } }) }],
    [418, { lookupUser: () => { throw refused } }]
  ]
  const { responses } = await operationOf(await build(t))
  for (const [status, options, register] of lives) {
    const app = await build(t, options, register)
    const headers = { ...caller, ...(status === 304 && { 'if-none-match': '*' }) }
    const reply = await app.inject({ url: URL, headers })
    t.equal(reply.statusCode, status)

    const { headers: documented = {}, content = {} } = responses[status] ?? responses['4XX'] ?? {}
    const { schema = undefined } = content['application/json'] ?? {}
    if (schema === undefined) t.equal(reply.body, '')
    else t.ok(Value.Check(schema, reply.json()), `${status}: ${reply.body}`)
    for (const name of ['cache-control', 'vary', 'etag', 'retry-after']) {
      const value = reply.headers[name]
      if (value === undefined) continue
      const { schema = undefined } = Object.entries(documented).find(([title]) => title.toLowerCase() === name)?.[1] ?? {}
      t.ok(schema && Value.Check(schema, schema.type === 'integer' ? Number(value) : value), `${status} ${name}: ${value}`)
    }
  }
})

t.test('the reference does not change the replies of the route', async t => {
  const withReference = await (await build(t)).inject({ url: URL, headers: caller })
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(importFileData, { prefix: '/api/v1', ...optionsOf() })
  const without = await app.inject({ url: URL, headers: caller })
  t.equal(withReference.body, without.body)
  t.strictSame(Object.keys(withReference.headers), Object.keys(without.headers))
})

t.test('the reference is served as a page, as JSON and as YAML', async t => {
  const app = await build(t)
  const page = await app.inject('/docs/')
  t.equal(page.statusCode, 200)
  t.match(page.headers['content-type'], 'text/html')
  t.match(page.headers['content-security-policy'], "default-src 'self'")
  t.notMatch(page.headers['content-security-policy'], 'upgrade-insecure-requests', 'it works by http at any address')
  t.equal((await app.inject('/docs')).statusCode, 200)
  const yaml = await app.inject('/docs/yaml')
  t.equal(yaml.statusCode, 200)
  t.match(yaml.body, 'openapi: 3.1.0')
})
