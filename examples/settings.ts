import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import proxyAddr from '@fastify/proxy-addr'
import { endpointOf } from './prepare-by-rocketchat.js'
import { StartupError } from './startup-error.js'

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/** The folder with the import that is served by default. */
export const SAMPLE_IMPORT = fileURLToPath(new URL('sample-import', import.meta.url))

/** The user of the sample import who may run imports, and that user's token. */
export const SAMPLE_CREDENTIALS = { userId: 'd26x6zSkaPSe5gCyy', authToken: 'Zu-Z6eKzIIz7MCCRGeHi29bYkXZCJ4SxFC0JAasqm92' }

/** The settings of the server. */
export interface Settings {
  host: string
  /** 0 for any free port. */
  port: number
  /** The folder with the import, see `loadDump`. Ignored if `mongodbUrl` is set. */
  dataDir: string
  /** Rocket.Chat's MongoDB, with the name of the database. */
  mongodbUrl: string | undefined
  /** Rocket.Chat itself, which reads uploaded files. */
  rocketchatUrl: string | undefined
  /** Calls per minute and address; 0 for no limit. */
  rateLimit: number
  /**
   * The reverse proxies whose `X-Forwarded-For` is trusted, see Fastify's option `trustProxy`: addresses separated by commas, true for
   * every connection, false for none.
   */
  trustProxy: boolean | string
  logLevel: string
  /** The port of the metrics for Prometheus; undefined for no metrics. */
  metricsPort: number | undefined
}

/** The environment variables: default and meaning. */
const VARIABLES = {
  HOST: ['127.0.0.1', 'address to listen on; 0.0.0.0 accepts connections from other machines'],
  PORT: ['3000', 'port to listen on; 0 for any free port'],
  MONGODB_URL: ['', 'Rocket.Chat\'s MongoDB, such as mongodb://localhost:27017/rocketchat'],
  DATA_DIR: ['', 'without MONGODB_URL: folder with the import, as mongoexport writes it'],
  ROCKETCHAT_URL: ['', 'Rocket.Chat itself, which reads uploaded files, such as http://localhost:3001'],
  RATE_LIMIT: ['120', 'calls per minute and address; 0 for no limit'],
  TRUST_PROXY: ['false', 'addresses of the reverse proxies whose X-Forwarded-For is trusted, such as loopback'],
  LOG_LEVEL: ['info', `one of ${LOG_LEVELS.join(', ')}`],
  METRICS_PORT: ['', 'port of GET /metrics for Prometheus; 0 for any free port']
} as const

/** Variables as lines of a usage. */
function linesOf (variables: Record<string, readonly [initial: string, meaning: string]>): string {
  return Object.entries(variables).map(([name, [initial, meaning]]) => {
    const shown = initial || (name === 'DATA_DIR' ? 'examples/sample-import' : 'not set')
    return `  ${name.padEnd(16)}${meaning} (default: ${shown})\n`
  }).join('')
}

/** What `--help` prints: the commands, and the environment variables with their defaults. */
export function usage (): string {
  return `Serves Rocket.Chat's GET /api/v1/getImportFileData.

Usage: npm start                                start the server, in a clone of the project
       npm start -- --help                      print this text; -h for short
       npm run demo                             start it with an import that makes progress
       node --import tsx examples/in-front.ts   start it in front of Rocket.Chat, to which it forwards everything else
       node examples/server.js                  start the compiled server, in dist-server/ or its Docker image
       node examples/server.js --help           print this text

Settings are environment variables, such as PORT=8080:

${linesOf(VARIABLES)}`
}

/** What `--help` of the check prints. */
export function checkUsage (): string {
  const { MONGODB_URL, ROCKETCHAT_URL } = VARIABLES
  return `Checks whether the server can work with Rocket.Chat's database. It never writes to the database.

Usage: npm run start:check               check the database, in a clone of the project
       npm run start:check -- --help     print this text; -h for short
       node examples/check.js            check the database with the compiled server, in dist-server/ or its Docker image
       node examples/check.js --help     print this text

The exit code is 0 when there is nothing to fix, and 1 otherwise. Settings are environment variables:

${linesOf({ MONGODB_URL, ROCKETCHAT_URL })}`
}

/**
 * Reads the settings from the environment variables. An empty variable counts as not set.
 *
 * @throws StartupError that names the first variable with an invalid value
 */
export function readSettings (env: NodeJS.ProcessEnv): Settings {
  const read = (name: keyof typeof VARIABLES): string => env[name] || VARIABLES[name][0]
  const port = readInteger('PORT', read('PORT'), 65_535)
  return {
    host: read('HOST'),
    port,
    dataDir: resolve(read('DATA_DIR') || SAMPLE_IMPORT),
    mongodbUrl: read('MONGODB_URL') || undefined,
    rocketchatUrl: readRocketChatUrl(env),
    rateLimit: readInteger('RATE_LIMIT', read('RATE_LIMIT'), 1_000_000, ' (calls per minute and address; 0 for no limit)'),
    trustProxy: readTrustProxy(read('TRUST_PROXY')),
    logLevel: readLogLevel(read('LOG_LEVEL')),
    metricsPort: readMetricsPort(read('METRICS_PORT'), port)
  }
}

/**
 * Reads `ROCKETCHAT_URL`.
 *
 * @throws StartupError if it is not valid
 */
export function readRocketChatUrl ({ ROCKETCHAT_URL: url }: NodeJS.ProcessEnv): string | undefined {
  try {
    if (url) endpointOf(url)
    return url || undefined
  } catch {
    // Without the value, which may contain a password.
    throw new StartupError('ROCKETCHAT_URL is not an HTTP or HTTPS URL without a query: set it to the URL of Rocket.Chat itself, such as http://localhost:3001.')
  }
}

function readMetricsPort (value: string, port: number): number | undefined {
  if (value === '') return undefined
  const metricsPort = readInteger('METRICS_PORT', value, 65_535)
  if (metricsPort !== port || port === 0) return metricsPort
  // Otherwise the server would say that PORT is in use: the metrics listen first.
  throw new StartupError(`METRICS_PORT is ${port}, and so is PORT: set METRICS_PORT to another port, or to 0 for any free port.`)
}

function readInteger (name: string, value: string, highest: number, meaning = ''): number {
  if (/^\d+$/.test(value) && Number(value) <= highest) return Number(value)
  throw new StartupError(`${name} is ${JSON.stringify(value)}: set it to a whole number from 0 to ${highest}${meaning}.`)
}

function readTrustProxy (value: string): boolean | string {
  if (value === 'true' || value === 'false') return value === 'true'
  const addresses = value.split(',').map(address => address.trim())
  if (addresses.every(isTrustable)) return addresses.join(',')
  // Given a number, Fastify silently trusts nobody, so all callers would share one rate limit.
  const reason = /^\d+$/.test(value)
    ? 'a number of hops is not supported, because a caller who connects without the proxy could forge an address. Set it'
    : 'set it'
  throw new StartupError(`TRUST_PROXY is ${JSON.stringify(value)}: ${reason} to the addresses of your reverse proxies, ` +
    'separated by commas: IP addresses, CIDR ranges, or the names loopback, linklocal and uniquelocal.')
}

function isTrustable (address: string): boolean {
  const isName = ['loopback', 'linklocal', 'uniquelocal'].includes(address)
  // proxy-addr reads 10.1 as 10.0.0.1. It is more likely a mistake.
  if (!isName && isIP(address.replace(/\/.*/, '')) === 0) return false
  try {
    proxyAddr.compile(address)
    return true
  } catch {
    return false
  }
}

function readLogLevel (value: string): string {
  if (LOG_LEVELS.includes(value)) return value
  throw new StartupError(`LOG_LEVEL is ${JSON.stringify(value)}: set it to one of ${LOG_LEVELS.join(', ')}.`)
}
