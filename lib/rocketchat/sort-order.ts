import { bsonType, plainValue } from '../plain-value.js'

/** What is compared of a value: the place of its type, then what tells two values of the type apart. */
type SortKey = number | bigint | string | readonly SortKey[]

/** The types in MongoDB's order (its manual: "Comparison/Sort Order"). */
const place = {
  MinKey: 0,
  emptyArray: 1,
  null: 2,
  number: 3,
  text: 4,
  document: 5,
  array: 6,
  Binary: 7,
  ObjectId: 8,
  boolean: 9,
  date: 10,
  Timestamp: 11,
  regularExpression: 12,
  Code: 13,
  MaxKey: 14
} as const

/**
 * The document that `sort({ ts: -1 })` of MongoDB puts first, whatever the type of each `ts`. The first of several that are equal.
 */
export function newestByTs<Document extends { ts?: unknown }> (documents: readonly Document[]): Document | undefined {
  let newest: { document: Document, key: SortKey } | undefined
  for (const document of documents) {
    const key = descendingKey(document.ts)
    if (newest === undefined || compare(key, newest.key) > 0) newest = { document, key }
  }
  return newest?.document
}

// In descending order an array has the place of its greatest element.
function descendingKey (value: unknown): SortKey {
  if (!Array.isArray(value)) return keyOf(value)
  return value.map(keyOf).reduce((greatest, key) => compare(key, greatest) > 0 ? key : greatest, [place.emptyArray])
}

function keyOf (value: unknown): readonly SortKey[] {
  const plain = plainValue(value)
  switch (typeof plain) {
    case 'number':
    case 'bigint': return numberKey(place.number, plain)
    case 'string': return bsonType(value) === 'Decimal128' ? numberKey(place.number, Number(plain)) : [place.text, bytesOf(plain)]
    case 'boolean': return [place.boolean, Number(plain)]
    case 'object': return plain === null ? [place.null] : objectKey(plain)
    default: return [place.null]
  }
}

function objectKey (value: object): readonly SortKey[] {
  if (value instanceof Date) return numberKey(place.date, value.getTime())
  if (value instanceof RegExp) return [place.regularExpression, bytesOf(value.source), value.flags]
  if (value instanceof Uint8Array) return [place.Binary, value.length, 0, Buffer.from(value).toString('latin1')]
  const members = Object(value)
  const type = bsonType(value)
  switch (type) {
    case 'MinKey':
    case 'MaxKey': return [place[type]]
    case 'ObjectId': return [place.ObjectId, String(value)]
    case 'Timestamp': return [place.Timestamp, BigInt(String(value))]
    case 'Code': return [place.Code, bytesOf(members.code)]
    case 'BSONRegExp': return [place.regularExpression, bytesOf(members.pattern), members.options]
    case 'Binary': return [place.Binary, members.position, members.sub_type, Buffer.from(members.buffer).toString('latin1', 0, members.position)]
    default: return [Array.isArray(value) ? place.array : place.document, ...Object.entries(value).map(memberKey)]
  }
}

// MongoDB compares the types of two members before their names.
function memberKey ([name, value]: [string, unknown]): SortKey {
  const key = keyOf(value)
  return [key[0]!, bytesOf(name), key]
}

// NaN comes before all other numbers.
function numberKey (type: number, value: number | bigint): readonly SortKey[] {
  return Number.isNaN(value) ? [type] : [type, value]
}

// MongoDB compares text by its bytes in UTF-8; latin1 makes a character of each.
function bytesOf (text: string): string {
  return Buffer.from(text).toString('latin1')
}

function compare (one: SortKey, other: SortKey): number {
  if (typeof one !== 'object' || typeof other !== 'object') return Number(one > other) - Number(one < other)
  for (let index = 0; index < Math.min(one.length, other.length); index++) {
    const difference = compare(one[index]!, other[index]!)
    if (difference !== 0) return difference
  }
  return one.length - other.length
}
