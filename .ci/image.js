// Runs the steps of deploy/Dockerfile in a temporary folder, without Docker, and tests the result. Started with a separate environment
// and without write access, the server must reply, be healthy, check a database, and exit on SIGTERM. Not tested: the base image and
// Docker itself.
import assert from 'node:assert'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const temp = mkdtempSync(join(tmpdir(), 'image-'))
process.on('exit', () => rmSync(temp, { recursive: true, force: true }))

const stages = []
const text = readFileSync(join(root, 'deploy/Dockerfile'), 'utf8')
for (const line of text.replace(/^#.*\n/gm, '').replace(/\\\n\s*/g, '').split('\n').filter(Boolean)) {
  const [, instruction, rest] = line.match(/^(\w+) (.*)$/)
  const stage = stages.at(-1)
  switch (instruction) {
    case 'FROM':
      stages.push({ name: rest.split(' AS ')[1], folder: join(temp, String(stages.length)), cwd: '/', env: {} })
      mkdirSync(stages.at(-1).folder)
      break
    case 'WORKDIR':
      stage.cwd = resolve(stage.cwd, rest)
      mkdirSync(join(stage.folder, stage.cwd), { recursive: true })
      break
    case 'COPY': copy(stage, rest.split(' ')); break
    case 'RUN':
      console.log(`RUN ${rest}`)
      // .ci/run has installed the same dependencies, with the same command.
      if (rest === 'npm ci --ignore-scripts') symlinkSync(join(root, 'node_modules'), join(stage.folder, stage.cwd, 'node_modules'))
      else execFileSync('/bin/sh', ['-c', rest], { cwd: join(stage.folder, stage.cwd), stdio: 'inherit', env: toolEnv(stage) })
      break
    case 'ENV': for (const pair of rest.split(' ')) Object.assign(stage.env, Object.fromEntries([pair.split('=')])); break
    case 'CMD': stage.command = JSON.parse(rest); break
    case 'HEALTHCHECK': stage.health = JSON.parse(rest.slice(rest.indexOf('CMD ') + 4)); break
    case 'USER': stage.user = rest; break
    case 'EXPOSE': break
    default: throw new Error(`.ci/image.js does not support ${instruction}`)
  }
}

function copy (stage, words) {
  const from = words[0].startsWith('--from=') ? stages.find(({ name }) => name === words.shift().slice('--from='.length)).folder : root
  const target = words.pop()
  for (const source of words) {
    const path = join(from, source)
    const isFile = statSync(path).isFile()
    const to = join(stage.folder, resolve(stage.cwd, target), isFile && target.endsWith('/') ? basename(source) : '')
    mkdirSync(dirname(to), { recursive: true })
    cpSync(path, to, { recursive: true })
  }
}

/** The environment of the steps: `PATH`, `HOME`, and the settings of npm and the network on this machine. */
function toolEnv ({ env }) {
  const kept = Object.entries(process.env).filter(([name]) => /^(PATH|HOME|npm_config_\w+|https?_proxy|NODE_EXTRA_CA_CERTS)$/i.test(name))
  return { ...Object.fromEntries(kept), ...env }
}

const image = stages.at(-1)
const app = join(image.folder, image.cwd)
assert.strictEqual(image.user, 'node', 'it runs as an unprivileged user')

// Contents.
for (const name of ['typescript', 'tsx', 'esbuild', 'tap', 'eslint', '@types/node']) {
  assert.ok(existsSync(join(root, 'node_modules', name)) && !existsSync(join(app, 'node_modules', name)), `${name} is in the image`)
}
assert.strictEqual(readdirSync(app, { recursive: true }).filter(path => /(?<!\.d)\.ts$/.test(path) && !path.includes('node_modules')).length, 0)
const size = execFileSync('du', ['-sm', app], { encoding: 'utf8' }).split('\t')[0]
console.log(`${readdirSync(join(app, 'node_modules')).length} folders of packages, ${size} MB`)

// Root can always write, so as root the server runs as another user.
execFileSync('chmod', ['-R', 'a-w,a+rX', image.folder])
for (let folder = image.folder; folder.startsWith(temp); folder = dirname(folder)) chmodSync(folder, 0o755)
const isRoot = process.getuid?.() === 0
const nobody = isRoot ? { uid: 65534, gid: 65534 } : {}
const env = { ...image.env, HOST: '127.0.0.1', PORT: '0' }

function start ([, ...args], changes = {}) {
  return spawn(process.execPath, args, { cwd: app, env: { ...env, ...changes }, stdio: ['ignore', 'pipe', 'inherit'], ...nobody })
}

const server = start(image.command)
let url
for await (const line of createInterface(server.stdout)) {
  url = line.match(/'(http:\S+)\/api\/v1\/getImportFileData'/)?.[1]
  if (url) break
}
server.stdout.resume()
assert.ok(url, 'it starts')
const headers = { 'X-User-Id': 'd26x6zSkaPSe5gCyy', 'X-Auth-Token': 'Zu-Z6eKzIIz7MCCRGeHi29bYkXZCJ4SxFC0JAasqm92' }
const reply = await fetch(`${url}/api/v1/getImportFileData`, { headers })
assert.strictEqual(reply.status, 200)
assert.strictEqual((await reply.json()).success, true)
for (const path of ['/health', '/ready', '/', '/page.js', '/docs', '/docs/json', '/docs/static/index.html']) {
  assert.strictEqual((await fetch(url + path)).status, 200, path)
}

const exitCodeOf = async child => (await once(child, 'exit'))[0]
const { port } = new URL(url)
assert.strictEqual(await exitCodeOf(start(image.health, { PORT: port })), 0, 'it is healthy')
server.kill('SIGTERM')
assert.strictEqual(await exitCodeOf(server), 0, 'it exits on SIGTERM')
assert.strictEqual(await exitCodeOf(start(image.health, { PORT: port })), 1, 'it is not healthy after its exit')
const check = start(['node', 'examples/check.js'], { MONGODB_URL: 'mongodb://127.0.0.1:1/rocketchat' })
check.stdout.pipe(process.stdout)
assert.strictEqual(await exitCodeOf(check), 1, 'the check runs')
console.log('The image works')
execFileSync('chmod', ['-R', 'u+w', image.folder])
