import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import type { FastifyPluginAsync } from 'fastify'

const root = fileURLToPath(new URL('page', import.meta.url))

/** Only the page's own files and server are allowed. Inline code and text as HTML or code are not. */
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
 * A Fastify plugin: a page at `/` that shows the reply of `api/v1/getImportFileData` of the same server. Encapsulated: its headers
 * are set on its own files only.
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
  // One route per file, so that other paths are left to the rest of the server.
  await instance.register(fastifyStatic, { root, wildcard: false, decorateReply: false })
}
