import proxy from '@fastify/http-proxy'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { type Output, isScript, launch } from './launch.js'
import { createImportApi, loggerOptions } from './server.js'
import { type Settings } from './settings.js'
import { StartupError } from './startup-error.js'

/**
 * A server in front of Rocket.Chat, for a host without another reverse proxy: it answers `GET /api/v1/getImportFileData` itself, and
 * forwards everything else to `settings.rocketchatUrl`, WebSockets included. It does not listen yet.
 *
 * @throws StartupError when the import cannot be read, or a URL is missing or not valid
 */
export async function buildInFront (settings: Settings, output: Output = process.stdout): Promise<FastifyInstance> {
  const { rocketchatUrl, trustProxy } = settings
  if (rocketchatUrl === undefined) {
    throw new StartupError('ROCKETCHAT_URL is not set: set it to the URL of Rocket.Chat itself, such as http://localhost:3001.')
  }
  const importApi = await createImportApi(settings)
  const app = Fastify({ logger: loggerOptions(settings, output), trustProxy })
  await app.register(importApi)
  // A constant, because the types of the proxy lack this option, which it documents. Its default forwards only the cookie.
  const wsClientOptions = {
    headers: {},
    rewriteRequestHeaders: (_headers: object, request: Received) => ({
      ...(request.headers.cookie && { cookie: request.headers.cookie }),
      ...forwarded(request)
    })
  }
  await app.register(proxy, {
    upstream: rocketchatUrl,
    websocket: true,
    wsClientOptions,
    replyOptions: {
      rewriteRequestHeaders: (request, headers) => ({ ...headers, ...forwarded(request) }),
      // The error, which the proxy has logged, names addresses of the inner network.
      onError: reply => { reply.code(502).send({ success: false, error: 'Rocket.Chat cannot be reached [error-bad-gateway]', errorType: 'error-bad-gateway' }) }
    }
  })
  return app
}

type Received = Pick<FastifyRequest, 'headers' | 'host' | 'protocol' | 'socket'>

/** What tells Rocket.Chat who calls, and how: to Rocket.Chat the connection comes from this server. */
function forwarded ({ headers, host, protocol, socket }: Received) {
  return {
    'x-forwarded-for': [headers['x-forwarded-for'] ?? [], socket.remoteAddress].flat().join(', '),
    'x-forwarded-host': host,
    'x-forwarded-proto': protocol
  }
}

/** Starts the server when this file is the script that Node.js was told to run, and not when another file imports it. */
export async function startIfRun (script: string | undefined, env: NodeJS.ProcessEnv, args: readonly string[] = []): Promise<void> {
  if (!isScript(script, import.meta.url)) return
  await launch(buildInFront, { env, args, output: process.stdout, errors: process.stderr })
}

await startIfRun(process.argv[1], process.env, process.argv.slice(2))
