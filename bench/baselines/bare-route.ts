import { type RouteHandlerMethod } from 'fastify'

/** The least that a Fastify route can do: a constant reply. */
export function bareRoute (): RouteHandlerMethod {
  return async (_request, reply) => reply.type('application/json; charset=utf-8').send('{"waiting":true,"success":true}')
}
