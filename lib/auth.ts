import { type FastifyRequest } from 'fastify'
import { Forbidden, Unauthorized, callInjected } from './errors.js'
import { type Credentials, type ResolvedOptions } from './options.js'

/** Who calls, once `identify` has let them in. */
export interface Caller {
  credentials: Credentials
  user: object
}

/** The request decorator that holds the `Caller`: a symbol, which cannot clash with a name of the host. */
export const kCaller = Symbol('fastify-import-file-data.caller')

type Functions = Pick<ResolvedOptions, 'lookupUser' | 'hasPermission'>

/**
 * The two steps of authentication and authorization for `@fastify/auth`, to be run in this order (relation `and`). Both are
 * async functions that throw: `@fastify/auth` takes anything that is returned, false included, for a yes.
 */
export function createAuthFunctions ({ lookupUser, hasPermission }: Functions) {
  /** Finds out who calls. Throws `Unauthorized`, or what `callInjected` makes of a look-up that fails. */
  async function identify (request: FastifyRequest): Promise<void> {
    const credentials = readCredentials(request)
    if (credentials === undefined) throw new Unauthorized()
    const user = await callInjected(() => lookupUser(credentials, request))
    if (typeof user !== 'object' || user === null || Array.isArray(user)) throw new Unauthorized()
    request.setDecorator<Caller>(kCaller, { credentials, user })
  }

  /** Finds out whether the caller may. Throws `Forbidden`, or what `callInjected` makes of a check that fails. */
  async function authorize (request: FastifyRequest): Promise<void> {
    const { user } = request.getDecorator<Caller>(kCaller)
    const allowed = await callInjected(() => hasPermission(user, 'run-import', request))
    if (allowed !== true) throw new Forbidden()
  }

  return [identify, authorize]
}

function readCredentials (request: FastifyRequest): Credentials | undefined {
  const userId = readHeader('x-user-id', request)
  const authToken = readHeader('x-auth-token', request)
  return userId !== undefined && authToken !== undefined ? { userId, authToken } : undefined
}

// Duplicates are ambiguous, so they are rejected. Node.js joins them by a comma and a space (RFC 9110, 5.3), which may also stand in a
// single value, such as the distinguished name of an LDAP user.
function readHeader (name: string, { headers, raw: { rawHeaders } }: FastifyRequest): string | undefined {
  const value = headers[name]
  if (typeof value !== 'string' || value.trim() === '') return undefined
  if (value.includes(', ') && rawHeaders.filter((header, index) => index % 2 === 0 && header.toLowerCase() === name).length > 1) return undefined
  return value
}
