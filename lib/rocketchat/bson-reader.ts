// Decoding documents into objects takes most of the time of a large selection. So the driver hands their bytes over as they came,
// and this file reads from them no more than the reply needs (https://bsonspec.org, version 1.1).

/** BSON's numbers for the kinds of value that a reply can show, and for those that are longer than a number says. */
const DOUBLE = 0x01
const STRING = 0x02
const DOCUMENT = 0x03
const ARRAY = 0x04
const BINARY = 0x05
const UNDEFINED = 0x06
const BOOLEAN = 0x08
const NULL = 0x0a
const REGEXP = 0x0b
const DB_POINTER = 0x0c
const CODE = 0x0d
const SYMBOL = 0x0e
const CODE_WITH_SCOPE = 0x0f
const INT32 = 0x10
const INT64 = 0x12

/** The length in bytes of the kinds of value that always have the same. */
const FIXED_LENGTHS: Readonly<Record<number, number>> = {
  [DOUBLE]: 8,
  [UNDEFINED]: 0,
  0x07: 12, // ObjectId
  [BOOLEAN]: 1,
  0x09: 8, // date
  [NULL]: 0,
  [INT32]: 4,
  0x11: 8, // timestamp
  [INT64]: 8,
  0x13: 16, // Decimal128
  0x7f: 0, // MaxKey
  0xff: 0 // MinKey
}

/** Stands for a value of a kind that no reply shows. */
const OTHER = Object.freeze({})

/**
 * A function that reads some fields of a document that is embedded in another.
 *
 * It takes the outer document's bytes, and gives the fields with the values that the driver's own decoding gives: text, numbers,
 * booleans, null, and lists of these; undefined for a field that is not there. A value of any other kind is an object without
 * members. It throws a RangeError when the bytes are not BSON.
 *
 * @param embedded the name of the embedded document
 * @param fields the names of the fields
 */
export function fieldReader (embedded: string, fields: readonly string[]): (bson: Buffer) => Record<string, unknown> {
  const outerName = Buffer.from(embedded)
  const names = fields.map(field => ({ field, bytes: Buffer.from(field) }))

  // An object of one shape for all is filled faster than one that grows.
  const none: Record<string, unknown> = Object.fromEntries(fields.map(field => [field, undefined]))

  return bson => {
    const found = { ...none }
    const outer = new Elements(bson, 0)
    while (outer.next()) {
      if (outer.type !== DOCUMENT || !outer.isNamed(outerName)) continue
      const inner = new Elements(bson, outer.start)
      while (inner.next()) {
        for (const { field, bytes } of names) if (inner.isNamed(bytes)) found[field] = inner.value()
      }
    }
    return found
  }
}

/** Walks through the elements of a document or of an array. */
class Elements {
  /** The kind of the element's value. */
  type = 0
  /** Where its value begins. */
  start = 0

  readonly #bson: Buffer
  readonly #end: number
  #nameStart = 0
  #next: number

  constructor (bson: Buffer, start: number) {
    this.#bson = bson
    this.#end = start + bson.readInt32LE(start) - 1
    this.#next = start + 4
  }

  /** Goes to the next element; false when there is none. */
  next (): boolean {
    if (this.#next >= this.#end) return false
    this.type = this.#bson.readUInt8(this.#next)
    this.#nameStart = this.#next + 1
    this.start = this.#afterZero(this.#nameStart)
    this.#next = this.start + this.#length()
    if (this.#next < this.start) throw new RangeError('A document of the database has a value of a negative length')
    return true
  }

  /** Whether the element has this name. */
  isNamed (name: Buffer): boolean {
    if (this.start - this.#nameStart - 1 !== name.length) return false
    const bson = this.#bson
    const start = this.#nameStart
    for (let index = 0; index < name.length; index++) if (bson[start + index] !== name[index]) return false
    return true
  }

  /** The element's value. */
  value (): unknown {
    switch (this.type) {
      case STRING:
      case SYMBOL: return this.#bson.toString('utf8', this.start + 4, this.#next - 1)
      case BOOLEAN: return this.#bson.readUInt8(this.start) === 1
      case ARRAY: return this.#list()
      case NULL: return null
      case UNDEFINED: return undefined
      case INT32: return this.#bson.readInt32LE(this.start)
      case DOUBLE: return this.#bson.readDoubleLE(this.start)
      case INT64: return safeNumber(this.#bson.readBigInt64LE(this.start))
      default: return OTHER
    }
  }

  #list (): unknown[] {
    const list: unknown[] = []
    const elements = new Elements(this.#bson, this.start)
    while (elements.next()) list.push(elements.value())
    return list
  }

  #length (): number {
    switch (this.type) {
      case STRING:
      case CODE:
      case SYMBOL: return 4 + this.#bson.readInt32LE(this.start)
      case DOCUMENT:
      case ARRAY:
      case CODE_WITH_SCOPE: return this.#bson.readInt32LE(this.start)
      case BINARY: return 5 + this.#bson.readInt32LE(this.start)
      case DB_POINTER: return 16 + this.#bson.readInt32LE(this.start)
      case REGEXP: return this.#afterZero(this.#afterZero(this.start)) - this.start
      default: return fixedLength(this.type)
    }
  }

  // The end of the bytes ends the name as well; what is read behind it throws.
  #afterZero (position: number): number {
    const bson = this.#bson
    while (bson[position]) position++
    return position + 1
  }
}

// As the driver does, which leaves a number alone that JavaScript cannot hold.
function safeNumber (value: bigint): unknown {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : OTHER
}

function fixedLength (type: number): number {
  const length = FIXED_LENGTHS[type]
  if (length === undefined) throw new RangeError(`A document of the database has a value of the unknown kind ${type}`)
  return length
}
