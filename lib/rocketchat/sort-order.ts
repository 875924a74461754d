import { bsonType, plainValue } from '../plain-value.js'

/** What is compared of a value, part by part: the place of its type, then what distinguishes two values of that type. */
type SortKey = ReadonlyArray<number | bigint | string | boolean>

/** The types in MongoDB's order (its manual: "Comparison/Sort Order"). */
const TYPES = [
  'MinKey', 'empty array', 'null', 'number', 'string', 'object', 'array', 'Binary', 'ObjectId', 'boolean', 'date', 'Timestamp', 'regex', 'Code',
  'MaxKey'
] as const

/** The end of an object or array: it comes before any other member. */
const END = -1

/** Compares two documents for `Array.prototype.sort` as MongoDB's `sort({ ts: -1 })` does, whatever the type of each `ts`. */
export const newestFirst = (one: { ts?: unknown }, other: { ts?: unknown }): number => compare(descendingKey(other.ts), descendingKey(one.ts))

// In descending order an array has the place of its greatest element.
function descendingKey (value: unknown): SortKey {
  return Array.isArray(value) ? value.map(keyOf).sort(compare).at(-1) ?? keyAs('empty array') : keyOf(value)
}

function keyOf (value: unknown): SortKey {
  if (value instanceof Date) return numberKey('date', value.getTime())
  const plain = plainValue(value)
  const type = bsonType(value)
  if (plain === null || plain === undefined) return keyAs('null')
  if (type === 'Long') return numberKey('number', BigInt(String(value)))
  if (typeof plain === 'number' || type === 'Decimal128') return numberKey('number', Number(plain))
  if (typeof plain === 'string') return keyAs('string', bytesOf(plain))
  if (typeof plain === 'boolean') return keyAs('boolean', plain)
  if (plain instanceof RegExp) return keyAs('regex', bytesOf(plain.source), plain.flags)
  if (plain instanceof Uint8Array) return keyAs('Binary', plain.length, 0, bytesOf(plain))
  const { code, pattern, options, position, sub_type: subType, buffer } = Object(plain)
  switch (type) {
    case 'MinKey':
    case 'MaxKey': return keyAs(type)
    case 'ObjectId': return keyAs(type, String(plain))
    case 'Timestamp': return keyAs(type, BigInt(String(plain)))
    case 'Code': return keyAs(type, bytesOf(code))
    case 'BSONRegExp': return keyAs('regex', bytesOf(pattern), options)
    case 'Binary': return keyAs(type, position, subType, bytesOf(buffer.subarray(0, position)))
    default: return keyAs(Array.isArray(plain) ? 'array' : 'object', ...Object.entries(plain).flatMap(memberKey), END)
  }
}

const keyAs = (type: typeof TYPES[number], ...parts: SortKey): SortKey => [TYPES.indexOf(type), ...parts]

// NaN comes before all other numbers.
const numberKey = (type: 'number' | 'date', value: number | bigint) => keyAs(type, !Number.isNaN(value), value)

// MongoDB compares the types of two members before their names.
const memberKey = ([name, value]: [string, unknown]): SortKey => keyOf(value).toSpliced(1, 0, bytesOf(name))

// MongoDB compares text by its bytes in UTF-8. In latin1 each byte is a character.
const bytesOf = (value: string | Uint8Array) => Buffer.from(value).toString('latin1')

function compare (one: SortKey, other: SortKey): number {
  return one.map((part, index) => Number(part > other[index]!) - Number(part < other[index]!)).find(difference => difference !== 0) ?? 0
}
