import { readFileSync } from 'node:fs'
import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import { type FastifyPluginAsync, type FastifySchema } from 'fastify'
import fp from 'fastify-plugin'

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

const description = `What Rocket.Chat calls "Get the progress of an upload": how far the newest import is, and, once it has been
read, everything that can be selected from it.

Ask again and again while the reply says \`waiting\`: after as many seconds as \`Retry-After\` says, and with the \`ETag\` of the last
reply in \`If-None-Match\`, so that a reply that has not changed is not sent again.`

const securitySchemes = {
  userId: { type: 'apiKey', in: 'header', name: 'X-User-Id', description: 'The id of the user who calls' },
  authToken: {
    type: 'apiKey', in: 'header', name: 'X-Auth-Token', description: 'A login token or personal access token of that user'
  }
} as const

const always = {
  'Cache-Control': { type: 'string', description: 'For this caller alone, and to be asked for before each use', examples: ['private, no-cache'] },
  Vary: { type: 'string', description: 'Names the two headers that say who calls', examples: ['X-User-Id, X-Auth-Token'] }
}

const entityTag = {
  type: 'string',
  description: 'To be sent as `If-None-Match`; left out where the reply may change while the operation does not',
  examples: ['W/"Qx6vYhPq3mZ0c7TnB2kEdA"']
}

const retryAfter = { type: 'integer', minimum: 1, description: 'Seconds after which asking again is worth it', examples: [5] }

const pollable = {
  ETag: entityTag,
  'Retry-After': { ...retryAfter, maximum: 10, description: `${retryAfter.description}; only on a waiting reply` },
  ...always
}

/** The headers of the replies by status; of any other they are those that are always there. */
const headersByStatus: Record<string, object> = {
  200: pollable,
  304: pollable,
  429: { 'Retry-After': retryAfter, ...always },
  503: { 'Retry-After': retryAfter, ...always }
}

/**
 * A Fastify plugin: the API reference, for people at `/docs` and for programs (OpenAPI 3.1) at `/docs/json` and `/docs/yaml`.
 * To be registered before the routes that it is to show; it sees those of the whole server.
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
      tags: [{ name: 'Import' }],
      components: { securitySchemes }
    },
    transform: ({ schema, url }) => ({ url, schema: url.endsWith('/getImportFileData') ? withHttpDetails(schema) : schema })
  })
  await app.register(fastifySwaggerUi, {
    routePrefix: '/docs',
    staticCSP: true,
    uiConfig: { defaultModelsExpandDepth: -1, tryItOutEnabled: true }
  })
}, { name: 'api-reference' })

/** A reply's schema: what of it is looked at here. */
interface ReplySchema {
  description?: string
  examples?: unknown[]
  anyOf?: ReplySchema[]
}

/**
 * A route's schema with what only the reference needs: the two headers as security schemes, which takes them out of the
 * parameters, the headers of the replies, and an example of each kind of reply.
 */
function withHttpDetails (schema: FastifySchema): FastifySchema {
  const replies: Array<[status: string, reply: ReplySchema]> = Object.entries(Object(schema.response))
  return {
    ...schema,
    tags: ['Import'],
    security: [{ userId: [], authToken: [] }],
    response: Object.fromEntries(replies.map(([status, reply]) => [status, {
      ...reply,
      headers: headersByStatus[status] ?? always,
      ...(reply.anyOf && { 'x-examples': examplesOf(reply.anyOf) })
    }]))
  }
}

// Those of a union are with its members, where Swagger UI does not look.
function examplesOf (members: ReplySchema[]) {
  const examples = members.flatMap(({ description, examples = [] }) =>
    examples.map(value => ({ summary: description?.split(':')[0], value })))
  return Object.fromEntries(examples.map((example, place) => [`reply${place + 1}`, example]))
}
