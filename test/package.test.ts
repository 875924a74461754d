import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import ts from 'typescript'
import { buildPackage, manifest, plainEnv } from './fixtures/package.js'

const { name, exports, dependencies, peerDependencies, peerDependenciesMeta } = JSON.parse(manifest)

/** The code of a host, in any kind of module: uses both entry points, and calls the route. */
const host = `
const userId = 'ada', token = 'a-token'
async function answer (plugin) {
  const app = Fastify()
  await app.register(plugin, {
    prefix: '/api/v1',
    ...rocketChatDump({
      users: [{ _id: userId, roles: ['admin'], services: { resume: { loginTokens: [{ hashedToken: hashLoginToken(token) }] } } }],
      rocketchat_permissions: [{ _id: 'run-import', roles: ['admin'] }],
      rocketchat_import: [{ _id: 1, ts: new Date(), status: 'importer_user_selection', importerKey: 'slack', valid: true }],
      rocketchat_import_data: [{ dataType: 'message', data: {} }]
    })
  })
  const { statusCode, body } = await app.inject({ url: '/api/v1/getImportFileData', headers: { 'x-user-id': userId, 'x-auth-token': token } })
  await app.close()
  return statusCode + ' ' + body
}
Promise.all(plugins.map(answer)).then(answers => console.log(JSON.stringify(answers)))
`

const modules = {
  'host.mjs': `
import Fastify from 'fastify'
import importFileData, { importFileData as named } from '${name}'
import { hashLoginToken, rocketChatDump } from '${name}/rocketchat'
const plugins = [importFileData, named]${host}`,
  'host.cjs': `
const Fastify = require('fastify')
const { hashLoginToken, rocketChatDump } = require('${name}/rocketchat')
const plugins = [require('${name}'), require('${name}').default, require('${name}').importFileData]${host}`,
  'inside.mjs': `
import('${name}/dist/route.js').then(() => console.log('"open"'), ({ code }) => console.log(JSON.stringify(code)))`
}

const { folder, built } = buildPackage(t, modules)

/** Runs a module of the host with plain Node.js, without the tests' loaders. Returns what it prints. */
async function run (module: keyof typeof modules): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, [join(folder, module)], { env: plainEnv() })
  return JSON.parse(stdout)
}

const ANSWER = '200 {"name":"Slack","users":[],"channels":[],"message_count":1,"success":true}'

t.test('an ES module can register the default export and the named export', async t => {
  t.strictSame(await run('host.mjs'), [ANSWER, ANSWER])
})

t.test('a CommonJS module can register the required module, its default export and its named export', async t => {
  t.strictSame(await run('host.cjs'), [ANSWER, ANSWER, ANSWER])
})

t.test('only the entry points of the package can be imported', async t => {
  t.strictSame(Object.keys(exports), ['.', './rocketchat', './package.json'])
  t.equal(await run('inside.mjs'), 'ERR_PACKAGE_PATH_NOT_EXPORTED')
})

t.test('every file in package.json is built', async t => {
  const { main, types, exports: { '.': plugin, './rocketchat': rocketchat } } = JSON.parse(manifest)
  for (const path of [main, types, ...Object.values(plugin), ...Object.values(rocketchat)]) t.ok(existsSync(join(folder, path)), path)
})

/** The modules that a built file imports in any way, except those of the package. */
function importsOf (path: string): string[] {
  const { importedFiles, typeReferenceDirectives } = ts.preProcessFile(readFileSync(path, 'utf8'), true, true)
  return [...importedFiles, ...typeReferenceDirectives].map(({ fileName }) => fileName).filter(fileName => !fileName.startsWith('.'))
}

/** The name of an imported module's package. */
const packageOf = (module: string) => module.split('/').slice(0, module.startsWith('@') ? 2 : 1).join('/')

t.test('the types need neither MongoDB\'s driver nor @fastify/auth, and the code does not need the driver', async t => {
  const files = (ending: string) => new Set(built.filter(path => path.endsWith(ending)).flatMap(importsOf).map(packageOf))
  const types = files('.d.ts')
  const code = files('.js')
  t.ok(types.has('fastify') && code.has('@fastify/auth'), 'imports are found')
  for (const module of ['mongodb', 'bson', '@fastify/auth']) t.notOk(types.has(module), module)
  for (const module of ['mongodb', 'bson']) t.notOk(code.has(module), module)
})

t.test('every import is a built-in module of Node.js or a dependency of the package', async t => {
  const optional = Object.keys(peerDependenciesMeta).filter(peer => peerDependenciesMeta[peer].optional)
  const installed = new Set(Object.keys({ ...dependencies, ...peerDependencies }).filter(peer => !optional.includes(peer)))
  const imported = built.filter(path => /\.(js|d\.ts)$/.test(path)).flatMap(importsOf)
  t.strictSame(imported.filter(module => !isBuiltin(module) && !installed.has(packageOf(module))), [])
})
