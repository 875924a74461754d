import proxy from '@fastify/http-proxy'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { answerClientError, answerFrameworkError } from './error-replies.js'
import { type Output, isScript, launch } from './launch.js'
import { createImportApi, loggerOptions } from './server.js'
import type { Settings } from './settings.js'
import { StartupError } from './startup-error.js'

/**
 * A server in front of Rocket.Chat, for use without another reverse proxy. It replies to `GET /api/v1/getImportFileData`, `/health` and
 * `/ready` itself, and forwards everything else to `settings.rocketchatUrl`, including WebSockets. It does not listen yet.
 *
 * @throws StartupError when the import cannot be read, or a URL is missing or not valid
 */
export async function buildInFront (settings: Settings, output: Output = process.stdout): Promise<FastifyInstance> {
  const { rocketchatUrl, trustProxy } = settings
  if (rocketchatUrl === undefined) {
    throw new StartupError('ROCKETCHAT_URL is not set: set it to the URL of Rocket.Chat itself, such as http://localhost:3001.')
  }
  const importApi = await createImportApi(settings)
  const app: FastifyInstance = Fastify({
    logger: loggerOptions(settings, output),
    trustProxy,
    frameworkErrors: answerFrameworkError,
    clientErrorHandler: answerClientError
  })
  await app.register(importApi)
  // In a variable, because the proxy's types lack the documented option `rewriteRequestHeaders`. Its default forwards the cookie only.
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
      // The error contains internal addresses, so it is not sent. The proxy has logged it.
      onError: reply => { reply.code(502).send({ success: false, error: 'Rocket.Chat cannot be reached [error-bad-gateway]', errorType: 'error-bad-gateway' }) }
    }
  })
  return app
}

type Received = Pick<FastifyRequest, 'headers' | 'host' | 'protocol' | 'socket'>

/** The headers that tell Rocket.Chat the caller's address, host and protocol. */
function forwarded ({ headers, host, protocol, socket }: Received) {
  return {
    'x-forwarded-for': [headers['x-forwarded-for'] ?? [], socket.remoteAddress].flat().join(', '),
    'x-forwarded-host': host,
    'x-forwarded-proto': protocol
  }
}

/** Starts the server if this file is the script that Node.js runs, and not an import of another file. */
export async function startIfRun (script: string | undefined, env: NodeJS.ProcessEnv, args: readonly string[] = []): Promise<void> {
  if (!isScript(script, import.meta.url)) return
  await launch(buildInFront, { env, args, output: process.stdout, errors: process.stderr })
}

await startIfRun(process.argv[1], process.env, process.argv.slice(2))
