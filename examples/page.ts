import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import { type FastifyPluginAsync } from 'fastify'

const root = fileURLToPath(new URL('page', import.meta.url))

/** What the browser lets the page do: its own files and its own server, no inline code, and no text taken for HTML or code. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'"
].join('; ')

/**
 * A Fastify plugin: a page, at `/`, that shows a person what `getImportFileData` tells a program. It asks for
 * `api/v1/getImportFileData` of the server that it comes from. Encapsulated: its headers are on its own files alone.
 */
export const page: FastifyPluginAsync = async instance => {
  instance.addHook('onRequest', (_request, reply, done) => {
    reply.headers({
      'Content-Security-Policy': contentSecurityPolicy,
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer'
    })
    done()
  })
  // A route for each file, so that the page takes no path from the rest of the server.
  await instance.register(fastifyStatic, { root, wildcard: false, decorateReply: false })
}
