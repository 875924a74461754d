import { Readable } from 'node:stream'
import { type RouteHandlerMethod } from 'fastify'

const PIECE_SIZE = 64 * 1024

/** The limit of what can be streamed: the reply's bytes, ready made, in pieces of 64 KiB. */
export function readyMade (body: Buffer): RouteHandlerMethod {
  const pieces = Array.from(
    { length: Math.ceil(body.length / PIECE_SIZE) },
    (_, index) => body.subarray(index * PIECE_SIZE, (index + 1) * PIECE_SIZE)
  )
  return async (_request, reply) => reply.type('application/json; charset=utf-8').send(Readable.from(pieces))
}
