import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { promisify } from 'node:util'
import Fastify from 'fastify'
import { MongoClient } from 'mongodb'
import t, { type Test } from 'tap'
import { demoImport } from '../examples/demo-import.js'
import { loadDump } from '../examples/load-dump.js'
import { buildServer } from '../examples/server.js'
import { SAMPLE_CREDENTIALS, SAMPLE_IMPORT, readSettings, usage } from '../examples/settings.js'
import type { Selection, Waiting } from '../lib/index.js'
import { URL as PATH, build, call, caller, checkAgainstSchema, operation, optionsOf, storeOf } from './fixtures/build.js'
import { documents } from './fixtures/documents.js'
import { messagesIn } from './fixtures/messages.js'
import { startMongo } from './fixtures/mongodb.js'
import { buildPackage, compile, manifest, plainEnv, root } from './fixtures/package.js'
import { deployed, freePort, program } from './fixtures/reverse-proxy.js'
import { cursorOf, startScriptedMongo } from './fixtures/scripted-mongo.js'

// Runs every block of code in the documentation, as the table `blocks` says, and compares the documentation with what it describes.

const pages = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...readdirSync(join(root, 'docs')).filter(name => name.endsWith('.md')).map(name => `docs/${name}`)]
const textOf = (page: string) => readFileSync(join(root, page), 'utf8')

/** A block of code in a page. */
interface Block {
  page: string
  language: string
  text: string
  /** By what it is found: its text in one line. */
  line: string
}

const found: Block[] = pages.flatMap(page => [...textOf(page).matchAll(/^( *)```(\w*)\n([^]*?)^ *```$/gm)].map(([, indent = '', language = '', code = '']) => {
  const text = code.replaceAll(new RegExp(`^${indent}`, 'gm'), '')
  return { page, language, text, line: text.replace(/\s+/g, ' ') }
}))

/** The block of a page that begins so. */
function blockOf (page: string, beginning: string): Block {
  const block = found.find(block => block.page === page && block.line.startsWith(beginning))
  if (block === undefined) throw new Error(`no block in ${page} begins with ${beginning}`)
  return block
}

/** How a block is tested: by running it, together with another block, or not at all, with the reason. */
type How =
  | { run: (t: Test, block: Block) => unknown, skip?: string | false }
  | { with: string }
  | { notRun: string }

/** Why a program's block cannot run here, or false. Not even CI needs all of them. */
function needs (...names: string[]): string | false {
  const missing = names.find(name => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0)
  return missing === undefined ? false : `${missing} is not installed`
}

// Servers that blocks talk to, and the package that they import.

const sample = await buildServer(readSettings({ LOG_LEVEL: 'silent' }), new PassThrough())
t.after(() => sample.close())
const sampleUrl = await sample.listen({ host: '127.0.0.1', port: 0 })
// tap ends a file when nothing is left to be done.
sample.server.unref()
const sampleReply = (await call(sample)).body

const mongo = await startMongo(t)

/** The blocks of embedding.md that have a name are files of one folder, as a reader has them, with the built package. */
const { folder } = buildPackage(t, Object.fromEntries(found.filter(({ page }) => page === 'docs/embedding.md')
  .map(({ text }) => [text.match(/^(?:\/\/|--) (\S+)\n/)?.[1] ?? '', text]).filter(([name]) => name)))

/** Ends a program with everything that it has started. */
function end ({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

/** Starts a program that serves until the test ends. Returns the URL that its log says. */
async function serve (t: Test, [command = '', ...args]: string[], { cwd = root, env = {} }: { cwd?: string, env?: NodeJS.ProcessEnv } = {}): Promise<string> {
  const child = spawn(command, args, { cwd, env: plainEnv({ PORT: '0', ...env }), stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  t.teardown(() => end(child))
  let written = ''
  return new Promise((resolve, reject) => {
    const take = (chunk: Buffer) => {
      written += chunk
      const url = written.match(/Server listening at (http:[^"\s]+)/)?.[1]
      if (url !== undefined) resolve(url)
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.on('exit', () => { reject(new Error(written)) })
  })
}

/** Runs a program to its end. */
async function output ([command = '', ...args]: string[], { cwd = root, env = {} }: { cwd?: string, env?: NodeJS.ProcessEnv } = {}) {
  return promisify(execFile)(command, args, { cwd, env: plainEnv(env) }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    failure => ({ code: Number(failure.code), stdout: String(failure.stdout), stderr: String(failure.stderr) }))
}

/** A text with another in place of a part that has to be there. */
function replaced (text: string, ...changes: Array<[from: string, to: string]>): string {
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`there is no ${from} in ${text}`)
    text = text.replaceAll(from, to)
  }
  return text
}

// How blocks are run.

/** A command that starts the import server, without what it installs: the server replies. */
const startsServer = (...changes: Array<[from: string, to: string]>): How => ({
  async run (t, { text }) {
    const url = await serve(t, ['sh', '-c', replaced(text, ...changes)])
    t.equal((await fetch(`${url}/health`)).status, 200)
  }
})

/** A host of the plugin, as a file: the reply to its caller. */
async function replyOfHost (t: Test, file: string, headers: Record<string, string>, env?: NodeJS.ProcessEnv): Promise<unknown> {
  const url = await serve(t, [process.execPath, join(folder, file)], { cwd: folder, ...(env && { env }) })
  const reply = await fetch(url + PATH, { headers })
  t.equal(reply.status, 200)
  return reply.json()
}

/** JSON that is the reply to the caller of a server with these options. */
const isReplyOf = (changes: Parameters<typeof build>[1], headers: Record<string, undefined> = {}): How => ({
  async run (t, { text }) {
    const { body } = await call(await build(t, changes), { headers })
    t.equal(body, text.trim())
  }
})

/** A program of clients.md that makes one call: it prints the reply. */
const asks = (file: string, command: string[], skip: string | false = false): How => ({
  skip: skip || needs(command[0] ?? ''),
  async run (t, { text }) {
    const cwd = t.testdir({ [file]: text })
    const { stdout } = await output([...command, file], { cwd, env: { SERVER_URL: sampleUrl } })
    t.equal(stdout.trim(), sampleReply)
  }
})

/** A program of clients.md that polls: it waits, and reports an error and a broken reply. */
const polls = (file: string, command: string[], skip: string | false = false): How => ({
  skip: skip || needs(command[0] ?? ''),
  async run (t, { text }) {
    const cwd = t.testdir({ [file]: text })
    const ask = (SERVER_URL: string, AUTH_TOKEN: string) => output([...command, file], { cwd, env: { SERVER_URL, AUTH_TOKEN } })
    const [url, broken] = [await startProgress(t), await startBroken(t)]
    const results = await Promise.all([ask(url, caller['x-auth-token']), ask(url, 'wrong'), ask(broken, caller['x-auth-token'])])
    t.match(results, [
      { code: 0, stdout: 'importer_preparing_users: 12083 total, 21 users\nnothing new\n1 users, 1 channels, 5 messages\n' },
      { code: 1, stdout: '', stderr: /^unauthorized\n$/ },
      { code: 1, stdout: '', stderr: /^(curl: .*\n)?No complete reply/ }
    ])
  }
})

/** A server with an import that is prepared after the caller's second call. */
async function startProgress (t: Test): Promise<string> {
  let calls = 0
  const updatedAt = new Date()
  const app = await build(t, {
    store: storeOf({
      latestOperation: async () => operation(calls++ < 2 ? { status: 'importer_preparing_users', count: { total: 12083, users: 21 }, updatedAt } : {}),
      users: () => [[{ importIds: ['1'] }]],
      channels: () => [[{ importIds: ['1'], t: 'c' }]],
      countMessages: async () => 5
    })
  })
  return app.listen({ host: '127.0.0.1', port: 0 })
}

/** A server that aborts each reply. */
async function startBroken (t: Test): Promise<string> {
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  app.get(PATH, (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'Content-Type': 'application/json' })
    reply.raw.write('{"users":[')
    setImmediate(() => reply.raw.destroy())
  })
  return app.listen({ host: '127.0.0.1', port: 0 })
}

/** A file of settings: every variable is one of the server, or of compose.yaml. */
const isSettings = (also = ''): How => ({
  run (t, { text }) {
    const env = Object.fromEntries(text.trim().split('\n').map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
    for (const name of Object.keys(env)) t.ok(usage().includes(`\n  ${name} `) || also.includes(`\${${name}:`), name)
    t.doesNotThrow(() => readSettings(env))
    t.doesNotThrow(() => new MongoClient(env.MONGODB_URL ?? ''))
  }
})

const gson = join(homedir(), '.m2/repository/com/google/code/gson/gson/2.13.1/gson-2.13.1.jar')
const needsGson = existsSync(gson) ? false : 'Gson is not there: `mvn dependency:get -Dartifact=com.google.code.gson:gson:2.13.1` fetches it'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const needsSqlite = major > 22 || (major === 22 && minor >= 18) ? false : 'this Node.js has no node:sqlite, or does not run TypeScript'

const CALL_OF_SAMPLE: How = {
  skip: needs('curl'),
  async run (t, { text }) {
    const { stdout } = await output(['sh', '-c', replaced(text, ['http://localhost:3000', sampleUrl])])
    t.equal(stdout, sampleReply)
  }
}

/** The reply of the server in the README. */
const REPLY_OF_README = {
  name: 'CSV',
  users: [{ user_id: '1', username: 'grace', email: 'grace@example.com', is_deleted: false, is_bot: false, do_import: true, is_email_taken: false }],
  channels: [{ channel_id: 'c1', name: 'general', is_archived: false, do_import: true, is_private: false, is_direct: false }],
  message_count: 0,
  success: true
}

/** A database in which one index is missing, for the check that rocket-chat.md shows. */
const startCheckedMongo = (t: Test) => startScriptedMongo(t, (command, request) => {
  const privileges = ['users', 'rocketchat_import'].map(collection => ({ resource: { db: 'rocketchat', collection }, actions: ['find'] }))
  switch (command) {
    case 'buildInfo': return { version: '7.0.5' }
    case 'connectionStatus': return { authInfo: { authenticatedUsers: [{ user: 'importreader' }], authenticatedUserPrivileges: privileges } }
    case 'count': return { n: 1204 }
    case 'listIndexes': return cursorOf({ v: 2, key: request.listIndexes === 'rocketchat_import' ? { ts: -1 } : { _id: 1 } })
    case 'find': return cursorOf({ _id: '1', roles: ['admin'] })
    default: return undefined
  }
})

/** Every block: its page, how it begins, and how it is tested. */
const blocks: Record<string, Record<string, How>> = {
  'README.md': {
    'npm ci && npm start': startsServer(['npm ci && npm start ', 'npm start '], ['npm ci && npm test ', ': ']),
    'curl -H \'X-User-Id: d26x': CALL_OF_SAMPLE,
    '{ "name": "Slack"': {
      run (t, { text }) {
        const [shown, reply]: Selection[] = [JSON.parse(text), JSON.parse(sampleReply)]
        for (const key of ['users', 'channels', 'contacts'] as const) {
          for (const item of shown?.[key] ?? []) t.ok(reply?.[key]?.some(other => JSON.stringify(other) === JSON.stringify(item)), JSON.stringify(item))
        }
        t.strictSame([Object.keys(shown ?? {}), shown?.name, shown?.message_count], [Object.keys(reply ?? {}), reply?.name, reply?.message_count])
      }
    },
    'npm ci && npm pack': {
      // .ci/package runs the same commands.
      run (t, { text }) {
        const { name, version } = JSON.parse(manifest)
        t.match(text, `./${name}-${version}.tgz `)
      }
    },
    '// server.mjs': {
      async run (t, { text }) {
        writeFileSync(join(folder, 'readme.mjs'), replaced(text, ['port: 3000', 'port: 0']))
        t.same(await replyOfHost(t, 'readme.mjs', { 'x-user-id': 'ada', 'x-auth-token': 'secret' }), REPLY_OF_README)
      }
    },
    'curl -H \'X-User-Id: ada': {
      skip: needs('curl'),
      async run (t, { text }) {
        writeFileSync(join(folder, 'called.mjs'), replaced(blockOf('README.md', '// server.mjs').text, ['port: 3000', 'port: 0']))
        const url = await serve(t, [process.execPath, 'called.mjs'], { cwd: folder })
        const { stdout } = await output(['sh', '-c', replaced(text, ['http://localhost:3000', url])])
        t.same(JSON.parse(stdout), REPLY_OF_README)
      }
    },
    'npm ci MONGODB_URL': startsServer(['npm ci\n', ''], ['localhost:27017', '127.0.0.1:1'], ['PORT=3100', 'PORT=0'])
  },
  'CONTRIBUTING.md': {
    'npm ci npm test': { notRun: 'these are the tests themselves, and what .ci/run runs besides' },
    'npx tap': { notRun: 'runs these tests, or draws a picture with a browser' },
    'lib/index.ts ': {
      run (t, { text }) {
        for (const path of text.match(/^\S+/gm) ?? []) t.ok(existsSync(join(root, path)), path)
        for (const name of readdirSync(join(root, 'lib'))) t.match(text, name)
      }
    },
    'RATE_LIMIT=0': {
      skip: needs('schemathesis', 'curl'),
      async run (t, { text }) {
        const { stdout } = await output(['sh', '-c', replaced(text, ['3200', String(await freePort())])])
        t.match(stdout, 'No issues found')
      }
    }
  },
  'docs/embedding.md': {
    '-- tables.sql': { with: 'node --eval' },
    '// sql-store.ts': {
      run: t => { t.strictSame(compile(folder, ['sql-store.ts']), []) }
    },
    '// server.js': { with: 'node --eval' },
    'node --eval': {
      skip: needsSqlite,
      async run (t, { text }) {
        const url = await serve(t, ['sh', '-c', text], { cwd: folder })
        const ask = async () => (await fetch(url + PATH, { headers: { 'x-user-id': 'ada', 'x-auth-token': 'secret' } })).json()
        t.same(await ask(), { ...REPLY_OF_README, users: [{ ...REPLY_OF_README.users[0], user_id: 'U1' }], channels: [] })
        const { DatabaseSync } = await import(`node:${'sqlite'}`)
        const db = new DatabaseSync(join(folder, 'imports.db'))
        db.exec(`
          INSERT INTO imports VALUES (2, 'csv', 'importer_user_selection', 1, '2026-03-02T08:00:00Z');
          WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)
            INSERT INTO staged_users (import_id, source_id, login, email) SELECT 1 + n % 2, 'U' || n, 'user.' || n, nullif('user@example.com', iif(n = 1, 'user@example.com', '')) FROM numbers;
          INSERT INTO staged_channels (import_id, source_id, name, kind) VALUES (1, 'C0', 'old', 'c'), (2, 'C1', 'general', 'p'), (2, 'D1', NULL, 'd');
          INSERT INTO staged_messages (import_id, text) VALUES (1, 'hello'), (2, 'hello'), (2, 'again')`)
        db.close()
        const { users, ...rest } = Object(await ask())
        t.equal(users.length, 1250)
        t.match([users[0], users.at(-1)], [{ user_id: 'U1', email: '' }, { user_id: 'U2499', username: 'user.2499', email: 'user@example.com' }])
        t.match(rest, { name: 'CSV', channels: [{ channel_id: 'C1', is_private: true }, { channel_id: '__directMessages__' }], message_count: 2, success: true })
      }
    },
    '// types.ts': {
      run (t, { text }) {
        const names = text.match(/export type {(.*)}/)?.[1]?.trim().split(', ') ?? []
        t.ok(names.length > 8)
        writeFileSync(join(folder, 'same.ts'), `
          import type * as docs from './types.js'
          import type * as lib from 'fastify-import-file-data'
          type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : never
          ${names.map(name => `export const same${name}: Same<docs.${name}${name === 'Batches' ? '<number>' : ''}, lib.${name}${name === 'Batches' ? '<number>' : ''}> = true`).join('\n')}`)
        t.strictSame(compile(folder, ['types.ts', 'same.ts']), [])
      }
    },
    '// database.js': {
      skip: mongo.missing,
      async run (t, { text }) {
        const { db } = mongo.database(t)
        for (const [name, list] of Object.entries(documents())) await db.collection(name).insertMany([...list])
        writeFileSync(join(folder, 'database.js'), replaced(text, ['mongodb://localhost:27017/rocketchat', mongo.url(db.databaseName)]))
        t.match(await replyOfHost(t, 'database.js', caller), { name: 'Slack', success: true })
      }
    },
    '// dump.js': {
      async run (t) {
        for (const name of ['rocketchat_import', 'rocketchat_import_data', 'users', 'rocketchat_permissions']) {
          const lines = readFileSync(join(SAMPLE_IMPORT, `${name}.json`), 'utf8').trim().split('\n')
          writeFileSync(join(folder, `${name}.json`), `[${lines.join(',')}]`)
        }
        t.equal(JSON.stringify(await replyOfHost(t, 'dump.js', caller)), sampleReply)
      }
    },
    '{"waiting":true': {
      async run (t, { text }) {
        const updatedAt = new Date()
        const changes = { status: 'importer_preparing_messages', reading: 'general/2023-05-04', count: { total: 12034, users: 320, channels: 41 }, updatedAt }
        const { body } = await call(await build(t, { store: storeOf({ latestOperation: async () => operation(changes) }) }))
        t.equal(body, replaced(text.trim(), ['2026-03-02T09:14:05.120Z', updatedAt.toISOString()]))
      }
    },
    '{ "name": "Slack"': {
      run: (t, { text }) => { t.doesNotThrow(() => checkAgainstSchema(200, text)) }
    },
    'import Fastify': {
      async run (t, { text }) {
        // A log that shows headers, and the error of a request that cannot be parsed.
        writeFileSync(join(folder, 'redact.js'), `${text}
          const log = app.log.child({}, { serializers: { req: value => value, err: value => value } })
          log.info({ req: { headers: { 'x-auth-token': 'secret-1', 'x-user-id': 'secret-2' } }, err: { rawPacket: 'secret-3' } })`)
        const { code, stdout } = await output([process.execPath, join(folder, 'redact.js')])
        t.equal(code, 0)
        t.equal(stdout.match(/\[Redacted\]/g)?.length, 3)
        t.notMatch(stdout, 'secret')
      }
    }
  },
  'docs/errors.md': {
    '{"success":false,"error":"Import': isReplyOf({ store: storeOf({ latestOperation: async () => null }) }),
    '{"success":false,"error":"unauthorized"}': isReplyOf({}, { 'x-auth-token': undefined }),
    '{"success":false,"error":"User': isReplyOf({ hasPermission: () => false })
  },
  'docs/rocket-chat.md': {
    'mongosh ': { notRun: 'needs a MongoDB with access control; the script is run by deploy.test.ts, and by .ci/mongodb with a real one' },
    'npm ci MONGODB_URL': {
      async run (t, { text }) {
        const server = await startCheckedMongo(t)
        const command = replaced(text, ['npm ci\n', ''], ['mongodb://importreader:PASSWORD@localhost:27017/rocketchat?authSource=admin', server.url()])
        const { stdout } = await output(['sh', '-c', command])
        for (const line of blockOf('docs/rocket-chat.md', 'ok connection').text.trim().split('\n')) {
          t.match(stdout.replace(/by -?\d+ ms/, 'by 1 ms'), `\n${line.replace(/ \.\.\.$/, '')}`)
        }
      }
    },
    'ok connection': { with: 'npm ci MONGODB_URL' },
    'npm ci --ignore-scripts': { notRun: 'installs packages; .ci/image.js runs these steps, as deploy/Dockerfile has them' },
    'sudo cp': { notRun: 'changes the system; deploy.test.ts has systemd check the unit' },
    'MONGODB_URL=mongodb://importreader:PASSWORD@localhost:27017': isSettings(),
    'MONGODB_URL=mongodb://importreader:PASSWORD@mongodb:27017': isSettings(deployed('compose.yaml', {})),
    'docker compose': { notRun: 'needs Docker; the public CI builds and runs the image' },
    'server { listen': {
      skip: program('nginx').missing,
      async run (t, { text }) {
        const cwd = t.testdir({ 'import-file-data.conf': deployed('nginx.conf', {}) })
        const server = replaced(text, ['443 ssl', `127.0.0.1:${await freePort()}`], ['/etc/nginx/', `${cwd}/`])
        writeFileSync(join(cwd, 'nginx.conf'), `pid ${cwd}/pid; error_log stderr; events {} http { access_log off; ${server} }`)
        const { stderr } = await output([program('nginx').path, '-t', '-c', join(cwd, 'nginx.conf'), '-e', 'stderr'])
        t.match(stderr, 'test is successful')
      }
    },
    'MONGODB_URL=\'mongodb': startsServer(['localhost:27017', '127.0.0.1:1']),
    'curl -i': {
      skip: needs('curl'),
      async run (t, { text }) {
        const { userId, authToken } = SAMPLE_CREDENTIALS
        const { stdout } = await output(['sh', '-c', replaced(text, ['YOUR_ID', userId], ['YOUR_TOKEN', authToken], ['https://chat.example.com', sampleUrl])])
        t.match(stdout, /^HTTP\/1\.1 200 OK\r\n/)
        t.match(stdout, /\r\ncache-control: private, no-cache\r\n/i)
        t.ok(stdout.endsWith(`\r\n\r\n${sampleReply}`))
      }
    }
  },
  'docs/clients.md': {
    importer_downloading_file: {
      async run (t, { text }) {
        let now = 0
        const options = demoImport(await loadDump(SAMPLE_IMPORT), () => now)
        const app = await build(t, { ...optionsOf(), store: options.store })
        const printed: string[] = []
        for (; now <= 31_000; now += 500) printed.push(lineOf((await call(app)).json()))
        const lines = text.trim().split('\n')
        t.strictSame(printed.filter(line => lines.includes(line)).filter((line, index, all) => line !== all[index - 1]), lines)
      }
    },
    '# ask.sh': asks('ask.sh', ['sh'], needs('curl')),
    '# poll.sh': polls('poll.sh', ['sh'], needs('curl', 'jq')),
    '// ask.mjs': asks('ask.mjs', ['node']),
    '// poll.mjs': polls('poll.mjs', ['node']),
    '# ask.py': asks('ask.py', ['python3']),
    '# poll.py': polls('poll.py', ['python3']),
    '<?php // ask.php': asks('ask.php', ['php']),
    '<?php // poll.php': polls('poll.php', ['php']),
    '// Ask.java': asks('Ask.java', ['java']),
    'mvn ': { notRun: 'downloads Gson; `// Poll.java` is run where that has been done' },
    '// Poll.java': polls('Poll.java', ['java', '-cp', gson], needsGson)
  },
  'docs/performance.md': {
    'npm run bench -- --quick': { notRun: 'takes minutes' },
    'git worktree': { notRun: 'installs and builds another version' },
    'npx --yes': { notRun: 'downloads another Node.js' },
    'npm run bench:docs': { notRun: 'writes the results of the benchmark into this page' }
  }
}

/** What a polling program of clients.md prints for a reply. */
function lineOf (reply: Waiting | Selection): string {
  if (!('waiting' in reply)) return `${reply.users.length} users, ${reply.channels.length} channels, ${reply.message_count} messages`
  const counts = Object.entries(reply.count ?? {}).map(([kind, number]) => `${number} ${kind}`).join(', ')
  return [reply.step, counts].filter(Boolean).join(': ')
}

t.test('every block of code in the documentation is run, or listed with the reason why it is not', async t => {
  for (const { page, line } of found) {
    t.equal(Object.keys(blocks[page] ?? {}).filter(beginning => line.startsWith(beginning)).length, 1, `${page}: ${line.slice(0, 60)}`)
  }
  for (const [page, table] of Object.entries(blocks)) {
    for (const [beginning, how] of Object.entries(table)) {
      t.equal(found.filter(block => block.page === page && block.line.startsWith(beginning)).length, 1, `${page}: ${beginning}`)
      if ('with' in how) t.ok('run' in (table[how.with] ?? {}), `${page}: ${how.with}`)
    }
  }
})

t.test('blocks of code do what the documentation says', async t => {
  t.jobs = 3
  const tests: Array<Promise<unknown>> = []
  for (const [page, table] of Object.entries(blocks)) {
    for (const [beginning, how] of Object.entries(table)) {
      if (!('run' in how)) continue
      const { run, skip = false } = how
      tests.push(t.test(`${page}, ${beginning.slice(0, 60)}`, { skip, buffered: true }, async t => run(t, blockOf(page, beginning))))
    }
  }
  await Promise.all(tests)
})

t.test('every command that the documentation gives exists', async t => {
  const { scripts } = JSON.parse(manifest)
  for (const { page, language, text } of found) {
    if (language !== 'sh') continue
    for (const [command, script = ''] of text.matchAll(/\bnpm (?:run )?(start|test|demo|lint|bench|(?:start|test|build|bench):\w+)\b/g)) t.ok(scripts[script], `${page}: ${command}`)
    for (const [path] of text.matchAll(/(?<![/\w.])(\.ci|bench|deploy|docs|examples|test)\/[\w./-]+\.\w+|(?<![/\w.])\.ci\/\w+/g)) {
      // Where the server is built, its files are JavaScript.
      if (!path.startsWith('bench/results/')) t.ok([path, path.replace(/\.js$/, '.ts')].some(path => existsSync(join(root, path))), `${page}: ${path}`)
    }
    for (const [, option = ''] of text.matchAll(/npm run bench -- --([\w-]+)/g)) t.match(textOf('bench/run.ts'), new RegExp(`^ {4}'?${option}'?: { type`, 'm'))
  }
})

t.test('every link in the documentation leads somewhere', async t => {
  const anchorsOf = (path: string) => [...readFileSync(path, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title.toLowerCase().replace(/[^\w\- ]/g, '').replaceAll(' ', '-'))
  for (const page of pages) {
    for (const [, target = ''] of textOf(page).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? join(root, page) : join(root, dirname(page), path)
      t.ok(existsSync(file), `${page}: ${target}`)
      if (anchor !== undefined) t.ok(anchorsOf(file).includes(anchor), `${page}: ${target}`)
    }
  }
})

/** The first cells of the rows of a table, without backquotes, and the other cells. */
function tableAfter (page: string, heading: string): string[][] {
  const [, after = ''] = textOf(page).split(`\n${heading}\n`)
  const [table = ''] = after.match(/^\|.*\n(\|.*\n)+/m) ?? []
  return table.trim().split('\n').slice(2).map(row => row.split(/(?<!\\)\|/).slice(1, -1).map(cell => cell.trim().replaceAll('`', '')))
}

t.test('the settings of the import server are documented with the defaults that --help prints', async t => {
  const settings = [...usage().matchAll(/^ {2}([A-Z_]+) .* \(default: (.*)\)$/gm)].map(([, name, initial]) => [name, initial])
  t.ok(settings.length > 5)
  t.strictSame(tableAfter('docs/rocket-chat.md', '## Settings').map(([name, initial]) => [name, initial]), settings)
})

t.test('the options that are documented are those that there are', async t => {
  const names = tableAfter('docs/embedding.md', '## Options').map(([name = '']) => name)
  t.strictSame(tableAfter('README.md', '### Options').map(([name]) => name), names)
  const members = names.filter(name => name !== 'prefix').map(name => `${name}: true`)
  writeFileSync(join(folder, 'options.ts'), `
    import type { ImportFileDataOptions } from 'fastify-import-file-data'
    export const documented: Record<keyof ImportFileDataOptions, true> = { ${members.join(', ')} }`)
  t.strictSame(compile(folder, ['options.ts']), [])
})

for (const [name, levels] of Object.entries({ lib: ['info', 'warn', 'error', 'fatal'], examples: ['warn', 'error', 'fatal'] })) {
  t.test(`every message of ${name}/ is explained in docs/errors.md`, async t => {
    const lines = textOf('docs/errors.md').split('\n')
    const messages = messagesIn(join(root, name), levels)
    t.ok(messages.length > 10)
    for (const { file, text, pattern } of messages) t.ok(lines.some(line => pattern.test(line)), `${file}: ${text}`)
  })
}
