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

type Found = Record<string, unknown>

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
export function fieldReader (embedded: string, fields: readonly string[]): (bson: Buffer) => Found {
  const outerName = Buffer.from(embedded)
  const names = fields.map(field => ({ field, bytes: Buffer.from(field) }))

  // An object of one shape for all is filled faster than one that grows.
  const none: Found = Object.fromEntries(fields.map(field => [field, undefined]))

  function readFields (bson: Buffer, start: number, found: Found): void {
    const end = endOf(bson, start)
    for (let at = start + 4; at < end;) {
      const type = bson.readUInt8(at)
      const name = at + 1
      const value = afterZero(bson, name)
      at = afterValue(bson, type, value)
      for (const { field, bytes } of names) if (isNamed(bson, name, value, bytes)) found[field] = valueOf(bson, type, value, at)
    }
  }

  return bson => {
    const found = { ...none }
    const end = endOf(bson, 0)
    for (let at = 4; at < end;) {
      const type = bson.readUInt8(at)
      const name = at + 1
      const value = afterZero(bson, name)
      at = afterValue(bson, type, value)
      if (type === DOCUMENT && isNamed(bson, name, value, outerName)) readFields(bson, value, found)
    }
    return found
  }
}

// Plain functions over positions: an object for each element would double what a record leaves to the garbage collector. And three
// loops alike: one function that calls itself for the inner document takes half as long again.

function listOf (bson: Buffer, start: number): unknown[] {
  const list: unknown[] = []
  const end = endOf(bson, start)
  for (let at = start + 4; at < end;) {
    const type = bson.readUInt8(at)
    const value = afterZero(bson, at + 1)
    at = afterValue(bson, type, value)
    list.push(valueOf(bson, type, value, at))
  }
  return list
}

function valueOf (bson: Buffer, type: number, start: number, end: number): unknown {
  switch (type) {
    case STRING:
    case SYMBOL: return bson.toString('utf8', start + 4, end - 1)
    case BOOLEAN: return bson.readUInt8(start) === 1
    case ARRAY: return listOf(bson, start)
    case NULL: return null
    case UNDEFINED: return undefined
    case INT32: return bson.readInt32LE(start)
    case DOUBLE: return bson.readDoubleLE(start)
    case INT64: return safeNumber(bson.readBigInt64LE(start))
    default: return OTHER
  }
}

// As the driver does, which leaves a number alone that JavaScript cannot hold.
function safeNumber (value: bigint): unknown {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : OTHER
}

// Where the elements of the document or array that begins here end.
function endOf (bson: Buffer, start: number): number {
  return start + bson.readInt32LE(start) - 1
}

function isNamed (bson: Buffer, start: number, value: number, name: Buffer): boolean {
  if (value - start - 1 !== name.length) return false
  for (let index = 0; index < name.length; index++) if (bson[start + index] !== name[index]) return false
  return true
}

function afterValue (bson: Buffer, type: number, start: number): number {
  const end = start + lengthOf(bson, type, start)
  if (end < start) throw new RangeError('A document of the database has a value of a negative length')
  return end
}

function lengthOf (bson: Buffer, type: number, start: number): number {
  switch (type) {
    case STRING:
    case CODE:
    case SYMBOL: return 4 + bson.readInt32LE(start)
    case DOCUMENT:
    case ARRAY:
    case CODE_WITH_SCOPE: return bson.readInt32LE(start)
    case BINARY: return 5 + bson.readInt32LE(start)
    case DB_POINTER: return 16 + bson.readInt32LE(start)
    case REGEXP: return afterZero(bson, afterZero(bson, start)) - start
    default: return fixedLength(type)
  }
}

function fixedLength (type: number): number {
  const length = FIXED_LENGTHS[type]
  if (length === undefined) throw new RangeError(`A document of the database has a value of the unknown kind ${type}`)
  return length
}

// The end of the bytes ends the name as well; what is read behind it throws.
function afterZero (bson: Buffer, position: number): number {
  while (bson[position]) position++
  return position + 1
}
