import { once } from 'node:events'
import { type IncomingMessage, get } from 'node:http'
import { type Socket, connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import autocannon from 'autocannon'
import { credentials } from './work.js'

// What a server is called with, from another process than its own.

const HOST = '127.0.0.1'

const PATH = '/getImportFileData'

const HEADERS = { 'x-user-id': credentials.userId, 'x-auth-token': credentials.authToken }

/** How much a fast caller reads in one go, in bytes. */
const GULP = 1024 * 1024

/** How much a slow caller reads in one go, in bytes, and how many milliseconds it waits until the next. */
const TRICKLE = { bytes: 16 * 1024, pause: 100 }

/** A server's route. */
export interface Target {
  port: number
  prefix: string
}

/** How a target is called for a time. */
export interface CallOptions {
  /** How many callers there are at once. */
  callers: number
  /** For how long, unless `calls` says how often. */
  seconds: number
  calls: number | undefined
  /** The ETag of a reply that they have already, so that the reply is a 304. */
  entityTag?: string
}

/** What callers saw in a time. Latencies in milliseconds, bytes of one reply with its headers. */
export interface Rate {
  replies: number
  requestsPerSecond: number
  latencyP50: number
  latencyP99: number
  bytes: number
}

/** What a caller saw of one reply. Times in milliseconds since the request, bytes with the headers. */
export interface Reading {
  firstByte: number
  time: number
  bytes: number
}

/** What a reply is. */
export interface Inspected {
  length: number
  json: unknown
  entityTag: string | undefined
}

/** Calls again and again. */
export async function callFor ({ port, prefix }: Target, { callers, seconds, calls, entityTag }: CallOptions): Promise<Rate> {
  const latencies: number[] = []
  let bytes = 0
  let refused = 0
  const start = performance.now()
  const { errors } = await new Promise<autocannon.Result>((resolve, reject) => {
    const instance = autocannon({
      url: `http://${HOST}:${port}${prefix}${PATH}`,
      headers: { ...HEADERS, ...(entityTag !== undefined && { 'if-none-match': entityTag }) },
      connections: callers,
      ...(calls === undefined ? { duration: seconds } : { amount: calls }),
      sampleInt: 100
    }, (error, result) => error ? reject(error) : resolve(result))
    instance.on('response', (_client, statusCode, resBytes, latency) => {
      if (statusCode !== (entityTag === undefined ? 200 : 304)) refused++
      latencies.push(latency)
      bytes = resBytes
    })
  })
  if (errors + refused > 0) throw new Error(`Of ${latencies.length} requests ${errors} failed and ${refused} were refused`)
  const elapsed = (performance.now() - start) / 1000
  const sorted = Float64Array.from(latencies).sort()
  return {
    replies: sorted.length,
    requestsPerSecond: sorted.length / elapsed,
    latencyP50: sorted[Math.floor(sorted.length * 0.5)] ?? NaN,
    latencyP99: sorted[Math.floor(sorted.length * 0.99)] ?? NaN,
    bytes
  }
}

/** Reads one reply as fast as can be, and looks at none of it but its status and its end. */
export async function readOnce (target: Target): Promise<Reading> {
  let start = 0
  let firstByte = 0
  let bytes = 0
  let head = ''
  let tail = ''
  const socket = open(target, GULP, piece => {
    if (bytes === 0) {
      firstByte = performance.now() - start
      head = piece.toString('latin1', 0, 1024)
    }
    bytes += piece.length
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
  return { firstByte, time, bytes }
}

/** Reads as many replies at once as there are callers, the last of whom reads at a trickle: until all the others have theirs. */
export async function readByCrowd (target: Target, callers: number): Promise<Reading> {
  let trickled = 0
  const slow = open(target, TRICKLE.bytes, piece => {
    trickled += piece.length
    setTimeout(TRICKLE.pause).then(() => slow.resume(), () => {})
    return false
  })
  slow.write(requestTo(target))
  const start = performance.now()
  const readings = await Promise.all(Array.from({ length: callers - 1 }, () => readOnce(target)))
  const time = performance.now() - start
  if (trickled === 0 || slow.readyState !== 'open') throw new Error('The slow caller was given up')
  slow.destroy()
  const firstBytes = readings.map(({ firstByte }) => firstByte).sort((a, b) => a - b)
  const [{ bytes } = { bytes: NaN }] = readings
  return { firstByte: firstBytes[Math.floor(firstBytes.length / 2)] ?? NaN, time, bytes }
}

/** One reply: its length in bytes, and its JSON if it is a short one. */
export async function inspect ({ port, prefix }: Target): Promise<Inspected> {
  const sent = get({ host: HOST, port, path: prefix + PATH, headers: HEADERS, agent: false })
  const [reply]: IncomingMessage[] = await once(sent, 'response')
  let length = 0
  let text = ''
  for await (const piece of reply?.setEncoding('utf8') ?? []) {
    length += Buffer.byteLength(piece)
    if (length < GULP) text += piece
  }
  return { length, json: length < GULP ? JSON.parse(text) : undefined, entityTag: reply?.headers.etag }
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
