import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { type Prepare } from '../lib/index.js'

/** How many characters of a reply are looked at; all the others are read, and let go. */
const BEGINNING = 4096

/** How much of an error's text is repeated. */
const ERROR_LENGTH = 300

/**
 * A `prepare` for a Rocket.Chat: it has that server parse the uploaded file, by calling its own `getImportFileData` in the
 * caller's name. The parse runs inside that request, so the import is prepared when the reply has come to its end. Closing the
 * server ends the request, but not the parse.
 *
 * @param url where Rocket.Chat itself is reached, such as `http://rocketchat:3000`: not the address under which its
 *   `getImportFileData` is routed to this server
 * @throws TypeError when that is no URL, or not one of HTTP or HTTPS
 */
export function prepareByRocketChat (url: string): Prepare {
  const endpoint = new URL('api/v1/getImportFileData', url.endsWith('/') ? url : `${url}/`)
  if (!/^https?:$/.test(endpoint.protocol)) throw new TypeError('The URL of Rocket.Chat has to begin with http:// or https://')

  return async (_operation, { credentials: { userId, authToken }, signal }) => {
    // Not fetch: it gives a reply up that takes more than five minutes to begin, as that to a large file does.
    const { get } = endpoint.protocol === 'https:' ? https : http
    const headers = { 'X-User-Id': userId, 'X-Auth-Token': authToken }
    const reply = await new Promise<IncomingMessage>((resolve, reject) => {
      get(endpoint, { headers, signal }, resolve).on('error', reject)
    })
    demandPrepared(reply, await beginningOf(reply), authToken)
  }
}

/** Reads a reply to its end, and keeps its beginning. */
async function beginningOf (reply: IncomingMessage): Promise<string> {
  let beginning = ''
  for await (const chunk of reply.setEncoding('utf8')) {
    if (beginning.length < BEGINNING) beginning += chunk
  }
  return beginning
}

function demandPrepared ({ statusCode, headers }: IncomingMessage, text: string, authToken: string): void {
  const { error, waiting, step } = membersOf(text)
  if (statusCode !== 200) {
    const reason = typeof error === 'string' ? `: ${error.replaceAll(authToken, '...').slice(0, ERROR_LENGTH)}` : ''
    throw new Error(`Rocket.Chat replied ${statusCode}${reason}`)
  }
  if (!headers['content-type']?.startsWith('application/json')) {
    throw new Error('What replied is not Rocket.Chat\'s API: is its URL right?')
  }
  // Rocket.Chat waits where another call has begun the parse, and says no more than that: the operation's status tells the
  // rest. With a step it is this server's own reply, and nobody parses anything.
  if (waiting === true && step !== undefined) {
    throw new Error('The URL of Rocket.Chat leads back to this server: it has to be one at which Rocket.Chat itself replies')
  }
}

function membersOf (text: string): { error?: unknown, waiting?: unknown, step?: unknown } {
  try {
    return Object(JSON.parse(text))
  } catch {
    return {}
  }
}
