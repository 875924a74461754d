import type { Socket } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import type { Batches, ImportDataStore, Prepare } from '../lib/index.js'
import type { Settings } from './settings.js'
import { listenFailure } from './startup-error.js'

/** The plugin options that are measured. */
interface Measured {
  store: ImportDataStore
  prepare?: Prepare
}

/**
 * Collects metrics of the route, and serves them for Prometheus as `GET /metrics` on a separate port, so that no proxy makes them
 * public. That port is closed with the server.
 *
 * @param api the scope that contains the plugin's route only
 * @param options the plugin's options
 * @returns the options to pass to the plugin, with the store and `prepare` wrapped
 */
export function measure<Options extends Measured> (
  api: FastifyInstance,
  options: Options,
  settings: Pick<Settings, 'host' | 'metricsPort'>
): Options {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  countReplies(api, registry)
  serveMetrics(api, registry, settings)
  return {
    ...options,
    store: countRecords(options.store, registry),
    ...(options.prepare && { prepare: countPrepares(options.prepare, registry) })
  }
}

function countReplies (api: FastifyInstance, registry: Registry): void {
  const registers = [registry]
  const calls = new Counter({
    name: 'import_file_data_calls_total',
    help: 'Calls of the route by status of the reply; "none" if the caller disconnected before the reply',
    labelNames: ['status'],
    registers
  })
  const broken = new Counter({
    name: 'import_file_data_replies_broken_total',
    help: 'Incomplete replies, by who closed the connection',
    labelNames: ['by'],
    registers
  })
  const firstByte = new Histogram({
    name: 'import_file_data_time_to_first_byte_seconds',
    help: 'Time from a call to the first byte of its reply',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers
  })
  for (const by of ['server', 'caller']) broken.inc({ by }, 0)

  api.addHook('onRequest', async ({ raw: { socket } }, { raw }) => {
    raw.once('close', () => {
      calls.inc({ status: raw.headersSent ? raw.statusCode : 'none' })
      if (raw.headersSent && !raw.writableFinished) broken.inc({ by: isClosedByCaller(socket) ? 'caller' : 'server' })
    })
  })
  api.addHook('onSend', async (_request, reply) => { firstByte.observe(reply.elapsedTime / 1000) })
}

/** Whether the caller has ended or reset the connection. */
function isClosedByCaller ({ readableEnded, errored }: Socket): boolean {
  return readableEnded || errored !== null
}

function countRecords (store: ImportDataStore, registry: Registry): ImportDataStore {
  const records = new Counter({
    name: 'import_file_data_records_total',
    help: 'Staged records read for replies, by kind',
    labelNames: ['kind'],
    registers: [registry]
  })
  async function * counted<T> (kind: string, batches: Batches<T>): AsyncGenerator<readonly T[]> {
    for await (const batch of batches) {
      records.inc({ kind }, batch.length)
      yield batch
    }
  }
  for (const kind of ['users', 'channels', 'contacts']) records.inc({ kind }, 0)
  return {
    latestOperation: context => store.latestOperation(context),
    users: context => counted('users', store.users(context)),
    channels: context => counted('channels', store.channels(context)),
    contacts: context => counted('contacts', store.contacts?.(context) ?? []),
    countMessages: context => store.countMessages(context)
  }
}

function countPrepares (prepare: Prepare, registry: Registry): Prepare {
  const registers = [registry]
  const prepares = new Counter({
    name: 'import_file_data_prepares_total',
    help: 'Uploaded files that Rocket.Chat was asked to read, by result',
    labelNames: ['result'],
    registers
  })
  const running = new Gauge({
    name: 'import_file_data_prepares_running',
    help: 'Uploaded files that Rocket.Chat is reading',
    registers
  })
  for (const result of ['done', 'failed']) prepares.inc({ result }, 0)
  return async (operation, context) => {
    running.inc()
    try {
      await prepare(operation, context)
      prepares.inc({ result: 'done' })
    } catch (failure) {
      prepares.inc({ result: 'failed' })
      throw failure
    } finally {
      running.dec()
    }
  }
}

function serveMetrics (app: FastifyInstance, registry: Registry, { host, metricsPort = 0 }: Pick<Settings, 'host' | 'metricsPort'>): void {
  // Whoever is connected to the port must not keep the process from ending.
  const server: FastifyInstance = Fastify({ forceCloseConnections: true })
  server.get('/metrics', async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()))
  app.addHook('onReady', async () => {
    try {
      app.log.info(`Metrics: ${await server.listen({ host, port: metricsPort })}/metrics`)
    } catch (failure) {
      throw listenFailure(failure, { host, port: metricsPort }, 'METRICS_PORT')
    }
  })
  app.addHook('onClose', () => server.close())
}
