import { type RouteHandlerMethod } from 'fastify'
import { type Reply } from '../client.js'

/** Headers that Node.js and Fastify add themselves. */
const OWN_HEADERS = ['connection', 'content-length', 'date', 'keep-alive']

/** The limit of what a Fastify route can do: a constant reply, with the status, the headers and the bytes of ours. */
export function bareRoute ({ status, headers, body }: Reply): RouteHandlerMethod {
  const sent = Object.fromEntries(Object.entries(headers).filter(([name]) => !OWN_HEADERS.includes(name)))
  if (status === 304) return async (_request, reply) => reply.code(status).headers(sent).send()
  return async (_request, reply) => reply.code(status).headers(sent).send(body)
}
