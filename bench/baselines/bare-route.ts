import type { RouteHandlerMethod } from 'fastify'
import type { Reply } from '../client.js'

/** Headers that Node.js and Fastify add themselves. */
const OWN_HEADERS = ['connection', 'content-length', 'date', 'keep-alive']

/** The limit of a Fastify route: a constant reply with the same status, headers and bytes as ours. */
export function bareRoute ({ status, headers, body }: Reply): RouteHandlerMethod {
  const sent = Object.fromEntries(Object.entries(headers).filter(([name]) => !OWN_HEADERS.includes(name)))
  if (status === 304) return async (_request, reply) => reply.code(status).headers(sent).send()
  return async (_request, reply) => reply.code(status).headers(sent).send(body)
}
