import { TokenParser, TokenType, Tokenizer } from '@streamparser/json'

/** A collection's file that is not Extended JSON; the message is what follows the name of the file. */
export class NotExtendedJson extends Error {}

/** A document as it stands in the file: JSON, and not yet Extended JSON. */
export type JsonDocument = Record<string, unknown>

/**
 * Reads the documents of a file one by one: one a line, or anywhere in the text (`mongoexport --pretty`), or as the members of an
 * array (`--jsonArray`, MongoDB Compass). In time that grows with the file, and with one document in memory at a time.
 *
 * @param take gets each document; throws when it is not Extended JSON
 * @throws NotExtendedJson, which names the line and the document
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
      // Line by line, so that the number of a line is known when it is needed.
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

/** What is wrong, in one short line. */
export function reasonOf (failure: unknown): string {
  return String(failure)
    .replace(/ at chunk position "\d+" \(absolute position "(\d+)"\) in state \w+/, ' at byte $1')
    .replace(/[\p{C}\p{Z}]+/gu, ' ')
    .slice(0, 200)
}

/** A tokenizer that shows the digits of a number, which a JavaScript number may round. */
class DigitTokenizer extends Tokenizer {
  digits = ''

  constructor () {
    super({ separator: '', stringBufferSize: 64 * 1024 })
  }

  /** Whether the number that was read last is an integer whose digits are rounded, but not in a decimal of 34 digits. */
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

/** Whether a value of JSON is a document, or an embedded one: an object, and no value of Extended JSON such as an ObjectId. */
export function isDocument (value: unknown): value is JsonDocument {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  return !Object.keys(value)[0]?.startsWith('$')
}
