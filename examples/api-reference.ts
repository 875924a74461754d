import { readFileSync } from 'node:fs'
import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import type { FastifyPluginAsync, FastifySchema } from 'fastify'
import fp from 'fastify-plugin'
import type { Selection, Waiting } from '../lib/index.js'

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

const description = `Rocket.Chat's "Get the progress of an upload": the progress of the newest import and, once the import has been
prepared, everything that can be selected from it.

While a reply has \`waiting: true\`, call again after the number of seconds in \`Retry-After\`. Send the \`ETag\` of the last reply
in \`If-None-Match\`: a reply that has not changed is then not sent again.

[The page](/) shows the replies in the browser.`

const securitySchemes = {
  userId: { type: 'apiKey', in: 'header', name: 'X-User-Id', description: 'The user\'s id' },
  authToken: {
    type: 'apiKey', in: 'header', name: 'X-Auth-Token', description: 'A login token or personal access token of that user'
  }
} as const

const always = {
  'Cache-Control': { type: 'string', description: 'Private to this caller, and must be revalidated before each use', examples: ['private, no-cache'] },
  Vary: { type: 'string', description: 'The two headers that identify the caller', examples: ['X-User-Id, X-Auth-Token'] }
}

const entityTag = {
  type: 'string',
  description: 'Send it in `If-None-Match`. Omitted when the reply can change while the operation does not',
  examples: ['W/"Qx6vYhPq3mZ0c7TnB2kEdA"']
}

const retryAfter = { type: 'integer', minimum: 1, description: 'Seconds to wait before the next call', examples: [5] }

const pollable = {
  ETag: entityTag,
  'Retry-After': { ...retryAfter, maximum: 10, description: `${retryAfter.description}; only on a waiting reply` },
  ...always
}

/** The headers of the replies by status; a status that is not listed has the headers in `always`. */
const headersByStatus: Record<string, object> = {
  200: pollable,
  304: pollable,
  429: { 'Retry-After': retryAfter, ...always },
  503: { 'Retry-After': retryAfter, ...always }
}

const selection: Selection = {
  name: 'Slack',
  users: [{ user_id: 'U01', username: 'ada', email: 'ada@example.com', is_deleted: false, is_bot: false, do_import: true, is_email_taken: false }],
  channels: [{ channel_id: 'C01', name: 'general', is_archived: false, do_import: true, is_private: false, is_direct: false }],
  contacts: [{ id: 'c-1', name: 'Grace', emails: ['grace@example.com'], phones: [], do_import: true }],
  message_count: 12034,
  success: true
}

const waiting: Waiting = {
  waiting: true,
  step: 'importer_preparing_messages',
  reading: 'general/2023-05-04',
  count: { total: 12034, users: 320, channels: 41 },
  updated_at: '2026-03-02T09:14:05.120Z',
  success: true
}

/** Examples of a reply with the status 200. Swagger UI makes none for the members of a union. */
const examples = {
  selection: { summary: 'The staged records, for selection', value: selection },
  waiting: { summary: 'The import is being prepared', value: waiting }
}

/**
 * A Fastify plugin: the API reference at `/docs`, and its OpenAPI 3.1 document at `/docs/json` and `/docs/yaml`.
 * It documents the routes of the whole server that are registered after it.
 */
export const apiReference: FastifyPluginAsync = fp(async app => {
  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Import file data',
        version,
        description,
        license: { name: 'MIT', identifier: 'MIT' }
      },
      servers: [{ url: '/', description: 'This server' }],
      tags: [{ name: 'import', description: 'The import of data from other systems into Rocket.Chat' }],
      components: { securitySchemes }
    },
    transform: ({ schema, url, route }) => {
      const isDocumented = url.endsWith('/getImportFileData') && [route.method].flat().includes('GET')
      return { url, schema: isDocumented ? withHttpDetails(schema) : schema }
    }
  })
  await app.register(fastifySwaggerUi, {
    routePrefix: '/docs',
    staticCSP: true,
    // Without it, a browser asks for the files of the page by https, except at a loopback address.
    transformStaticCSP: header => header.replace(/ *upgrade-insecure-requests;?/, ''),
    uiConfig: { defaultModelsExpandDepth: -1, tryItOutEnabled: true }
  })
}, { name: 'api-reference' })

/**
 * Adds to a route's schema what only the reference needs: the two headers as security schemes instead of parameters, the reply headers,
 * and examples of the replies with the status 200.
 */
function withHttpDetails (schema: FastifySchema): FastifySchema {
  const replies: Array<[status: string, reply: object]> = Object.entries(Object(schema.response))
  return {
    ...schema,
    security: [{ userId: [], authToken: [] }],
    response: Object.fromEntries(replies.map(([status, reply]) => [status, {
      ...reply,
      headers: headersByStatus[status] ?? always,
      ...(status === '200' && { 'x-examples': examples })
    }]))
  }
}
