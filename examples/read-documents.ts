import { TokenParser, TokenType, Tokenizer } from '@streamparser/json'

/** Thrown for a file that is not Extended JSON. The message is to be appended to the file's name. */
export class NotExtendedJson extends Error {}

/** A document as parsed from JSON. Its Extended JSON is not decoded yet. */
export type JsonDocument = Record<string, unknown>

/**
 * Reads the documents of a file one by one: one per line, indented (`mongoexport --pretty`), or in an array (`--jsonArray`, MongoDB
 * Compass). It takes linear time, and holds one document in memory at a time.
 *
 * @param take called with each document; throws if it is not Extended JSON
 * @throws NotExtendedJson with the line and the document
 */
export async function readDocuments (chunks: AsyncIterable<Buffer>, take: (document: JsonDocument) => void): Promise<void> {
  const tokenizer = new DigitTokenizer()
  let parser: TokenParser | undefined
  let line = 1
  let count = 0

  function takeValue ({ value, key }: { value?: unknown, key?: string | number | undefined }): void {
    if (typeof key === 'string' || !isDocument(value)) throw new SyntaxError('not a JSON object')
    take(value)
    count++
  }

  function problemOf (failure: unknown): NotExtendedJson {
    const document = `document ${count + 1}`
    return new NotExtendedJson(`, line ${line}: ` +
      (failure instanceof SyntaxError ? `${failure.message} (${document})` : `not Extended JSON (${document}, ${reasonOf(failure)})`))
  }

  tokenizer.onToken = token => {
    parser ??= parserOf(token.token === TokenType.LEFT_BRACKET, takeValue)
    if (token.token === TokenType.NUMBER && tokenizer.isRounded) writeDecimal(parser, tokenizer.digits)
    else parser.write(token)
  }

  for await (const chunk of chunks) {
    for (let start = 0; start < chunk.length;) {
      // Line by line, so that an error can name the line.
      const end = chunk.indexOf('\n', start) + 1
      const part = chunk.subarray(start, end || chunk.length)
      try {
        tokenizer.write(part)
      } catch (failure) {
        throw problemOf(failure)
      }
      if (end > 0) line++
      start += part.length
    }
  }
  try {
    tokenizer.end()
    parser?.end()
  } catch (failure) {
    throw problemOf(failure instanceof SyntaxError ? failure : new SyntaxError('the file ends here, but the document does not: it is cut off'))
  }
}

/** An error as one short line. */
export function reasonOf (failure: unknown): string {
  return String(failure)
    .replace(/ at chunk position "\d+" \(absolute position "(\d+)"\) in state \w+/, ' at byte $1')
    .replace(/[\p{C}\p{Z}]+/gu, ' ')
    .slice(0, 200)
}

/** A tokenizer that keeps the digits of a number, because a JavaScript number may round them. */
class DigitTokenizer extends Tokenizer {
  digits = ''

  constructor () {
    super({ separator: '', stringBufferSize: 64 * 1024 })
  }

  /** Whether the last number is an integer that a JavaScript number rounds, and a 128-bit decimal (34 digits) does not. */
  get isRounded (): boolean {
    return /^-?\d{16,34}$/.test(this.digits) && !Number.isSafeInteger(Number(this.digits))
  }

  protected override parseNumber (digits: string): number {
    this.digits = digits
    return Number(digits)
  }
}

function parserOf (isArray: boolean, onValue: TokenParser['onValue']): TokenParser {
  const parser = new TokenParser({ separator: '', paths: [isArray ? '$.*' : '$'], keepStack: false })
  parser.onValue = onValue
  return parser
}

function writeDecimal (parser: TokenParser, digits: string): void {
  parser.write({ token: TokenType.LEFT_BRACE, value: '{' })
  parser.write({ token: TokenType.STRING, value: '$numberDecimal' })
  parser.write({ token: TokenType.COLON, value: ':' })
  parser.write({ token: TokenType.STRING, value: digits })
  parser.write({ token: TokenType.RIGHT_BRACE, value: '}' })
}

/** Whether a JSON value is a document or an embedded document, and not an Extended JSON value such as an ObjectId. */
export function isDocument (value: unknown): value is JsonDocument {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  return !Object.keys(value)[0]?.startsWith('$')
}
