import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyReply, type FastifyRequest } from 'fastify'
import pretty from 'pino-pretty'
import { importFileData } from '../lib/index.js'
import { type RocketChatDocuments, type RocketChatOptions, rocketChatDump } from '../lib/rocketchat/index.js'
import { apiReference } from './api-reference.js'
import { answerClientError, answerError, answerFrameworkError, answerNotFound } from './error-replies.js'
import { health } from './health.js'
import { type Launched, type Output, isScript, launch } from './launch.js'
import { loadDump } from './load-dump.js'
import { measure } from './metrics.js'
import { page } from './page.js'
import { prepareByRocketChat } from './prepare-by-rocketchat.js'
import { readDatabase } from './read-database.js'
import { SAMPLE_CREDENTIALS, SAMPLE_IMPORT, type Settings } from './settings.js'

/** Makes the plugin's options from documents in memory. The demo passes its own. */
export type Serve = (documents: RocketChatDocuments) => RocketChatOptions

/**
 * A server with Rocket.Chat's `GET /api/v1/getImportFileData`, a page (`/`) and an API reference (`/docs`). It reads the database at
 * `settings.mongodbUrl` or, without one, the documents in `settings.dataDir`. It does not listen yet.
 *
 * @param serve for a demo, which always serves documents
 * @throws StartupError if the import cannot be read or a URL is not valid
 */
export async function buildServer (settings: Settings, output: Output = process.stdout, serve?: Serve): Promise<FastifyInstance> {
  const importApi = await createImportApi(settings, serve)
  const app: FastifyInstance = Fastify({
    logger: loggerOptions(settings, output),
    trustProxy: settings.trustProxy,
    frameworkErrors: answerFrameworkError,
    clientErrorHandler: answerClientError
  })
  app.setErrorHandler(answerError)
  app.setNotFoundHandler(answerNotFound)
  await app.register(apiReference)
  await app.register(page)
  if (servesSample(settings, serve)) addSampleCredentials(app)
  await app.register(importApi)
  return app
}

/**
 * A Fastify plugin with `GET /api/v1/getImportFileData`, its rate limit and its metrics according to the settings, and with
 * `GET /health` and `GET /ready`. It warns of settings that are ignored or unsafe.
 *
 * @throws StartupError if the import cannot be read or a URL is not valid
 */
export async function createImportApi (settings: Settings, serve?: Serve): Promise<FastifyPluginAsync> {
  const { rateLimit: max, rocketchatUrl } = settings
  const openSource = await createSource(settings, serve)
  return async app => {
    for (const warning of warningsAbout(settings, serve)) app.log.warn(warning)
    const source = openSource(app)
    await app.register(health, { store: source.store })
    // A separate scope, so that the rate limit and the metrics apply to this route only.
    await app.register(async api => {
      if (max > 0) {
        await api.register(rateLimit, { max, timeWindow: '1 minute' })
        api.addHook('onSend', sendTimeOfReset)
      }
      const options = { ...source, ...(rocketchatUrl && !serve && { prepare: prepareByRocketChat(rocketchatUrl, source.store) }) }
      await api.register(importFileData, {
        prefix: '/api/v1', ...(settings.metricsPort === undefined ? options : measure(api, options, settings))
      })
    })
  }
}

// For Rocket.Chat's clients: there, X-RateLimit-Reset is a time in milliseconds since 1970, and not a number of seconds.
async function sendTimeOfReset (_request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const seconds = reply.getHeader('X-RateLimit-Reset')
  if (seconds !== undefined) reply.header('X-RateLimit-Reset', Date.now() + Number(seconds) * 1000)
}

// Documents are loaded before the server is created: a large folder may take longer than Fastify's plugin timeout of ten seconds.
async function createSource (settings: Settings, serve: Serve = rocketChatDump): Promise<(app: FastifyInstance) => RocketChatOptions> {
  const { dataDir, mongodbUrl } = settings
  if (mongodbUrl !== undefined && serve === rocketChatDump) return app => readDatabase(app, mongodbUrl)
  const documents = await loadDump(dataDir)
  const source = serve(documents)
  return app => {
    if (documents.users.length === 0) app.log.warn(`${dataDir} has no users, so no call is authorized: export the collection users of Rocket.Chat`)
    return source
  }
}

function warningsAbout ({ dataDir, mongodbUrl, rocketchatUrl, trustProxy }: Settings, serve?: Serve): string[] {
  const warnings: string[] = []
  if (trustProxy === true) {
    warnings.push('TRUST_PROXY is true: callers can forge their address and bypass the rate limit, unless all of them come through ' +
      'a proxy that overwrites X-Forwarded-For. Set it to the addresses of your proxies instead')
  }
  if (serve === undefined) {
    if (mongodbUrl !== undefined && dataDir !== SAMPLE_IMPORT) warnings.push('DATA_DIR is ignored, because MONGODB_URL is set')
  } else {
    if (mongodbUrl !== undefined) warnings.push('MONGODB_URL is ignored, because the demo serves a folder')
    if (rocketchatUrl !== undefined) warnings.push('ROCKETCHAT_URL is ignored, because the demo has no file to read')
  }
  return warnings
}

function servesSample ({ dataDir, mongodbUrl }: Settings, serve?: Serve): boolean {
  return dataDir === SAMPLE_IMPORT && (mongodbUrl === undefined || serve !== undefined)
}

/** The page offers these credentials in its form. They are public, and valid for the sample import only. */
function addSampleCredentials (app: FastifyInstance): void {
  app.get('/sample-credentials.json', { schema: { hide: true } }, async (_request, reply) => {
    reply.headers({ 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' })
    return SAMPLE_CREDENTIALS
  })
}

/** Fastify's logger options: readable text for a terminal, JSON otherwise. */
export function loggerOptions ({ logLevel }: Settings, output: Output) {
  return {
    level: logLevel,
    // Fastify does not log headers by default. This protects the token if a serializer adds them.
    redact: ['headers["x-auth-token"]', '*.headers["x-auth-token"]'],
    stream: output.isTTY ? prettyLog(output) : output
  }
}

function prettyLog (output: Output) {
  return pretty({
    destination: output,
    translateTime: 'SYS:HH:MM:ss',
    messageFormat: '{if reqId}{reqId} {end}{msg}{if req} {req.method} {req.url} from {req.remoteAddress}{end}{if res} {res.statusCode}{end}',
    ignore: 'pid,hostname,reqId,req,res,responseTime',
    singleLine: true
  })
}

/**
 * Starts the server with the settings in the environment, prints how to call it, and closes it when the process is asked to end.
 *
 * @param errors gets one line that says what to fix if the server cannot start. The exit code is then 1
 * @param args the command's arguments. With `--help` the usage is printed instead
 * @returns undefined if the usage was printed or the server cannot start
 */
export async function start (
  env: NodeJS.ProcessEnv,
  output: Output = process.stdout,
  errors: Output = process.stderr,
  serve?: Serve,
  args: readonly string[] = []
): Promise<FastifyInstance | undefined> {
  const launched = await launch(settings => buildServer(settings, output, serve), { env, args, output, errors })
  if (launched) announce(launched, output, serve)
  return launched?.app
}

function announce ({ app, url, settings }: Launched, output: Output, serve?: Serve): void {
  const isSample = servesSample(settings, serve)
  const isDatabase = settings.mongodbUrl !== undefined && serve === undefined
  // The database may not be reachable yet. The log says so when its import is served.
  const served = serve ? `a demo, with an import that makes progress again and again, from ${settings.dataDir}` : `the import in ${settings.dataDir}`
  const state = isDatabase ? `Listening on ${url}` : `Serving ${served}`
  const { userId, authToken } = isSample ? SAMPLE_CREDENTIALS : { userId: '<user id>', authToken: '<token>' }
  const command = [
    `curl -H 'X-User-Id: ${userId}'`,
    `-H 'X-Auth-Token: ${authToken}'`,
    `'${url}/api/v1/getImportFileData'`
  ]
  if (output.isTTY) {
    output.write(`\n${state}\nTry it in another terminal:\n\n  ${command.join(' \\\n    ')}\n\n` +
      `The page: ${url}/\nThe API reference: ${url}/docs\nCtrl-C stops the server.\n\n`)
  } else {
    app.log.info(`${state}. Try it: ${command.join(' ')}`)
  }
}

/** Starts the server if this file is the script that Node.js runs, and not an import of another file. */
export async function startIfRun (script: string | undefined, env: NodeJS.ProcessEnv, args: readonly string[] = []): Promise<void> {
  if (isScript(script, import.meta.url)) await start(env, undefined, undefined, undefined, args)
}

await startIfRun(process.argv[1], process.env, process.argv.slice(2))
