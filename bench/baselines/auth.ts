import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { ImportFileDataOptions } from '../../lib/index.js'

const kUser = Symbol('user')

/**
 * The two auth functions of a baseline, for `@fastify/auth` with the relation `and`. They call the plugin's `lookupUser` and
 * `hasPermission` as the plugin does.
 */
export function createAuthFunctions (
  instance: FastifyInstance,
  { lookupUser, hasPermission }: Pick<ImportFileDataOptions, 'lookupUser' | 'hasPermission'>
) {
  instance.decorateRequest(kUser, null)

  async function identify (request: FastifyRequest): Promise<void> {
    const { 'x-user-id': userId, 'x-auth-token': authToken } = request.headers
    if (typeof userId !== 'string' || typeof authToken !== 'string') throw new Error('unauthorized')
    const user = await lookupUser({ userId, authToken }, request)
    if (!user) throw new Error('unauthorized')
    request.setDecorator<object>(kUser, user)
  }

  async function authorize (request: FastifyRequest): Promise<void> {
    const isAllowed = await hasPermission(request.getDecorator<object>(kUser), 'run-import', request)
    if (!isAllowed) throw new Error('forbidden')
  }

  return [identify, authorize]
}
