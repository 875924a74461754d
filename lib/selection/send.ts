import { Readable } from 'node:stream'
import { type FastifyReply } from 'fastify'
import { type Call, hasLeft, onClose } from '../call.js'
import { callInjected } from '../errors.js'
import { JSON_TYPE, sendJson } from '../replies.js'
import { nextTurn } from './turns.js'
import { type Output } from './write.js'

/** How many characters make a chunk. */
const CHUNK_LENGTH = 64 * 1024

/** How many chunks and how many records fill a turn of the event loop. */
const CHUNKS_PER_TURN = 8
const RECORDS_PER_TURN = 2000

/**
 * Sends what `write` writes: whole, with a content-length, when it fits in one chunk, else as a stream.
 *
 * A failure before the first chunk is thrown, so that the reply is a proper error. After it the connection is broken: a reply never
 * looks complete when it is not. Either aborts the signal of the call.
 *
 * @param writeTimeout milliseconds that the caller may leave what is sent unread
 * @throws ServiceUnavailable, or an error of the store's own with a 4xx `statusCode`
 */
export async function sendSelection (
  reply: FastifyReply,
  call: Call,
  writeTimeout: number,
  write: (output: Output) => Promise<void>
): Promise<FastifyReply> {
  const output = new ReplyOutput(reply, call, writeTimeout)
  try {
    await write(output)
    return output.end()
  } catch (failure) {
    call.abort(failure)
    if (!output.isStreamed) return await callInjected(() => { throw failure })
    output.breakOff(failure)
    return reply
  }
}

class ReplyOutput implements Output {
  readonly #reply: FastifyReply
  readonly #call: Call
  readonly #writeTimeout: number
  #text = ''
  #stream: Readable | undefined
  #isWanted = true
  #resume = (): void => {}
  #isClosed = false
  #chunksInTurn = 0
  #recordsInTurn = 0

  constructor (reply: FastifyReply, call: Call, writeTimeout: number) {
    this.#reply = reply
    this.#call = call
    this.#writeTimeout = writeTimeout
  }

  get isStreamed (): boolean {
    return this.#stream !== undefined
  }

  get isSending (): boolean {
    return this.#chunksInTurn > 0
  }

  get isFull (): boolean {
    return this.#chunksInTurn >= CHUNKS_PER_TURN || this.#recordsInTurn >= RECORDS_PER_TURN
  }

  write (text: string, records = 0): void {
    this.#call.signal.throwIfAborted()
    this.#text += text
    this.#recordsInTurn += records
    if (this.#text.length < CHUNK_LENGTH) return
    this.#chunksInTurn++
    this.#stream ??= this.#startStream()
    this.#isWanted = this.#stream.push(this.#text)
    this.#text = ''
  }

  async nextTurn (): Promise<void> {
    this.#chunksInTurn = 0
    this.#recordsInTurn = 0
    if (!this.#isWanted && !this.#isClosed) await new Promise<void>(resolve => { this.#resume = resolve })
    await nextTurn()
    if (this.#isClosed) throw new Error('The reply has ended')
  }

  /** Sends what is left. */
  end (): FastifyReply {
    if (this.#stream === undefined) return sendJson(this.#reply, this.#text)
    this.#stream.push(this.#text)
    this.#stream.push(null)
    return this.#reply
  }

  /** Breaks the connection, unless the reply has ended. */
  breakOff (failure: unknown): void {
    if (this.#isClosed || hasLeft(this.#reply)) return
    this.#reply.log.error({ err: failure }, 'The selection was broken off: what was sent of it is not valid JSON')
    breakConnection(this.#reply)
  }

  #startStream (): Readable {
    const read = () => {
      this.#isWanted = true
      this.#resume()
    }
    const stream = new Readable({ highWaterMark: CHUNK_LENGTH, read })
    // Whatever ends the reply (the caller leaves, a hook of the host throws or sends something else), the reading ends too.
    onClose(this.#reply, () => {
      this.#isClosed = true
      this.#resume()
    })
    dropWhenUnread(this.#reply, this.#writeTimeout)
    this.#reply.type(JSON_TYPE).send(stream)
    return stream
  }
}

// An HTTP/1.0 reply, and one with `Connection: close` behind some proxies, ends where the connection does. So the connection is reset: an
// orderly end would make the reply look complete. Only TCP can be reset.
function breakConnection ({ raw }: FastifyReply): void {
  // An HTTP/2 stream that is destroyed without an error looks as if it had ended.
  const isHttp2 = 'stream' in raw
  const { socket } = raw
  if (!isHttp2 && socket?.remoteAddress !== undefined && !('encrypted' in socket)) socket.resetAndDestroy()
  raw.destroy(isHttp2 ? new Error('The reply is broken off') : undefined)
}

// The timer of the socket starts again whenever bytes are written, so a slow reader is not dropped.
function dropWhenUnread (reply: FastifyReply, writeTimeout: number): void {
  const { raw, log } = reply
  const { socket } = raw
  const timeout = socket?.timeout ?? 0
  raw.setTimeout(writeTimeout, () => {
    // When nothing is left to be read, it is the store that is slow.
    if (raw.writableLength === 0) return
    log.warn({ writeTimeout }, 'The caller has stopped reading: the connection is dropped')
    breakConnection(reply)
  })
  // Before Node.js sets the timer of a connection that is kept alive.
  raw.prependOnceListener('finish', () => { if (socket?.timeout === writeTimeout) socket.setTimeout(timeout) })
}
