import { Readable } from 'node:stream'
import { type FastifyReply } from 'fastify'
import { type Call, isDisconnected, onClose } from '../call.js'
import { JSON_TYPE, sendJson } from '../replies.js'
import { nextTurn } from './turns.js'

/** How many characters a chunk has. */
const CHUNK_LENGTH = 64 * 1024

/** How many characters, and how many records, are written in a turn of the event loop. */
const CHARACTERS_PER_TURN = 512 * 1024
const RECORDS_PER_TURN = 2000

/** The text of a reply: sent whole, with a content-length, when it fits in one chunk, otherwise as a stream of chunks. */
export class Output {
  #text = ''
  #stream: Readable | undefined
  #isWanted = true
  #resume = (): void => {}
  #isClosed = false
  #shareOfTurn = 0
  /** Whether a chunk was sent in this turn. */
  isSending = false

  /** @param writeTimeout milliseconds that the caller may leave sent data unread */
  constructor (private readonly reply: FastifyReply, private readonly call: Call, private readonly writeTimeout: number) {}

  /** Whether a part of the reply has been sent. */
  get isStreamed (): boolean { return this.#stream !== undefined }

  /** Whether enough was written in this turn of the event loop. */
  get isTurnOver (): boolean { return this.#shareOfTurn >= 1 }

  /** Adds text, which was made from this many records. Throws when the call is aborted. */
  write (text: string, records = 0): void {
    this.call.signal.throwIfAborted()
    this.#text += text
    this.#shareOfTurn += Math.max(text.length / CHARACTERS_PER_TURN, records / RECORDS_PER_TURN)
    if (this.#text.length < CHUNK_LENGTH) return
    this.#stream ??= this.#startStream()
    this.#isWanted = this.#stream.push(this.#text)
    this.isSending = true
    this.#text = ''
  }

  /** Waits until the caller wants more, and for the next turn of the event loop. Throws when the reply has ended. */
  async nextTurn (): Promise<void> {
    this.#shareOfTurn = 0
    this.isSending = false
    if (!this.#isWanted && !this.#isClosed) await new Promise<void>(resolve => { this.#resume = resolve })
    await nextTurn()
    if (this.#isClosed) throw new Error('The reply has ended')
  }

  /** Sends the rest. */
  end (): FastifyReply {
    if (this.#stream === undefined) return sendJson(this.reply, this.#text)
    this.#stream.push(this.#text)
    this.#stream.push(null)
    return this.reply
  }

  /** Breaks the connection, unless the reply has ended. */
  breakOff (failure: unknown): FastifyReply {
    if (this.#isClosed || isDisconnected(this.reply)) return this.reply
    this.reply.log.error({ err: failure }, 'The selection was broken off: the caller received incomplete JSON')
    breakConnection(this.reply)
    return this.reply
  }

  #startStream (): Readable {
    const read = () => {
      this.#isWanted = true
      this.#resume()
    }
    // A reply may end early: the caller disconnects, or a hook of the host throws or sends something else.
    onClose(this.reply, () => {
      this.#isClosed = true
      this.#resume()
    })
    const stream = new Readable({ highWaterMark: CHUNK_LENGTH, read })
    dropWhenUnread(this.reply, this.writeTimeout)
    this.reply.type(JSON_TYPE).send(stream)
    return stream
  }
}

// The end of an HTTP/1.0 reply, and of one with `Connection: close` behind some proxies, is the end of the connection. If the connection
// were closed properly, the reply would look complete, so it is reset. Only TCP can be reset.
function breakConnection ({ raw }: FastifyReply): void {
  // An HTTP/2 stream that is destroyed without an error looks complete.
  const isHttp2 = 'stream' in raw
  const { socket } = raw
  if (!isHttp2 && socket?.remoteAddress !== undefined && !('encrypted' in socket)) socket.resetAndDestroy()
  raw.destroy(isHttp2 ? new Error('The reply is broken off') : undefined)
}

// The socket's timer restarts whenever bytes are written, so a slow reader is not dropped.
function dropWhenUnread (reply: FastifyReply, writeTimeout: number): void {
  const { raw, log } = reply
  const { socket } = raw
  const timeout = socket?.timeout ?? 0
  raw.setTimeout(writeTimeout, () => {
    // With nothing left to send, the store is slow, and not the caller.
    if (raw.writableLength === 0) return
    log.warn({ writeTimeout }, 'The caller has stopped reading: the connection is dropped')
    breakConnection(reply)
  })
  // Before Node.js sets the timer of a keep-alive connection.
  raw.prependOnceListener('finish', () => { if (socket?.timeout === writeTimeout) socket.setTimeout(timeout) })
}
