import { STATUS_CODES } from 'node:http'
import type { Readable, Writable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { append } from 'vary'
import { type Caller, kCaller } from './auth.js'
import { Forbidden, OperationNotFound, ServiceUnavailable, TooManyRequests, Unauthorized, statusOf } from './errors.js'
import { type ErrorReply, errorReplySchema, selectionSchema, waitingSchema } from './schemas.js'

/** Seconds after which a caller should try again after a 503. */
const RETRY_AFTER_SECONDS = 5

/** Seconds to wait when a rate limit does not say how many: the length of Rocket.Chat's own window. */
const RATE_LIMIT_WINDOW_SECONDS = 60

/** The schemas of the replies by status. They describe the replies; nothing is serialized by them. */
export const replySchemas = {
  200: Type.Union([selectionSchema, waitingSchema], { description: 'The selection, or the progress while the import is being prepared' }),
  304: Type.Null({ description: 'Nothing has changed since the reply whose ETag is in `If-None-Match`' }),
  400: errorReply('No import operation, an unknown importer, an invalid operation or a file that could not be read', new OperationNotFound()),
  401: errorReply('A header is missing, the user is unknown or the token is wrong', new Unauthorized()),
  403: errorReply('The user lacks the permission `run-import`', new Forbidden()),
  429: errorReply('Too many calls: wait as long as `Retry-After` says', { statusCode: 429 }),
  500: errorReply('A fault in the server; its log has the details', { statusCode: 500 }),
  503: errorReply('The import data cannot be read: try again after as many seconds as `Retry-After` says', { statusCode: 503 }),
  '4xx': errorReply('Refused by a hook or a function of the host; the message says why', { statusCode: 413 })
}

function errorReply (description: string, error: PublicError) {
  return { ...errorReplySchema, description, examples: [toErrorReply(error).body] }
}

/**
 * An `onSend` hook: every reply is private to its caller (RFC 9111, 5.2.2.7), and its media type is not to be guessed. It runs after
 * the host's `onSend` hooks, so it adds to their `Vary`.
 */
export function markAsPrivate ({ method }: FastifyRequest, reply: FastifyReply, _payload: unknown, done: () => void): void {
  // A reply to OPTIONS has no data of a caller, and the host's CORS plugin may set how long it can be cached.
  if (method === 'OPTIONS') return done()
  reply.header('Cache-Control', 'private, no-cache')
  reply.header('X-Content-Type-Options', 'nosniff')
  reply.header('Vary', append(String(reply.getHeader('Vary') ?? ''), 'X-User-Id, X-Auth-Token'))
  done()
}

/**
 * The error handler of the route. It replies in Rocket.Chat's format, and logs what the caller may not see. It also handles errors
 * of the host's hooks on this route.
 */
export function replyToError (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  // Here, too, because a hook of the host that throws again keeps the onSend hooks after it from running.
  markAsPrivate(request, reply, undefined, () => {})
  // They belong to the reply that was not sent.
  reply.removeHeader('ETag')
  if (reply.getHeader('Retry-After') === request.getDecorator<Caller | null>(kCaller)?.retryAfter) reply.removeHeader('Retry-After')
  // Others than the thrower may have set the status of the reply, as `@fastify/auth` does for any failure, so the message is not sent then.
  const isPublic = error instanceof Error && statusOf(error) !== undefined
  const failure = isPublic ? error : { statusCode: statusOf(error) ?? statusOf(reply) }
  const { statusCode, body } = toErrorReply(failure, reply.getHeader('Retry-After'))
  if (isDisconnected(reply)) reply.log.info('The caller disconnected before the reply')
  else if (statusCode >= 500) reply.log.error({ err: error }, body.error)
  else reply.log.info(isPublic ? {} : { err: error }, body.error)
  if (statusCode === 503 && !reply.hasHeader('Retry-After')) reply.header('Retry-After', String(RETRY_AFTER_SECONDS))
  return sendJson(reply.code(statusCode), JSON.stringify(body))
}

/** What a reply may say of an error, if it is a 4xx. */
interface PublicError { statusCode?: number | undefined, message?: string | undefined, code?: unknown }

/**
 * The reply to an error: the plugin's errors and client errors (4xx) with their message, any other without details.
 *
 * @param error without a status it is a 500
 * @param retryAfter the reply's `Retry-After` header, if it is set already: seconds
 */
export function toErrorReply (error: PublicError, retryAfter?: unknown): { statusCode: number, body: ErrorReply } {
  const { statusCode, message, code } = publicErrorOf(error, statusOf(error) ?? 500, Number(retryAfter))
  // As in Rocket.Chat, these two replies have no code.
  if (error instanceof Unauthorized || error instanceof Forbidden) return { statusCode, body: { success: false, error: error.message } }
  const text = STATUS_CODES[statusCode] ?? 'Unknown'
  const errorType = typeof code === 'string' ? code : `error-${text.toLowerCase().replace(/[^a-z]+/g, '-')}`
  return { statusCode, body: { success: false, error: `${message || text} [${errorType}]`, errorType } }
}

function publicErrorOf ({ message, code }: PublicError, statusCode: number, retryAfter: number): PublicError & { statusCode: number } {
  if (statusCode === 429) return new TooManyRequests(retryAfter > 0 ? Math.ceil(retryAfter) : RATE_LIMIT_WINDOW_SECONDS)
  if (statusCode === 503) return new ServiceUnavailable()
  return statusCode >= 500 ? { statusCode: 500 } : { statusCode, message, code }
}

/** Sends JSON as text or as a stream of text, so that no serializer or `preSerialization` hook of the host changes it. */
export const sendJson = (reply: FastifyReply, json: string | Readable): FastifyReply =>
  reply.type('application/json; charset=utf-8').send(json)

/** Whether the connection ended before the whole reply was written. */
export function isDisconnected ({ raw, request }: FastifyReply): boolean {
  // An HTTP/2 response, which Fastify's default types do not include, has the state in its stream.
  const { destroyed } = 'stream' in raw ? raw.stream as Writable : raw
  return (destroyed || request.raw.aborted) && !raw.writableEnded
}
