import { InvalidOption } from './errors.js'

/** Throws an InvalidOption that names the option, what was expected and what came, unless the value is right. */
export function demand (option: string, value: unknown, isRight: (value: unknown) => boolean, expected: string): void {
  if (!isRight(value)) throw new InvalidOption(option, expected, describe(value))
}

/** Any function. */
export function isFunction (value: unknown): boolean {
  return typeof value === 'function'
}

/** Any string. */
export function isString (value: unknown): boolean {
  return typeof value === 'string'
}

/** An object, not an array and not null. */
export function isObject (value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** An object of keys and values, such as `{}` makes: not a Map, say. */
export function isRecord (value: unknown): boolean {
  return isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value))
}

/** A whole number above 0 that a timer can hold (Node.js: 31 bits). */
export function isPositiveInteger (value: unknown): boolean {
  return Number.isInteger(value) && Number(value) > 0 && Number(value) < 2 ** 31
}

/** Not there. */
export function isMissing (value: unknown): boolean {
  return value === undefined
}

/** Undefined, or what another check finds right. */
export function isOptional (isRight: (value: unknown) => boolean): (value: unknown) => boolean {
  return value => isMissing(value) || isRight(value)
}

// The value itself is left out where it might be a secret, or long.
function describe (value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`
}
