import { InvalidOption } from './errors.js'

/** Whether a value is an object, but not null and not an array. */
export const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null && !Array.isArray(value)

// An object such as `{}` makes: not a Map, for example.
const isRecord = (value: unknown) => isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value))

// Below the largest number that a timer of Node.js takes: 31 bits.
const isPositiveInteger = (value: unknown) => Number.isInteger(value) && Number(value) > 0 && Number(value) < 2 ** 31

const isOptional = (isRight: (value: unknown) => boolean) => (value: unknown) => value === undefined || isRight(value)

const isFunction = (value: unknown) => typeof value === 'function'

/** What an option can be required to be, in the words of the error, each with its check. */
const KINDS = {
  'a function': isFunction,
  'a function, or left out': isOptional(isFunction),
  'a string': value => typeof value === 'string',
  'an array of documents': Array.isArray,
  'an object': isObject,
  'a Db of the mongodb driver': isObject,
  'an object of display names by importer key': isOptional(isRecord),
  'an object of settings of the route': isOptional(isRecord),
  'an object of members of a schema': isOptional(isRecord),
  'a whole number above 0': isPositiveInteger,
  'a whole number of milliseconds above 0': isOptional(isPositiveInteger),
  'left out: it is the plugin\'s own': value => value === undefined
} as const satisfies Record<string, (value: unknown) => boolean>

/** What an option can be required to be. */
export type Kind = keyof typeof KINDS

/** Throws an InvalidOption that names the option, what was expected and what it is, unless it is of this kind. */
export function demand (option: string, value: unknown, kind: Kind): void {
  if (!KINDS[kind](value)) throw new InvalidOption(option, kind, describe(value))
}

/** What a value is, for an error. The value itself is not shown where it may be a secret, or long. */
export function describe (value: unknown): string {
  if (value === undefined) return 'missing'
  if (Array.isArray(value)) return 'an array'
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return String(value)
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`
}
