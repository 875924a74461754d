import { type FastifyReply, type FastifyRequest } from 'fastify'
import { hasLeft } from './call.js'
import { RETRY_AFTER_SECONDS, toPublicError } from './errors.js'

/** The media type of every reply. */
export const JSON_TYPE = 'application/json; charset=utf-8'

const CREDENTIAL_HEADERS = ['X-User-Id', 'X-Auth-Token']
const VARY = CREDENTIAL_HEADERS.join(', ')

/**
 * An `onSend` hook: every reply is for this caller alone (RFC 9111, 5.2.2.7), and is never taken for anything but JSON.
 * The last of the `onSend` hooks to run, so it adds to what the host's have put into `Vary`.
 */
export function markAsPrivate ({ method }: FastifyRequest, reply: FastifyReply, _payload: unknown, done: () => void): void {
  // It is for no caller at all, and the host's CORS plugin may say how long it is good for.
  if (method === 'OPTIONS') return done()
  reply.header('Cache-Control', 'private, no-cache')
  reply.header('X-Content-Type-Options', 'nosniff')
  reply.header('Vary', withCredentialHeaders(reply.getHeader('Vary')))
  done()
}

function withCredentialHeaders (vary: unknown): string {
  if (vary === undefined) return VARY
  if (vary === '*') return vary
  const fields = String(vary).split(/\s*,\s*/)
  const missing = CREDENTIAL_HEADERS.filter(name => !fields.some(field => field.toLowerCase() === name.toLowerCase()))
  return [...fields, ...missing].join(', ')
}

/**
 * The error handler of the route: whatever was thrown, the reply is in the contract's envelope, and what the caller may not
 * know is in the log. It also handles the errors of the host's hooks on this route.
 */
export function answerErrors (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  // Of a reply that was not sent: neither is about the error.
  reply.removeHeader('ETag')
  if (reply.getHeader('Retry-After') === request.getDecorator(kAdvisedRetry)) reply.removeHeader('Retry-After')
  const { statusCode, body } = toPublicError(error, reply.getHeader('Retry-After'))
  if (hasLeft(reply)) reply.log.info('The caller left before the reply')
  else if (statusCode >= 500) reply.log.error({ err: error }, body.error)
  else reply.log.info(body.error)
  if (statusCode === 503 && !reply.hasHeader('Retry-After')) reply.header('Retry-After', String(RETRY_AFTER_SECONDS))
  return sendJson(reply.code(statusCode), JSON.stringify(body))
}

/** The request decorator that holds the `Retry-After` of a waiting reply, to distinguish it from one that the host sets. */
export const kAdvisedRetry = Symbol('fastify-import-file-data.advised-retry')

/** Tells the caller of a waiting reply after how many seconds to ask again. */
export function adviseRetry (reply: FastifyReply, seconds: number): void {
  reply.header('Retry-After', String(seconds))
  reply.request.setDecorator(kAdvisedRetry, String(seconds))
}

/** Sends JSON as text, so that no serializer or `preSerialization` hook of the host changes it. */
export function sendJson (reply: FastifyReply, text: string): FastifyReply {
  return reply.type(JSON_TYPE).send(text)
}
