import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { StartupError } from './startup-error.js'

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/** The folder with the import that is served when nobody names another. */
export const SAMPLE_IMPORT = fileURLToPath(new URL('sample-import', import.meta.url))

/** How the server is to run. */
export interface Settings {
  host: string
  /** 0: any that is free. */
  port: number
  /** The folder with the import, as `loadDump` reads it; not looked at when there is a `mongodbUrl`. */
  dataDir: string
  /** Rocket.Chat's MongoDB, with the name of the database. */
  mongodbUrl: string | undefined
  /** Rocket.Chat itself, which is to read uploaded files. */
  rocketchatUrl: string | undefined
  /** Calls a minute that one address may make; 0: as many as it likes. */
  rateLimit: number
  /** Whether the address of a caller is what a reverse proxy says it is (`X-Forwarded-For`). */
  trustProxy: boolean
  logLevel: string
  /** Where metrics are served for Prometheus; undefined: nowhere. */
  metricsPort: number | undefined
}

/**
 * The settings that environment variables say: HOST, PORT, DATA_DIR, MONGODB_URL, ROCKETCHAT_URL, RATE_LIMIT, TRUST_PROXY,
 * LOG_LEVEL and METRICS_PORT. One that is empty counts as one that is not set.
 *
 * @throws StartupError, which names the first variable that has a value it cannot have
 */
export function readSettings (env: NodeJS.ProcessEnv): Settings {
  return {
    host: env.HOST || '127.0.0.1',
    port: readInteger('PORT', env.PORT || '3000', 65_535),
    dataDir: resolve(env.DATA_DIR || SAMPLE_IMPORT),
    mongodbUrl: env.MONGODB_URL || undefined,
    rocketchatUrl: env.ROCKETCHAT_URL || undefined,
    rateLimit: readInteger('RATE_LIMIT', env.RATE_LIMIT || '120', 1_000_000, ' (calls a minute and address; 0 for no limit)'),
    trustProxy: readTrustProxy(env.TRUST_PROXY || 'false'),
    logLevel: readLogLevel(env.LOG_LEVEL || 'info'),
    metricsPort: env.METRICS_PORT ? readInteger('METRICS_PORT', env.METRICS_PORT, 65_535) : undefined
  }
}

function readInteger (name: string, value: string, highest: number, meaning = ''): number {
  if (/^\d+$/.test(value) && Number(value) <= highest) return Number(value)
  throw new StartupError(`${name} is ${JSON.stringify(value)}: set it to a whole number from 0 to ${highest}${meaning}.`)
}

function readTrustProxy (value: string): boolean {
  if (value === 'true' || value === 'false') return value === 'true'
  throw new StartupError(`TRUST_PROXY is ${JSON.stringify(value)}: set it to true behind a reverse proxy, and else to false.`)
}

function readLogLevel (value: string): string {
  if (LOG_LEVELS.includes(value)) return value
  throw new StartupError(`LOG_LEVEL is ${JSON.stringify(value)}: set it to one of ${LOG_LEVELS.join(', ')}.`)
}
