import type { FastifyRequest } from 'fastify'
import { Forbidden, Unauthorized, withErrorForReply } from './errors.js'
import { type Credentials, type ResolvedOptions, isObject } from './options.js'

/** The authenticated caller. */
export interface Caller {
  credentials: Credentials
  user: object
  /** The `Retry-After` of a waiting reply, to distinguish it from one that the host sets. */
  retryAfter?: string | undefined
}

/** The request decorator that holds the `Caller`. A symbol cannot clash with a name of the host. */
export const kCaller = Symbol('fastify-import-file-data.caller')

/**
 * Creates the two functions for `@fastify/auth`, in the order in which they run (relation `and`). They are async and throw,
 * because `@fastify/auth` treats any return value, even false, as success.
 */
export function createAuthFunctions ({ lookupUser, hasPermission }: Pick<ResolvedOptions, 'lookupUser' | 'hasPermission'>) {
  /** Finds the caller. Throws `Unauthorized`, or what `lookupUser` throws. */
  async function authenticate (request: FastifyRequest): Promise<void> {
    const credentials = { userId: readHeader('x-user-id', request), authToken: readHeader('x-auth-token', request) }
    const user = await lookupUser(credentials, request)
    if (!isObject(user)) throw new Unauthorized()
    request.setDecorator<Caller>(kCaller, { credentials, user })
  }

  /** Checks the permission of the caller. Throws `Forbidden`, or what `hasPermission` throws. */
  async function authorize (request: FastifyRequest): Promise<void> {
    const { user } = request.getDecorator<Caller>(kCaller)
    if (await hasPermission(user, 'run-import', request) !== true) throw new Forbidden()
  }

  return [withErrorForReply(authenticate), withErrorForReply(authorize)]
}

// Duplicates are ambiguous, so they are rejected. Node.js joins them with a comma and a space (RFC 9110, 5.3), but a single value may also
// contain these, such as the distinguished name of an LDAP user.
function readHeader (name: string, { headers, raw: { rawHeaders } }: FastifyRequest): string {
  const value = headers[name]
  const isDuplicate = value?.includes(', ') && rawHeaders.filter((header, index) => index % 2 === 0 && header.toLowerCase() === name).length > 1
  if (isDuplicate || typeof value !== 'string' || value.trim() === '') throw new Unauthorized()
  return value
}
