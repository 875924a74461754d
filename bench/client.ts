import { once } from 'node:events'
import { type IncomingHttpHeaders, type IncomingMessage, get } from 'node:http'
import { type Socket, connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import autocannon from 'autocannon'
import type { Values } from './cases.js'
import { credentials } from './work.js'

// The callers. They run in another process than the servers.

const HOST = '127.0.0.1'

const PATH = '/getImportFileData'

const HEADERS = { 'x-user-id': credentials.userId, 'x-auth-token': credentials.authToken }

/** The number of concurrent callers. */
const CALLERS = 50

/** The read size of a fast caller, in bytes. */
const READ_SIZE = 1024 * 1024

/** The read size of a slow caller in bytes, and its pause between two reads in milliseconds. */
const TRICKLE = { bytes: 16 * 1024, pause: 100 }

/** The route to call. */
export interface Target {
  port: number
  prefix: string
}

/** A reply. A long body is not kept, only its length. */
export interface Reply {
  status: number
  headers: IncomingHttpHeaders
  length: number
  body: string
}

/** The callers' figures, and the number of replies that they come from. */
export type Seen = Values & { replies: number }

/** Calls repeatedly for some time. With an ETag, the replies must be 304. */
export async function callFor ({ port, prefix }: Target, seconds: number, entityTag?: string): Promise<Seen> {
  const start = performance.now()
  const { errors, statusCodeStats } = await autocannon({
    url: `http://${HOST}:${port}${prefix}${PATH}`,
    headers: { ...HEADERS, ...(entityTag !== undefined && { 'if-none-match': entityTag }) },
    connections: CALLERS,
    duration: seconds,
    sampleInt: 100
  })
  const elapsed = (performance.now() - start) / 1000
  const { [entityTag === undefined ? '200' : '304']: expected, ...others } = statusCodeStats ?? {}
  if (expected?.count === undefined || errors > 0 || Object.keys(others).length > 0) {
    throw new Error(`${errors} requests failed; statuses of the replies: ${JSON.stringify(statusCodeStats)}`)
  }
  return { replies: expected.count, requestsPerSecond: expected.count / elapsed }
}

/** Reads one reply as fast as possible. Checks only its status and its end. */
export async function readOnce (target: Target): Promise<Seen> {
  let start = 0
  let firstByte = 0
  let head = ''
  let tail = ''
  const socket = open(target, READ_SIZE, piece => {
    if (head === '') {
      firstByte = performance.now() - start
      head = piece.toString('latin1', 0, 1024)
    }
    tail = (tail + piece.toString('latin1', Math.max(piece.length - 5, 0))).slice(-5)
    return true
  })
  await once(socket, 'connect')
  start = performance.now()
  socket.write(requestTo(target))
  await once(socket, 'end')
  const time = performance.now() - start
  const isComplete = /^content-length/mi.test(head) || tail === '0\r\n\r\n'
  if (!head.startsWith('HTTP/1.1 200 ') || !isComplete) throw new Error(`Failed or incomplete reply: ${head}`)
  return { replies: 1, firstByte, time }
}

/** Has all callers read a reply concurrently. One of them is slow: it stops when the others have finished. */
export async function readByCrowd (target: Target): Promise<Seen> {
  let hasSlowRead = false
  const slow = open(target, TRICKLE.bytes, () => {
    hasSlowRead = true
    setTimeout(TRICKLE.pause).then(() => slow.resume(), () => {})
    return false
  })
  slow.write(requestTo(target))
  const start = performance.now()
  await Promise.all(Array.from({ length: CALLERS - 1 }, () => readOnce(target)))
  const time = performance.now() - start
  if (!hasSlowRead || slow.readyState !== 'open') throw new Error('The server dropped the slow caller')
  slow.destroy()
  return { replies: CALLERS, time }
}

/** Makes one call, and returns the reply. */
export async function fetchReply ({ port, prefix }: Target, entityTag?: string): Promise<Reply> {
  const headers = { ...HEADERS, ...(entityTag !== undefined && { 'if-none-match': entityTag }) }
  const [reply]: IncomingMessage[] = await once(get({ host: HOST, port, path: prefix + PATH, headers }), 'response')
  if (reply?.statusCode === undefined) throw new Error('No reply')
  let length = 0
  let body = ''
  for await (const piece of reply.setEncoding('utf8')) {
    length += Buffer.byteLength(piece)
    if (length < READ_SIZE) body += piece
  }
  return { status: reply.statusCode, headers: reply.headers, length, body: length < READ_SIZE ? body : '' }
}

// A plain socket, because Node.js's HTTP client would need as much CPU time as the server.
function open ({ port }: Target, size: number, onPiece: (piece: Buffer) => boolean): Socket {
  const buffer = Buffer.allocUnsafe(size)
  const callback = (length: number) => onPiece(buffer.subarray(0, length))
  return connect({ host: HOST, port, noDelay: true, onread: { buffer, callback } })
}

function requestTo ({ prefix }: Target): string {
  const headers = Object.entries({ host: HOST, connection: 'close', ...HEADERS }).map(([name, value]) => `${name}: ${value}\r\n`)
  return `GET ${prefix}${PATH} HTTP/1.1\r\n${headers.join('')}\r\n`
}
