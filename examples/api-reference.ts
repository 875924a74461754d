import { readFileSync } from 'node:fs'
import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import type { FastifyPluginAsync, FastifySchema } from 'fastify'
import fp from 'fastify-plugin'

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
    uiConfig: { defaultModelsExpandDepth: -1, tryItOutEnabled: true }
  })
}, { name: 'api-reference' })

/** The part of a reply schema that is used here. */
interface ReplySchema {
  description?: string
  examples?: unknown[]
  anyOf?: ReplySchema[]
}

/**
 * Adds to a route's schema what only the reference needs: a tag and an operation id, unless the route has its own; the two headers
 * as security schemes instead of parameters; the reply headers; and an example of each kind of reply.
 */
function withHttpDetails (schema: FastifySchema): FastifySchema {
  const replies: Array<[status: string, reply: ReplySchema]> = Object.entries(Object(schema.response))
  return {
    tags: ['import'],
    operationId: 'getImportFileData',
    ...schema,
    security: [{ userId: [], authToken: [] }],
    response: Object.fromEntries(replies.map(([status, reply]) => [status, {
      ...reply,
      headers: headersByStatus[status] ?? always,
      ...(reply.anyOf && { 'x-examples': examplesOf(reply.anyOf) })
    }]))
  }
}

// Swagger UI does not show the examples of the members of a union.
function examplesOf (members: ReplySchema[]) {
  const examples = members.flatMap(({ description, examples = [] }) =>
    examples.map(value => ({ summary: description?.split(':')[0], value })))
  return Object.fromEntries(examples.map((example, place) => [`reply${place + 1}`, example]))
}
