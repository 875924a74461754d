import { bsonType, plainValue } from '../plain-value.js'

/** What is compared of a value, part by part: the place of its type, then what distinguishes two values of that type. */
type SortKey = ReadonlyArray<number | bigint | string | boolean>

/** Compares two documents for `Array.prototype.sort` as MongoDB's `sort({ ts: -1 })` does, whatever the type of each `ts`. */
export const newestFirst = (one: { ts?: unknown }, other: { ts?: unknown }): number => compare(descendingKey(other.ts), descendingKey(one.ts))

// In descending order an array has the place of its greatest element. An empty one comes between MinKey and null.
const descendingKey = (value: unknown): SortKey => [value].flat().map(keyOf).sort(compare).at(-1) ?? [1]

// The first part is the place of the type in MongoDB's order (its manual: "Comparison/Sort Order").
function keyOf (value: unknown): SortKey {
  if (value === null || value === undefined) return [2]
  const plain = Object(plainValue(value))
  // The plain value of these may be text.
  if (bsonType(value) === 'Long') return numberKey(3, BigInt(String(value)))
  if (bsonType(value) === 'Decimal128') return numberKey(3, Number(plain))
  switch (bsonType(plain) ?? Object.prototype.toString.call(plain).slice('[object '.length, -1)) {
    case 'MinKey': return [0]
    case 'Number': return numberKey(3, Number(plain))
    case 'String': return [4, bytesOf(String(plain))]
    case 'Array': return [6, ...membersKey(plain)]
    case 'Uint8Array': return [7, plain.length, 0, bytesOf(plain)]
    case 'Binary': return [7, plain.position, plain.sub_type, bytesOf(plain.buffer.subarray(0, plain.position))]
    case 'ObjectId': return [8, String(plain)]
    case 'Boolean': return [9, Number(plain)]
    case 'Date': return numberKey(10, Number(plain))
    case 'Timestamp': return [11, BigInt(String(plain))]
    case 'RegExp': return [12, bytesOf(plain.source), plain.flags]
    case 'BSONRegExp': return [12, bytesOf(plain.pattern), plain.options]
    case 'Code': return [13, bytesOf(plain.code)]
    case 'MaxKey': return [14]
    default: return [5, ...membersKey(plain)]
  }
}

// NaN comes before all other numbers.
const numberKey = (place: number, value: number | bigint): SortKey => [place, !Number.isNaN(value), value]

// MongoDB compares the types of two members before their names. The end of an object or array comes before any other member.
const membersKey = (value: object): SortKey =>
  [...Object.entries(value).flatMap(([name, member]) => keyOf(member).toSpliced(1, 0, bytesOf(name))), -1]

// MongoDB compares text by its bytes in UTF-8. In latin1 each byte is a character.
const bytesOf = (value: string | Uint8Array) => Buffer.from(value).toString('latin1')

const compare = (one: SortKey, other: SortKey): number =>
  one.map((part, index) => Number(part > other[index]!) - Number(part < other[index]!)).find(difference => difference !== 0) ?? 0
