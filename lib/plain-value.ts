/**
 * A value without the wrapper that the MongoDB driver and the package `bson` put around what a JavaScript value cannot hold, or
 * around every number: `Int32`, `Double`, `Long`, `Decimal128`, `BSONSymbol`. Any other value is returned as it is.
 *
 * A number that JavaScript would round or write in another way becomes text: each keeps all its digits. A bigint is handled as a `Long`.
 */
export function plainValue (value: unknown): unknown {
  const type = bsonType(value)
  if (type === 'BSONSymbol') return String(value)
  if (type !== 'Int32' && type !== 'Double' && type !== 'Long' && type !== 'Decimal128') return value
  const digits = String(value)
  return String(Number(digits)) === digits ? Number(digits) : digits
}

/**
 * The name of the class of a value of the package `bson`, such as `ObjectId`; undefined for any other value. A bigint counts as a `Long`,
 * as in `bson`. It is found without the package, which a host may not have, or have in another version. Only the class has
 * it: a member `_bsontype` of a document is data.
 */
export const bsonType = (value: unknown): unknown => typeof value === 'bigint' ? 'Long' : Object.getPrototypeOf(value ?? '')?._bsontype
