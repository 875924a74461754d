import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import { usage } from '../examples/settings.js'
import { deployed, program } from './fixtures/reverse-proxy.js'

// The proxies' files are tested in reverse-proxy.test.ts, and the Dockerfile by .ci/image.js.

/** Runs deploy/mongo-role.js as mongosh does, on a server with these roles and users. Returns the commands that change the server. */
function runRole (known: readonly string[], env: Record<string, string> = {}) {
  const commands: unknown[][] = []
  const database = {
    getRole: (name: string) => known.includes(name) ? { role: name } : null,
    getUser: (name: string) => known.includes(name) ? { user: name } : null,
    createRole: (role: object) => { commands.push(['createRole', role]) },
    updateRole: (name: string, role: object) => { commands.push(['updateRole', name, role]) },
    createUser: (user: object) => { commands.push(['createUser', user]) }
  }
  const db = { getSiblingDB: (name: string) => name === 'admin' ? database : undefined }
  runInNewContext(deployed('mongo-role.js', {}), { db, print: () => {}, passwordPrompt: () => 'typed', process: { env } })
  const copy: unknown = JSON.parse(JSON.stringify(commands))
  return copy
}

const privilegesOn = (db: string) => ['users', 'rocketchat_permissions', 'rocketchat_import', 'rocketchat_import_data']
  .map(collection => ({ resource: { db, collection }, actions: ['find', 'listIndexes'] }))

t.test('mongo-role.js creates a user who may only read the four collections', async t => {
  t.strictSame(runRole([]), [
    ['createRole', { role: 'importReader', privileges: privilegesOn('rocketchat'), roles: [] }],
    ['createUser', { user: 'importreader', pwd: 'typed', roles: ['importReader'] }]
  ])
})

t.test('mongo-role.js takes the database and the password from the environment', async t => {
  t.strictSame(runRole([], { IMPORT_DATABASE: 'chat', IMPORT_PASSWORD: 'given' }), [
    ['createRole', { role: 'importReader', privileges: privilegesOn('chat'), roles: [] }],
    ['createUser', { user: 'importreader', pwd: 'given', roles: ['importReader'] }]
  ])
})

t.test('mongo-role.js updates an existing role, and does not change an existing user', async t => {
  t.strictSame(runRole(['importReader', 'importreader']), [
    ['updateRole', 'importReader', { privileges: privilegesOn('rocketchat'), roles: [] }]
  ])
})

const analyze = program('systemd-analyze')

/** The path of a copy of the systemd unit with the current Node.js. */
function unit (t: Test): string {
  const content = deployed('import-file-data.service', { '/usr/bin/node': process.execPath })
  return join(t.testdir({ 'import-file-data.service': content }), 'import-file-data.service')
}

t.test('the systemd unit is valid', { skip: analyze.missing }, async t => {
  const { stdout, stderr } = await promisify(execFile)(analyze.path, ['verify', unit(t)])
  // It also reports problems of the machine's own units.
  t.notMatch(stdout + stderr, 'import-file-data')
})

t.test('the systemd unit is hardened', { skip: analyze.missing }, async t => {
  // Fails if the exposure (from 0 for none to 100) is above the threshold.
  await t.resolves(promisify(execFile)(analyze.path, ['security', '--offline=true', '--threshold=15', '--no-pager', unit(t)]))
})

t.test('compose.yaml makes the container read-only, unprivileged, and reachable from this machine only', async t => {
  const text = deployed('compose.yaml', {})
  for (const line of ['read_only: true', 'cap_drop: [ALL]', 'security_opt: ["no-new-privileges:true"]']) t.match(text, `\n    ${line}\n`)
  t.match(text, /ports:\n(?: +#.*\n)* +- "127\.0\.0\.1:.*:3000"\n/)
})

t.test('compose.yaml passes every setting to the server, except those that the container itself has', async t => {
  const names = [...usage().matchAll(/^ {2}([A-Z_]+) /gm)].map(([, name = '']) => name)
  const passed = [...deployed('compose.yaml', {}).matchAll(/^ {6}([A-Z_]+): "?\$\{\1:/gm)].map(([, name]) => name)
  t.strictSame(passed.sort(), names.filter(name => !['HOST', 'PORT', 'DATA_DIR'].includes(name)).sort())
})

t.test('every file of deploy/ is documented', async t => {
  const docs = readFileSync(fileURLToPath(new URL('../docs/rocket-chat.md', import.meta.url)), 'utf8')
  for (const name of ['nginx.conf', 'haproxy.cfg', 'traefik.yml', 'Dockerfile', 'compose.yaml', 'import-file-data.service', 'mongo-role.js']) {
    t.match(docs, `deploy/${name}`)
  }
})
