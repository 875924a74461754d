/**
 * A value without the wrapper that the MongoDB driver and the package `bson` put around what a JavaScript value cannot hold, or
 * around every number: `Int32`, `Double`, `Long`, `Decimal128`, `BSONSymbol`. Any other value is returned as it is.
 *
 * An integer beyond the safe range becomes a bigint, a decimal with a fraction becomes text: each keeps all its digits.
 */
export function plainValue (value: unknown): unknown {
  const type = bsonType(value)
  if (typeof value === 'bigint' || type === 'Long') return integer(BigInt(String(value)))
  if (type === 'Int32' || type === 'Double') return Number(value)
  if (type === 'Decimal128') return decimal(String(value))
  return type === 'BSONSymbol' ? String(value) : value
}

/**
 * The name of the class of a value of the package `bson`, such as `ObjectId`; undefined for any other value. It is found without the
 * package, which a host may not have, or have in another version.
 */
export function bsonType (value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('_bsontype' in value)) return undefined
  // The classes have it on their prototype: a member of the document's own is data, and may say anything.
  return Object.hasOwn(value, '_bsontype') ? undefined : value._bsontype
}

// A number, or a bigint where a number would not be exact.
const integer = (value: bigint) => Number.isSafeInteger(Number(value)) ? Number(value) : value

function decimal (digits: string): number | bigint | string {
  if (/^-?\d+$/.test(digits)) return integer(BigInt(digits))
  return Number.isFinite(Number(digits)) ? digits : NaN
}
