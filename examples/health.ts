import { type FastifyPluginAsync } from 'fastify'
import { type ImportDataStore } from '../lib/index.js'

/** How long the database may take to answer before the server counts as not ready: milliseconds. */
const READY_WITHIN = 5000

/**
 * A Fastify plugin: `GET /health` says that the process serves requests, and `GET /ready` whether it can read the newest import
 * operation, so whether the database is there and lets it in. Both are open to everybody, tell nothing else, and are logged only
 * when something is wrong.
 */
export const health: FastifyPluginAsync<{ store: ImportDataStore }> = async (instance, { store }) => {
  const options = { logLevel: 'warn', schema: { hide: true } } as const
  let asking: Promise<boolean> | undefined

  async function canRead (): Promise<boolean> {
    try {
      await store.latestOperation({ signal: AbortSignal.timeout(READY_WITHIN), log: instance.log })
      return true
    } catch (failure) {
      instance.log.warn({ err: failure }, 'Not ready: the database cannot be read')
      return false
    }
  }

  instance.addHook('onRequest', async (_request, reply) => { reply.header('Cache-Control', 'no-store') })
  instance.get('/health', options, async () => ({ status: 'ok' }))
  instance.get('/ready', options, async (_request, reply) => {
    // However many ask at the same time, the database is asked once.
    asking ??= canRead().finally(() => { asking = undefined })
    const isReady = await asking
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'unavailable' })
  })
}
