/**
 * A value without the wrapper that the MongoDB driver and the package `bson` put around what a JavaScript value cannot hold, or
 * around every number: `Int32`, `Double`, `Long`, `Decimal128`, `BSONSymbol`. Any other value is returned as it is.
 *
 * An integer beyond the safe range becomes a bigint, a decimal with a fraction becomes text: each keeps all its digits.
 */
export function plainValue (value: unknown): unknown {
  const type = typeof value === 'bigint' ? 'Long' : bsonType(value)
  if (type === 'Double') return Number(value)
  if (type === 'Int32' || type === 'Long' || type === 'Decimal128') return numberOf(String(value))
  return type === 'BSONSymbol' ? String(value) : value
}

/**
 * The name of the class of a value of the package `bson`, such as `ObjectId`; undefined for any other value. It is found without the
 * package, which a host may not have, or have in another version. Only the class has it: a member `_bsontype` of a document is data.
 */
export const bsonType = (value: unknown): unknown => Object.getPrototypeOf(value ?? '')?._bsontype

function numberOf (digits: string): number | bigint | string {
  const number = Number(digits)
  if (!/^-?\d+$/.test(digits)) return Number.isFinite(number) ? digits : number
  return Number.isSafeInteger(number) ? number : BigInt(digits)
}
