import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { setTimeout } from 'node:timers/promises'
import { type Prepare } from '../lib/index.js'

/** How many characters are kept of the beginning of a reply, and of its end. The rest is read and dropped. */
const BEGINNING_LENGTH = 4096
const END_LENGTH = 64

/** How many characters of an error's text are repeated. */
const ERROR_LENGTH = 300

/** Milliseconds before the first retry, which double with each further one, up to the longest. */
const FIRST_DELAY = 1000
const LONGEST_DELAY = 60_000

/** The longest `Retry-After` that is honoured, in milliseconds. */
const LONGEST_RETRY_AFTER = 3_600_000

/** The statuses and the error codes of failures that pass: Rocket.Chat, or a proxy before it, is busy, restarting or out of reach. */
const TRANSIENT_STATUSES = new Set([408, 425, 429, 502, 503, 504])
const TRANSIENT_CODES = new Set([
  'EAI_AGAIN', 'ECONNABORTED', 'ECONNREFUSED', 'ECONNRESET', 'EHOSTDOWN', 'EHOSTUNREACH', 'ENETDOWN', 'ENETUNREACH', 'ENOTFOUND', 'EPIPE',
  'ETIMEDOUT'
])

/** Waits so many milliseconds, or rejects when the signal is aborted. */
type Wait = (milliseconds: number, signal: AbortSignal) => Promise<unknown>

/** A failure that may pass, and the seconds or the date of its `Retry-After`. */
class TransientFailure extends Error {
  constructor (message: string, readonly retryAfter?: string, options?: ErrorOptions) {
    super(message, options)
  }
}

/**
 * A `prepare` for a Rocket.Chat. It has that server parse the uploaded file, by a call of its own `getImportFileData` in the caller's
 * name. Rocket.Chat parses inside that request, so the import is prepared when the reply has ended.
 *
 * Failures that pass, such as a refused connection or a 503, are retried until the server closes, and logged. Any other failure is final.
 * Closing the server ends the request, but not the parse.
 *
 * @param url where Rocket.Chat itself is reached, such as `http://rocketchat:3000`: not the address under which its
 *   `getImportFileData` is routed to this server
 * @param wait for tests: waits between two attempts
 * @throws TypeError when that is not a URL of HTTP or HTTPS, or has a query or a fragment
 */
export function prepareByRocketChat (
  url: string,
  wait: Wait = (milliseconds, signal) => setTimeout(milliseconds, undefined, { signal })
): Prepare {
  const endpoint = endpointOf(url)

  return async (_operation, { credentials: { userId, authToken }, signal, log }) => {
    const headers = { 'X-User-Id': userId, 'X-Auth-Token': authToken }
    const attempt = () => callOnce(endpoint, headers, signal).then(() => undefined, failure => {
      if (!(failure instanceof TransientFailure) || signal.aborted) throw failure
      return failure
    })
    let delay = FIRST_DELAY
    for (let failure = await attempt(); failure !== undefined; failure = await attempt()) {
      const milliseconds = Math.max(delay, retryAfterOf(failure))
      log.warn({ err: failure }, `Rocket.Chat cannot prepare the import at the moment: next attempt in ${milliseconds / 1000} s`)
      await wait(milliseconds, signal)
      delay = Math.min(delay * 2, LONGEST_DELAY)
    }
  }
}

function endpointOf (url: string): URL {
  const base = new URL(url)
  if (!/^https?:$/.test(base.protocol)) throw new TypeError('The URL of Rocket.Chat must begin with http:// or https://')
  if (base.search !== '' || base.hash !== '') throw new TypeError('The URL of Rocket.Chat must have no query and no fragment')
  base.pathname = base.pathname.replace(/\/*$/, '/')
  return new URL('api/v1/getImportFileData', base)
}

async function callOnce (endpoint: URL, headers: { 'X-User-Id': string, 'X-Auth-Token': string }, signal: AbortSignal): Promise<void> {
  // Not fetch: it gives up on a reply that takes more than five minutes to begin, as that to a large file does.
  const { get } = endpoint.protocol === 'https:' ? https : http
  try {
    const reply = await new Promise<IncomingMessage>((resolve, reject) => {
      get(endpoint, { headers, signal }, resolve).on('error', reject)
    })
    demandPrepared(reply, await outlineOf(reply), endpoint, headers['X-Auth-Token'])
  } catch (failure) {
    const code = failure instanceof Error && 'code' in failure ? String(failure.code) : ''
    if (!TRANSIENT_CODES.has(code)) throw failure
    throw new TransientFailure(`Rocket.Chat cannot be reached, or ended the connection (${code})`, undefined, { cause: failure })
  }
}

/** What is kept of a reply. */
interface Outline {
  beginning: string
  end: string
  length: number
}

/** Reads a reply to its end. */
async function outlineOf (reply: IncomingMessage): Promise<Outline> {
  const outline = { beginning: '', end: '', length: 0 }
  for await (const chunk of reply.setEncoding('utf8')) {
    outline.length += chunk.length
    if (outline.beginning.length < BEGINNING_LENGTH) outline.beginning += chunk
    outline.end = (outline.end + chunk).slice(-END_LENGTH)
  }
  return outline
}

function demandPrepared ({ statusCode = 0, headers }: IncomingMessage, outline: Outline, endpoint: URL, authToken: string): void {
  const { error, waiting, step } = membersOf(outline)
  if (statusCode >= 300 && statusCode < 400) {
    throw new Error(`Rocket.Chat replied ${statusCode}, a redirect to ${targetOf(headers.location, endpoint)}: use the URL without a redirect`)
  }
  if (statusCode < 200 || statusCode >= 300) {
    const reason = typeof error === 'string' ? `: ${error.replaceAll(authToken, '...').slice(0, ERROR_LENGTH)}` : ''
    const message = `Rocket.Chat replied ${statusCode}${reason}`
    throw TRANSIENT_STATUSES.has(statusCode) ? new TransientFailure(message, headers['retry-after']) : new Error(message)
  }
  const mediaType = headers['content-type']?.split(';')[0]?.trim().toLowerCase()
  if (mediaType !== 'application/json' || !isSuccess(outline)) {
    throw new Error('The reply is not that of Rocket.Chat\'s API: is its URL right?')
  }
  // Rocket.Chat waits where another call has begun the parse, and says no more than that: the operation's status tells the rest. With a
  // step it is this server's own reply, and nobody parses anything.
  if (waiting === true && step !== undefined) {
    throw new Error('The URL of Rocket.Chat leads back to this server: it must be one at which Rocket.Chat itself replies')
  }
}

// A long reply is not parsed as a whole. Rocket.Chat's own ends with the member `success`.
function isSuccess (outline: Outline): boolean {
  return membersOf(outline).success === true ||
    (outline.length > BEGINNING_LENGTH && /^\s*\{/.test(outline.beginning) && /"success"\s*:\s*true\s*\}\s*$/.test(outline.end))
}

function membersOf ({ beginning }: Outline): { success?: unknown, error?: unknown, waiting?: unknown, step?: unknown } {
  try {
    return Object(JSON.parse(beginning))
  } catch {
    return {}
  }
}

// Without credentials and query, where there may be a secret.
function targetOf (location: string | undefined, endpoint: URL): string {
  const target = location !== undefined && URL.canParse(location, endpoint.href) ? new URL(location, endpoint) : undefined
  return target === undefined ? 'nowhere' : target.origin + target.pathname
}

// RFC 9110, 10.2.3: seconds or a date.
function retryAfterOf ({ retryAfter = '' }: TransientFailure): number {
  const milliseconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - Date.now()
  return Math.min(milliseconds > 0 ? milliseconds : 0, LONGEST_RETRY_AFTER)
}
