import { existsSync, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import rateLimit from '@fastify/rate-limit'
import closeWithGrace from 'close-with-grace'
import Fastify, { type FastifyInstance } from 'fastify'
import pretty from 'pino-pretty'
import { type Prepare, importFileData } from '../lib/index.js'
import { type RocketChatDocuments, type RocketChatOptions, rocketChatDump } from '../lib/rocketchat/index.js'
import { apiReference } from './api-reference.js'
import { answerClientError, answerError, answerNotFound } from './error-replies.js'
import { health } from './health.js'
import { loadDump } from './load-dump.js'
import { measure } from './metrics.js'
import { page } from './page.js'
import { prepareByRocketChat } from './prepare-by-rocketchat.js'
import { readDatabase } from './read-database.js'
import { SAMPLE_IMPORT, type Settings, readSettings } from './settings.js'
import { StartupError, listenFailure } from './startup-error.js'

/** Where the log goes, and what else there is to say: to a terminal for a person to read, else as JSON. */
export type Output = NodeJS.WritableStream & { isTTY?: boolean }

/** What serves documents that are held in memory: as they are, or an import that moves on. */
export type Serve = (documents: RocketChatDocuments) => RocketChatOptions

/**
 * A server with Rocket.Chat's `GET /api/v1/getImportFileData`, over the database at `settings.mongodbUrl`, or else over the
 * documents in `settings.dataDir`; with a page to look at (`/`) and a reference of the API (`/docs`). It does not listen yet.
 *
 * @throws StartupError when there is no import to be read, or a URL is none
 */
export async function buildServer (
  settings: Settings,
  output: Output = process.stdout,
  serve: Serve = rocketChatDump
): Promise<FastifyInstance> {
  const { dataDir, mongodbUrl, rocketchatUrl, rateLimit: max, trustProxy } = settings
  const documents = mongodbUrl === undefined ? await loadDump(dataDir) : undefined
  const prepare = rocketchatUrl === undefined ? {} : { prepare: readBy(rocketchatUrl) }
  const app: FastifyInstance = Fastify({
    logger: loggerOptions(settings, output),
    trustProxy,
    frameworkErrors: answerError,
    clientErrorHandler: answerClientError
  })
  app.setErrorHandler(answerError)
  app.setNotFoundHandler(answerNotFound)
  await app.register(apiReference)
  await app.register(page)
  const source = documents ? serve(documents) : readDatabase(app, mongodbUrl!)
  await app.register(health, { store: source.store })
  // The rate limit and the metrics are for what is in this scope.
  await app.register(async api => {
    if (max > 0) await api.register(rateLimit, { max, timeWindow: '1 minute' })
    const options = { ...source, ...prepare }
    await api.register(importFileData, {
      prefix: '/api/v1', ...(settings.metricsPort === undefined ? options : measure(api, options, settings))
    })
  })
  return app
}

function readBy (rocketchatUrl: string): Prepare {
  try {
    return prepareByRocketChat(rocketchatUrl)
  } catch {
    throw new StartupError(`ROCKETCHAT_URL is ${JSON.stringify(rocketchatUrl)}: set it to where Rocket.Chat replies, such as http://localhost:3001.`)
  }
}

function loggerOptions ({ logLevel }: Settings, output: Output) {
  return {
    level: logLevel,
    // Fastify logs no headers. This is for the day that somebody adds them.
    redact: ['headers["x-auth-token"]', '*.headers["x-auth-token"]'],
    stream: output.isTTY ? prettyLog(output) : output
  }
}

function prettyLog (output: Output) {
  return pretty({
    destination: output,
    translateTime: 'SYS:HH:MM:ss',
    messageFormat: '{if reqId}{reqId} {end}{msg}{if req} {req.method} {req.url}{end}{if res} {res.statusCode}{end}',
    ignore: 'pid,hostname,reqId,req,res,responseTime',
    singleLine: true
  })
}

/**
 * Starts the server as the environment says, says how to call it, and closes it when the process is told to end.
 *
 * @param errors told in one line what is to be put right, when the server cannot start: the exit code is 1 then
 * @returns the server, or undefined when it cannot start
 */
export async function start (
  env: NodeJS.ProcessEnv,
  output: Output = process.stdout,
  errors: Output = process.stderr,
  serve: Serve = rocketChatDump
): Promise<FastifyInstance | undefined> {
  try {
    const settings = readSettings(env)
    const app = await buildServer(settings, output, serve)
    const url = await listen(app, settings)
    announce(app, url, settings, output)
    return app
  } catch (failure) {
    if (!(failure instanceof StartupError)) throw failure
    errors.write(`${failure.message}\n`)
    process.exitCode = 1
    return undefined
  }
}

/**
 * Signals of a fault in the process itself, which are for the system to act on: a handler would only come back to the fault, for
 * ever. Node.js 20 has such a fault when it ends after its terminal.
 */
const FAULTS = ['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV'] as const

async function listen (app: FastifyInstance, settings: Settings): Promise<string> {
  // However long it takes: the plugin drops who stops reading, so closing ends. A second signal ends it at once.
  const grace = closeWithGrace({ delay: false, skip: [...FAULTS] }, closer(app))
  app.addHook('onClose', async () => grace.uninstall())
  try {
    return await app.listen({ host: settings.host, port: settings.port })
  } catch (failure) {
    await app.close()
    throw listenFailure(failure, settings)
  }
}

/** What is done at the end: a reply that is under way goes out whole. */
export function closer (app: FastifyInstance) {
  return async ({ signal, err }: { signal?: string, err?: Error }): Promise<void> => {
    if (err) app.log.fatal({ err }, 'Closing, for an error that nobody caught')
    else app.log.info(`Closing, for ${signal}`)
    await app.close()
  }
}

function announce (app: FastifyInstance, url: string, { dataDir, mongodbUrl }: Settings, output: Output): void {
  const isSample = dataDir === SAMPLE_IMPORT && mongodbUrl === undefined
  const served = mongodbUrl === undefined ? `the import in ${dataDir}` : 'the import in the database'
  const userId = isSample ? 'd26x6zSkaPSe5gCyy' : '<user id>'
  const authToken = isSample ? 'Zu-Z6eKzIIz7MCCRGeHi29bYkXZCJ4SxFC0JAasqm92' : '<token>'
  const command = [
    `curl -H 'X-User-Id: ${userId}'`,
    `-H 'X-Auth-Token: ${authToken}'`,
    `'${url}/api/v1/getImportFileData'`
  ]
  if (output.isTTY) {
    output.write(`\nServing ${served}\nTry it, in another terminal:\n\n  ${command.join(' \\\n    ')}\n\n` +
      `or look at it: ${url}/\nThe API reference: ${url}/docs\nCtrl-C ends it.\n\n`)
  } else {
    app.log.info(`Serving ${served}. Try it: ${command.join(' ')}`)
  }
}

/** Starts the server when this file is what Node.js was told to run, and not when another one imports it. */
export async function startIfRun (script: string | undefined, env: NodeJS.ProcessEnv): Promise<void> {
  if (script === undefined || !existsSync(script)) return
  if (realpathSync(script) === fileURLToPath(import.meta.url)) await start(env)
}

await startIfRun(process.argv[1], process.env)
