/**
 * A value without the wrapper that the MongoDB driver and the package `bson` put around what a JavaScript value cannot hold, or
 * around every number: `Int32`, `Double`, `Long`, `Decimal128`, `BSONSymbol`. Any other value is returned as it is.
 *
 * An integer beyond the safe range becomes a bigint, a decimal with a fraction becomes text: each keeps all its digits.
 */
export function plainValue (value: unknown): unknown {
  if (typeof value === 'bigint') return integer(value)
  switch (bsonType(value)) {
    case 'Int32':
    case 'Double': return Number(value)
    case 'Long': return integer(BigInt(String(value)))
    case 'Decimal128': return decimal(String(value))
    case 'BSONSymbol': return String(value)
    default: return value
  }
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
function integer (value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}

function decimal (digits: string): number | bigint | string {
  if (/^-?\d+$/.test(digits)) return integer(BigInt(digits))
  return Number.isFinite(Number(digits)) ? digits : NaN
}
