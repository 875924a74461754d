import { once } from 'node:events'
import { type IncomingHttpHeaders, type IncomingMessage, get } from 'node:http'
import { type Socket, connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import autocannon from 'autocannon'
import { type Values } from './cases.js'
import { credentials } from './work.js'

// The callers: in another process than the servers.

const HOST = '127.0.0.1'

const PATH = '/getImportFileData'

const HEADERS = { 'x-user-id': credentials.userId, 'x-auth-token': credentials.authToken }

/** How many callers there are at the same time, where it is more than one. */
const CALLERS = 50

/** How much a fast caller reads at a time, in bytes. */
const READ_SIZE = 1024 * 1024

/** How much a slow caller reads at a time, in bytes, and how many milliseconds it waits until the next. */
const TRICKLE = { bytes: 16 * 1024, pause: 100 }

/** A server's route. */
export interface Target {
  port: number
  prefix: string
}

/** A reply as it was received: a long body only as its length. */
export interface Reply {
  status: number
  headers: IncomingHttpHeaders
  length: number
  body: string
}

/** What callers have seen, of so many replies. */
export type Seen = Values & { replies: number }

/** Calls again and again for a time. With an ETag, the replies have to be 304. */
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
    throw new Error(`Of the requests ${errors} failed, and the replies were ${JSON.stringify(statusCodeStats)}`)
  }
  return { replies: expected.count, requestsPerSecond: expected.count / elapsed }
}

/** Reads one reply as fast as possible, and checks no more of it than its status and its end. */
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
  const isWhole = /^content-length/mi.test(head) || tail === '0\r\n\r\n'
  if (!head.startsWith('HTTP/1.1 200 ') || !isWhole) throw new Error(`Not a whole reply: ${head}`)
  return { replies: 1, firstByte, time }
}

/** Reads a reply by each caller at the same time, one of whom reads at a trickle, until all the others have theirs. */
export async function readByCrowd (target: Target): Promise<Seen> {
  let isSlowFed = false
  const slow = open(target, TRICKLE.bytes, () => {
    isSlowFed = true
    setTimeout(TRICKLE.pause).then(() => slow.resume(), () => {})
    return false
  })
  slow.write(requestTo(target))
  const start = performance.now()
  await Promise.all(Array.from({ length: CALLERS - 1 }, () => readOnce(target)))
  const time = performance.now() - start
  if (!isSlowFed || slow.readyState !== 'open') throw new Error('The slow caller was given up')
  slow.destroy()
  return { replies: CALLERS, time }
}

/** Calls once, for the reply itself. */
export async function fetchReply ({ port, prefix }: Target, entityTag?: string): Promise<Reply> {
  const headers = { ...HEADERS, ...(entityTag !== undefined && { 'if-none-match': entityTag }) }
  const [reply]: IncomingMessage[] = await once(get({ host: HOST, port, path: prefix + PATH, headers }), 'response')
  if (reply?.statusCode === undefined) throw new Error('There is no reply')
  let length = 0
  let body = ''
  for await (const piece of reply.setEncoding('utf8')) {
    length += Buffer.byteLength(piece)
    if (length < READ_SIZE) body += piece
  }
  return { status: reply.statusCode, headers: reply.headers, length, body: length < READ_SIZE ? body : '' }
}

// By a bare socket: Node.js's own client would take as much of the machine as the server.
function open ({ port }: Target, size: number, onPiece: (piece: Buffer) => boolean): Socket {
  const buffer = Buffer.allocUnsafe(size)
  const callback = (length: number) => onPiece(buffer.subarray(0, length))
  return connect({ host: HOST, port, noDelay: true, onread: { buffer, callback } })
}

function requestTo ({ prefix }: Target): string {
  const headers = Object.entries({ host: HOST, connection: 'close', ...HEADERS }).map(([name, value]) => `${name}: ${value}\r\n`)
  return `GET ${prefix}${PATH} HTTP/1.1\r\n${headers.join('')}\r\n`
}
