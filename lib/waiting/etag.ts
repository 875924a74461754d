import { hash } from 'node:crypto'
import type { Snapshot } from '../operation.js'

/** The version of the selection's format. Raise it when items change, so that callers do not keep copies in the old format. */
const SELECTION_FORMAT = 2

/** Creates a function that returns the ETag of a selection that cannot change any more, given its operation, which has an `updatedAt`. */
export const createSelectionTag = () =>
  keepLast(entityTagOf, ({ id, name, status, valid, updateTime }) => [SELECTION_FORMAT, id, status, valid, updateTime, name])

/**
 * The ETag of a reply that depends on these values: a weak one (RFC 9110, 8.8.3), because a host may compress the reply, and a store
 * may return records in another order. A hash (132 bits of it), so that it reveals nothing of the operation.
 */
export const entityTagOf = (...values: ReadonlyArray<string | number | boolean | undefined>): string =>
  `W/"${hash('sha256', JSON.stringify(values), 'base64url').slice(0, 22)}"`

/**
 * Whether a header `If-None-Match` is `*` or has this ETag in its list: a weak comparison (RFC 9110, 13.1.2), which ignores the `W/`. A tag
 * with its quotes cannot be a part of another.
 */
export const matches = (entityTag: string, ifNoneMatch = ''): boolean =>
  ifNoneMatch.trim() === '*' || ifNoneMatch.includes(entityTag.slice('W/'.length))

/**
 * Creates a function that returns what `make` returns for the values of an operation, or its last result when they are the same as those of
 * the last call. Most polls get the same reply as the poll before (docs/performance.md).
 */
export function keepLast<Values extends readonly unknown[], Result> (make: (...values: Values) => Result, valuesOf: (operation: Snapshot) => Values) {
  let last: { values: Values, result: Result } | undefined
  return (operation: Snapshot): Result => {
    const values = valuesOf(operation)
    if (last === undefined || !values.every((value, index) => value === last?.values[index])) last = { values, result: make(...values) }
    return last.result
  }
}
