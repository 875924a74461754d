/** The address of the API, as seen from the page. */
const ADDRESS = 'api/v1/getImportFileData'

/** Replies that come from what stands before the server, or from its database: asking again helps. */
const PASSING = new Set([429, 502, 503, 504])

/** From how many bytes on a reply is long, so that what has come is reported, and milliseconds between two reports. */
const LONG_REPLY = 250_000
const REPORT_INTERVAL = 200

/** The longest that a server's `Retry-After` is taken at its word, in seconds. */
const LONGEST_WAIT = 3600

/** The server, as it answers somebody with these credentials. */
export class Server {
  #headers
  /** The last outcome that had an ETag. */
  #known

  /** @param {{ userId: string, token: string }} credentials */
  constructor ({ userId, token }) {
    this.#headers = { 'X-User-Id': userId, 'X-Auth-Token': token }
  }

  /**
   * Asks once.
   *
   * @param {AbortSignal} signal
   * @param received called while a long reply comes in, with how many bytes have come
   * @returns what came, as an object whose `kind` is one of
   *   `waiting` (the import is being read: `reply`, and `serverTime` in milliseconds since 1970),
   *   `selection` (`reply`; the same object as before when it has not changed),
   *   `busy` (the server says to come later: `status`),
   *   `away` (no reply; or one that broke off: `isBroken`),
   *   `refused` (`status`, `errorType`: asking again is of no use);
   *   with `retryAfter`, in seconds, where the server says so, and with `error`, the server's own words
   */
  async ask (signal, received) {
    // Browsers make requests conditional by themselves, but by their cache, which is on the disk: all of them keep there what the
    // import contains, and some also the headers that `Vary` names, the token among them. So the browser's cache is not used.
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
      // By time and not by bytes: when a reply stalls, all that has come of it was reported.
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

// A TypeError is what a browser throws for whatever goes wrong on the network.
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
  if (PASSING.has(status)) return { kind: 'busy', status, error, ...timesOf(headers) }
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

// RFC 9110, 10.2.3: seconds, or a date.
function secondsOf (retryAfter) {
  if (retryAfter === null) return undefined
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : Math.ceil((Date.parse(retryAfter) - Date.now()) / 1000)
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(seconds, 1), LONGEST_WAIT)
}
