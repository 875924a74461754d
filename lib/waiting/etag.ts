import { hash } from 'node:crypto'
import { changedAt } from '../operation.js'
import { type ImportOperation } from '../store.js'

/** The version of the selection's format, to be raised when items change: a caller's copy of the old format is then out of date. */
const SELECTION_FORMAT = 2

/** How many characters of the hash an ETag shows: 132 bits. */
const TAG_LENGTH = 22

/**
 * The ETag of a waiting reply: it changes with anything that the reply says.
 *
 * @param text the reply
 */
export function waitingTag (id: string, name: string | undefined, text: string): string {
  return entityTagOf(id, name, text)
}

/** The ETag of the selection of an operation that is ready, or undefined when the operation does not say when it last changed. */
export function selectionTag (operation: ImportOperation, name: string | undefined): string | undefined {
  const changed = changedAt(operation)
  if (changed === undefined) return undefined
  return entityTagOf(SELECTION_FORMAT, operation.id, operation.status, operation.valid, changed, name)
}

/**
 * Whether the caller has the reply with this ETag already (RFC 9110, 13.1.2): compares weakly, and reads a list of tags and `*`.
 *
 * @param ifNoneMatch the header `If-None-Match`
 */
export function matches (entityTag: string | undefined, ifNoneMatch: string | undefined): boolean {
  if (entityTag === undefined || ifNoneMatch === undefined) return false
  if (ifNoneMatch.trim() === '*') return true
  const opaqueTag = entityTag.slice('W/'.length)
  return (ifNoneMatch.match(/"[^"]*"/g) ?? []).some(tag => tag === opaqueTag)
}

// A weak ETag (RFC 9110, 8.8.3): a host may compress the reply, or a store may return the same records in another order. A hash, so that
// it says nothing of the operation.
function entityTagOf (...shown: ReadonlyArray<string | number | boolean | undefined>): string {
  return `W/"${hash('sha256', JSON.stringify(shown), 'base64url').slice(0, TAG_LENGTH)}"`
}
