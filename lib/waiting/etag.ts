import { hash } from 'node:crypto'
import type { Snapshot } from '../operation.js'

/** The version of the selection's format. Raise it when items change, so that callers do not keep copies in the old format. */
const SELECTION_FORMAT = 2

/**
 * Creates a function that returns the ETag of a selection that cannot change any more, given its operation; undefined when the operation has
 * no `updatedAt`.
 */
export function createSelectionTag (): (operation: Snapshot) => string | undefined {
  const tagOf = keepLast(entityTagOf)
  return ({ id, name, status, valid, updateTime }) =>
    updateTime === undefined ? undefined : tagOf(SELECTION_FORMAT, id, status, valid, updateTime, name)
}

/**
 * The ETag of a reply that depends on these values: a weak one (RFC 9110, 8.8.3), because a host may compress the reply, and a store
 * may return records in another order. A hash (132 bits of it), so that it reveals nothing of the operation.
 */
export function entityTagOf (...values: ReadonlyArray<string | number | boolean | undefined>): string {
  return `W/"${hash('sha256', JSON.stringify(values), 'base64url').slice(0, 22)}"`
}

/**
 * Whether a header `If-None-Match` is `*` or has this ETag in its list: a weak comparison (RFC 9110, 13.1.2), which ignores the `W/`. A tag
 * with its quotes cannot be a part of another.
 */
export function matches (entityTag: string, ifNoneMatch = ''): boolean {
  return ifNoneMatch.trim() === '*' || ifNoneMatch.includes(entityTag.slice('W/'.length))
}

/**
 * Creates a function that returns what `make` returns, or its last result when the arguments are the same as those of the last call. Most
 * polls get the same reply as the poll before (docs/performance.md).
 */
export function keepLast<Arguments extends readonly unknown[], Result> (make: (...args: Arguments) => Result): (...args: Arguments) => Result {
  let last: { args: Arguments, result: Result } | undefined
  return (...args) => {
    if (last === undefined || !args.every((value, index) => value === last?.args[index])) last = { args, result: make(...args) }
    return last.result
  }
}
