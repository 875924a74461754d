import type { FastifyPluginAsync } from 'fastify'
import type { ImportDataStore } from '../lib/index.js'

/** The time in milliseconds that the database has to answer before the server counts as not ready. */
const READY_WITHIN = 5000

/**
 * A Fastify plugin: `GET /health` replies 200 while the process serves requests, and `GET /ready` replies 200 if the newest import
 * operation can be read, otherwise 503. Neither needs credentials. They are logged only when something is wrong.
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
    // Concurrent requests share one query.
    asking ??= canRead().finally(() => { asking = undefined })
    const isReady = await asking
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'unavailable' })
  })
}
