/** How much makes a piece: characters, which in most imports are bytes. */
const PIECE_LENGTH = 64 * 1024

/** How much makes one before a rest, when others go out already: what stays is to be little. */
const PIECE_LENGTH_AT_REST = 16 * 1024

const NO_BYTES = Buffer.alloc(0)

/**
 * Gathers text, and cuts it into pieces of about 64 KiB, which stay here until they are taken.
 *
 * A reply to one of many callers is at rest for most of its time. What it holds on to meanwhile, the garbage collector takes for
 * something that stays, and lets lie for long when it is done with: so it is no more than the same bytes all the while.
 */
export class PieceWriter {
  readonly #pieces: Array<Buffer | string> = []
  #hasCut = false
  #text = ''
  /** What was written before the last rest: so many bytes of this buffer, which is made at the first. */
  #kept = NO_BYTES
  #keptLength = 0

  /** How many pieces are ready to be taken. */
  get ready (): number {
    return this.#pieces.length
  }

  /** Whether the text has come to more than a piece. */
  get hasCut (): boolean {
    return this.#hasCut
  }

  /** Adds to the text. */
  write (text: string): void {
    this.#text += text
    if (this.#keptLength + this.#text.length >= PIECE_LENGTH) this.#cut()
  }

  /** Gets ready for a rest: text that is put together of many parts takes several times the memory of its bytes. */
  rest (): void {
    const length = this.#keptLength + Buffer.byteLength(this.#text)
    if (length >= (this.ready > 0 ? PIECE_LENGTH_AT_REST : PIECE_LENGTH)) return this.#cut()
    if (this.#kept.length === 0) this.#kept = Buffer.allocUnsafeSlow(PIECE_LENGTH)
    this.#keptLength += this.#kept.write(this.#text, this.#keptLength)
    this.#text = ''
  }

  /** Makes the last piece: text, when it is the only one. */
  end (): void {
    this.#pieces.push(this.#keptLength > 0 ? this.#takeBytes() : this.#text)
  }

  /** The next piece, or undefined when none is ready. */
  take (): Buffer | string | undefined {
    return this.#pieces.shift()
  }

  #cut (): void {
    this.#pieces.push(this.#takeBytes())
    this.#hasCut = true
  }

  #takeBytes (): Buffer {
    const bytes = Buffer.from(this.#text)
    const all = this.#keptLength > 0 ? Buffer.concat([this.#kept.subarray(0, this.#keptLength), bytes]) : bytes
    this.#text = ''
    this.#keptLength = 0
    return all
  }
}
