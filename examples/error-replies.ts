import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorReply } from '../lib/index.js'
import { isAnswering } from './closing.js'

// The plugin handles the errors of its own route only. These handlers reply for the rest of the server, in the same format.

/** The error handler of the server. A client error (4xx) is sent with its message; any other error is only logged. */
export function answerError (error: FastifyError, _request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { statusCode = 500, message, code } = error
  if (statusCode >= 400 && statusCode < 500) return send(reply, statusCode, errorBody(message, code ?? codeOf(statusCode)))
  reply.log.error({ err: error }, 'A request failed')
  return send(reply, 500, errorBody('Internal Server Error', codeOf(500)))
}

/** Fastify's `frameworkErrors`: as above, for requests that reach no route, such as a malformed URL. Fastify does not log these replies. */
export function answerFrameworkError (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  reply.raw.once('finish', () => { reply.log.info({ res: reply, responseTime: reply.elapsedTime }, 'request completed') })
  answerError(error, request, reply)
}

/** The server's handler for requests that match no route. */
export function answerNotFound (_request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return send(reply, 404, errorBody('Route not found: this server has GET /api/v1/getImportFileData.', codeOf(404)))
}

/** Fastify's `clientErrorHandler`: replies to a request that Node.js cannot parse. */
export function answerClientError (this: FastifyInstance, { code }: { code?: string }, socket: Socket): void {
  // Do not write into a reply that is in progress on this connection. Do not log the error, only its code: it contains the request's raw
  // bytes, and so the token.
  if (socket.writable && !isAnswering(socket) && code !== 'ECONNRESET') {
    const [statusCode, message] = parserErrors.get(code) ?? [400, 'The request is not valid HTTP.']
    const body = errorBody(message, codeOf(statusCode))
    this.log.info({ remoteAddress: socket.remoteAddress, code }, body.error)
    socket.write(asHttp(statusCode, JSON.stringify(body)))
  }
  socket.destroySoon()
}

const parserErrors = new Map<string | undefined, [statusCode: number, message: string]>([
  ['HPE_HEADER_OVERFLOW', [431, 'The headers of the request are too large.']],
  ['ERR_HTTP_REQUEST_TIMEOUT', [408, 'The request took too long to arrive.']]
])

function send (reply: FastifyReply, statusCode: number, body: ErrorReply): FastifyReply {
  return reply.code(statusCode).headers({ 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' }).send(body)
}

function asHttp (statusCode: number, body: string): string {
  return [
    `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode]}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    'X-Content-Type-Options: nosniff',
    'Connection: close',
    '',
    body
  ].join('\r\n')
}

function errorBody (message: string, code: string): ErrorReply {
  return { success: false, error: `${message} [${code}]`, errorType: code }
}

function codeOf (statusCode: number): string {
  return `error-${String(STATUS_CODES[statusCode]).toLowerCase().replace(/[^a-z]+/g, '-')}`
}
