/** The address of the API, relative to the page. */
const ADDRESS = 'api/v1/getImportFileData'

/** Statuses of transient failures: of a rate limit, a proxy or the database. */
const TRANSIENT_STATUSES = new Set([429, 502, 503, 504])

/** The number of bytes from which the progress of a reply is reported, and the milliseconds between two reports. */
const LONG_REPLY = 250_000
const REPORT_INTERVAL = 200

/** The longest `Retry-After` that is honoured, in seconds. */
const LONGEST_WAIT = 3600

/** Calls the API with a user's credentials. */
export class Server {
  #headers
  /** The last outcome with an ETag. */
  #known

  /** @param {{ userId: string, token: string }} credentials */
  constructor ({ userId, token }) {
    this.#headers = { 'X-User-Id': userId, 'X-Auth-Token': token }
  }

  /**
   * Makes one call.
   *
   * @param {AbortSignal} signal
   * @param received called with the number of bytes received while a long reply arrives
   * @returns the outcome, an object whose `kind` is one of
   *   `waiting` (the import is being read: `reply`, and `serverTime` in milliseconds since 1970),
   *   `selection` (`reply`, the same object as before if it has not changed),
   *   `busy` (a transient failure: `status`),
   *   `away` (no reply, or an incomplete one: `isBroken`),
   *   `refused` (a failure that a retry does not fix: `status`, `errorType`);
   *   with `retryAfter` in seconds and the server's message `error`, if the server sends them
   */
  async ask (signal, received) {
    // The browser's HTTP cache is not used, because it would write the contents of the import to disk, and in some browsers also the
    // headers in `Vary`, including the token.
    const headers = this.#known ? { ...this.#headers, 'If-None-Match': this.#known.entityTag } : this.#headers
    const response = await orUndefined(fetch(ADDRESS, { headers, cache: 'no-store', signal }))
    if (response === undefined) return { kind: 'away' }
    const text = await orUndefined(textOf(response, received))
    if (text === undefined) return { kind: 'away', isBroken: true }

    const outcome = response.status === 304 && this.#known ? { ...this.#known, ...timesOf(response.headers) } : outcomeOf(response, text)
    if (outcome.kind === 'refused') this.#known = undefined
    else if (outcome.entityTag) this.#known = outcome
    return outcome
  }
}

async function textOf ({ body }, received) {
  let bytes = 0
  let timer
  const counter = new TransformStream({
    transform (chunk, controller) {
      controller.enqueue(chunk)
      bytes += chunk.length
      // By time and not by bytes, so that all received bytes are reported when a reply stalls.
      if (bytes >= LONG_REPLY) timer ??= setTimeout(report, REPORT_INTERVAL)
    }
  })
  function report () {
    timer = undefined
    received(bytes)
  }
  try {
    // A 304 has no body.
    return await new Response(body?.pipeThrough(counter)).text()
  } finally {
    clearTimeout(timer)
  }
}

// Browsers throw a TypeError for every network error.
function orUndefined (promise) {
  return promise.catch(error => {
    if (error instanceof TypeError) return undefined
    throw error
  })
}

function outcomeOf ({ status, headers }, text) {
  const reply = parse(text)
  const { error, errorType } = reply ?? {}
  if (status === 200) {
    const known = { reply, entityTag: headers.get('ETag'), ...timesOf(headers) }
    if (reply?.waiting === true) return { kind: 'waiting', ...known }
    if (Array.isArray(reply?.users)) return { kind: 'selection', ...known }
  }
  if (TRANSIENT_STATUSES.has(status)) return { kind: 'busy', status, error, ...timesOf(headers) }
  return { kind: 'refused', status, error, errorType }
}

function timesOf (headers) {
  return { retryAfter: secondsOf(headers.get('Retry-After')), serverTime: Date.parse(headers.get('Date')) || Date.now() }
}

function parse (text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

// RFC 9110, section 10.2.3: seconds or a date.
function secondsOf (retryAfter) {
  if (retryAfter === null) return undefined
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : Math.ceil((Date.parse(retryAfter) - Date.now()) / 1000)
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(seconds, 1), LONGEST_WAIT)
}
