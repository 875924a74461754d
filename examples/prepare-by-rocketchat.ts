import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { setTimeout } from 'node:timers/promises'
import type { ImportDataStore, ImportOperation, Prepare, PrepareContext } from '../lib/index.js'

/** How many characters of the beginning and of the end of a reply are kept. The rest is read and discarded. */
const BEGINNING_LENGTH = 4096
const END_LENGTH = 64

/** The maximum length of Rocket.Chat's error message in our own. */
const ERROR_LENGTH = 300

/** Milliseconds before the first retry. The delay doubles with each retry, up to `LONGEST_DELAY`. */
const FIRST_DELAY = 1000
const LONGEST_DELAY = 60_000

/** The longest `Retry-After` that is honoured, in milliseconds. */
const LONGEST_RETRY_AFTER = 3_600_000

/** Transient failures: Rocket.Chat, or a proxy in front of it, is busy, restarting or unreachable. */
const TRANSIENT_STATUSES = new Set([408, 425, 429, 502, 503, 504])
const TRANSIENT_CODES = new Set([
  'EAI_AGAIN', 'ECONNABORTED', 'ECONNREFUSED', 'ECONNRESET', 'EHOSTDOWN', 'EHOSTUNREACH', 'ENETDOWN', 'ENETUNREACH', 'ENOTFOUND', 'EPIPE',
  'ETIMEDOUT'
])

/** What is read before a retry. */
type Store = Pick<ImportDataStore, 'latestOperation'>

/** Waits, and rejects when the signal is aborted. */
type Wait = (milliseconds: number, signal: AbortSignal) => Promise<unknown>

/** A failure that is retried, with the value of its `Retry-After`. */
class TransientFailure extends Error {
  constructor (message: string, readonly retryAfter?: string, options?: ErrorOptions) {
    super(message, options)
  }
}

/**
 * A `prepare` that has Rocket.Chat parse the uploaded file: it calls Rocket.Chat's own `getImportFileData` with the caller's
 * credentials. Rocket.Chat parses the file within that request, so the import is prepared when the reply ends.
 *
 * Transient failures, such as a refused connection or a 503, are logged and retried until the server closes. Any other failure is
 * final. There is no retry once the file has been parsed, or its parse has begun: Rocket.Chat then builds the selection in its own
 * memory, so each call could bring it down again. Closing the server aborts the request, but not Rocket.Chat's parse.
 *
 * @param url the URL of Rocket.Chat itself, such as `http://rocketchat:3000`: not one whose `getImportFileData` is routed to this
 *   server
 * @param store read before each retry
 * @param wait waits between two attempts; only tests pass it
 * @throws TypeError if the URL is not HTTP or HTTPS, or has a query or a fragment
 */
export function prepareByRocketChat (
  url: string,
  store: Store,
  wait: Wait = (milliseconds, signal) => setTimeout(milliseconds, undefined, { signal })
): Prepare {
  const endpoint = endpointOf(url)

  return async (operation, context) => {
    const { credentials: { userId, authToken }, signal, log } = context
    const headers = { 'X-User-Id': userId, 'X-Auth-Token': authToken }
    const call = () => callOnce(endpoint, headers, signal)
    const callAgain = async () => { if (await isStillLoaded(operation, store, context)) await call() }
    let delay = FIRST_DELAY
    for (let failure = await transientFailureOf(call()); failure !== undefined; failure = await transientFailureOf(callAgain())) {
      const milliseconds = Math.max(delay, retryAfterOf(failure))
      log.warn({ err: failure }, `Rocket.Chat currently cannot prepare the import: next attempt in ${milliseconds / 1000} s`)
      await wait(milliseconds, signal)
      delay = Math.min(delay * 2, LONGEST_DELAY)
    }
  }
}

/** The transient failure with which an attempt ends, or undefined when it succeeds. Rejects with any other failure. */
function transientFailureOf (attempt: Promise<void>): Promise<TransientFailure | undefined> {
  return attempt.then(() => undefined, failure => {
    if (failure instanceof TransientFailure) return failure
    throw failure
  })
}

/** Whether an operation is the newest, and nothing has begun to parse its file. */
async function isStillLoaded ({ id }: ImportOperation, store: Store, { signal, log }: PrepareContext): Promise<boolean> {
  const latest = await store.latestOperation({ signal, log }).catch((cause): never => {
    throw new TransientFailure('The import operation cannot be read', undefined, { cause })
  })
  if (latest?.id === id && latest.status === 'importer_file_loaded') return true
  log.info({ status: latest?.status }, 'The import operation has changed since: Rocket.Chat is not called again')
  return false
}

/**
 * The URL of Rocket.Chat's own `getImportFileData`.
 *
 * @param url the URL of Rocket.Chat
 * @throws TypeError as `prepareByRocketChat` does
 */
export function endpointOf (url: string): URL {
  const base = new URL(url)
  if (!/^https?:$/.test(base.protocol)) throw new TypeError('The URL of Rocket.Chat must begin with http:// or https://')
  if (base.search !== '' || base.hash !== '') throw new TypeError('The URL of Rocket.Chat must have no query and no fragment')
  base.pathname = base.pathname.replace(/\/*$/, '/')
  return new URL('api/v1/getImportFileData', base)
}

async function callOnce (endpoint: URL, headers: { 'X-User-Id': string, 'X-Auth-Token': string }, signal: AbortSignal): Promise<void> {
  // Not fetch: it times out if a reply takes more than five minutes to begin, as it does for a large file.
  const { get } = endpoint.protocol === 'https:' ? https : http
  try {
    const reply = await new Promise<IncomingMessage>((resolve, reject) => {
      get(endpoint, { headers, signal }, resolve).on('error', reject)
    })
    assertPrepared(reply, await outlineOf(reply), endpoint, headers['X-Auth-Token'])
  } catch (failure) {
    const code = failure instanceof Error && 'code' in failure ? String(failure.code) : ''
    if (!TRANSIENT_CODES.has(code)) throw failure
    throw new TransientFailure(`Rocket.Chat cannot be reached, or ended the connection (${code})`, undefined, { cause: failure })
  }
}

/** The beginning, the end and the length of a reply. */
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

function assertPrepared ({ statusCode = 0, headers }: IncomingMessage, outline: Outline, endpoint: URL, authToken: string): void {
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
  // Rocket.Chat replies `waiting` if another call has started the parse, which is fine. But only this server's replies have a `step`,
  // and then nobody parses the file.
  if (waiting === true && step !== undefined) {
    throw new Error('The URL of Rocket.Chat leads back to this server: it must be one at which Rocket.Chat itself replies')
  }
}

// A long reply is not kept, so its end has to do: Rocket.Chat writes `success` last.
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

// Without credentials and query, which may contain secrets.
function targetOf (location: string | undefined, endpoint: URL): string {
  const target = location !== undefined && URL.canParse(location, endpoint.href) ? new URL(location, endpoint) : undefined
  return target === undefined ? 'nowhere' : target.origin + target.pathname
}

// RFC 9110, section 10.2.3: seconds or a date.
function retryAfterOf ({ retryAfter = '' }: TransientFailure): number {
  const milliseconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - Date.now()
  return Math.min(milliseconds > 0 ? milliseconds : 0, LONGEST_RETRY_AFTER)
}
