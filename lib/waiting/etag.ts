import { hash } from 'node:crypto'
import { type ImportOperation, updateTimeOf } from '../operation.js'

/** The version of the selection's format. Raise it when items change, so that callers do not keep copies in the old format. */
const SELECTION_FORMAT = 2

/**
 * The ETag of the selection of an operation whose selection cannot change, or undefined when the operation has no `updatedAt`.
 *
 * @param name the display name of the importer
 */
export function selectionTag (operation: ImportOperation, name: string | undefined): string | undefined {
  const updateTime = updateTimeOf(operation)
  if (updateTime === undefined) return undefined
  return entityTagOf(SELECTION_FORMAT, operation.id, operation.status, operation.valid, updateTime, name)
}

/**
 * The ETag of a reply that depends on these values: a weak one (RFC 9110, 8.8.3), because a host may compress the reply, and a store
 * may return records in another order. A hash (132 bits of it), so that it reveals nothing of the operation.
 */
export function entityTagOf (...values: ReadonlyArray<string | number | boolean | undefined>): string {
  return `W/"${hash('sha256', JSON.stringify(values), 'base64url').slice(0, 22)}"`
}

/** Whether a header `If-None-Match` is `*` or has this ETag in its list: a weak comparison (RFC 9110, 13.1.2). */
export function matches (entityTag: string, ifNoneMatch = ''): boolean {
  return ifNoneMatch.trim() === '*' || (ifNoneMatch.match(/"[^"]*"/g) ?? []).some(tag => entityTag === `W/${tag}`)
}
