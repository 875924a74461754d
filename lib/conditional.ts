import { hash } from 'node:crypto'
import { changedAt } from './operation.js'
import { type ImportOperation } from './store.js'

/** How much of the hash an ETag shows: 132 bits. */
const TAG_LENGTH = 22

/**
 * The ETag (RFC 9110, 8.8.3) of what an operation's reply shows now: a weak one, since a host may compress the reply or a store
 * may give the same records in another order. It says nothing of what is inside.
 *
 * @param name the importer's display name
 * @param stalled whether the reply says that the operation has stalled
 * @returns undefined for an operation of which nobody knows when it changed
 */
export function entityTagOf (operation: ImportOperation, name: string | undefined, stalled: boolean): string | undefined {
  const time = changedAt(operation)
  if (time === undefined) return undefined
  const state = `${operation.id}\n${operation.status}\n${time}\n${name}\n${stalled}`
  return `W/"${hash('sha256', state, 'base64url').slice(0, TAG_LENGTH)}"`
}

/**
 * Whether a caller has the reply with this ETag already (RFC 9110, 13.1.2): compares weakly, and reads a list of tags and `*`.
 *
 * @param ifNoneMatch the header `If-None-Match`
 */
export function isKnown (entityTag: string | undefined, ifNoneMatch: string | undefined): boolean {
  if (entityTag === undefined || ifNoneMatch === undefined) return false
  if (ifNoneMatch.trim() === '*') return true
  const opaqueTag = entityTag.slice('W/'.length)
  return (ifNoneMatch.match(/"[^"]*"/g) ?? []).some(tag => tag === opaqueTag)
}
