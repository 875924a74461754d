import { hash } from 'node:crypto'

/** How much of the hash an ETag shows: 132 bits. */
const TAG_LENGTH = 22

/**
 * The ETag (RFC 9110, 8.8.3) of what an operation's reply shows: a weak one, since a host may compress the reply or a store may
 * give the same records in another order. It says nothing of what is inside.
 *
 * @param shown the operation's id, and all else that tells one reply from another
 */
export function entityTagOf (...shown: ReadonlyArray<string | number | boolean | undefined>): string {
  return `W/"${hash('sha256', JSON.stringify(shown), 'base64url').slice(0, TAG_LENGTH)}"`
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
