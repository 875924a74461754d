import auth from '@fastify/auth'
import Fastify, { type FastifyInstance, type RouteHandlerMethod } from 'fastify'
import { type Db, MongoClient } from 'mongodb'
import type * as main from '../lib/index.js'
import type * as rocketChat from '../lib/rocketchat/index.js'
import { createAuthFunctions } from './baselines/auth.js'
import { bareRoute } from './baselines/bare-route.js'
import { rawDrain } from './baselines/raw-drain.js'
import { rocketChatWay } from './baselines/rocket-chat.js'
import { Meter } from './meter.js'
import { type Order, type Question, WARM_UP_PREFIX, WARM_UP_USERS, WORK_PREFIX } from './server-process.js'
import { type Work, databaseName, generatedOptions } from './work.js'

// The server program: serves the replies of a side, and measures itself on request.

const { side, work, plugin, mongoUrl, reply }: Order = JSON.parse(process.argv[2] ?? '')
const { importFileData }: typeof main = await import(`${plugin}index.js`)
const { rocketChatDatabase }: typeof rocketChat = await import(`${plugin}rocketchat/index.js`)
const client = new MongoClient(mongoUrl ?? 'mongodb://127.0.0.1')
const meter = new Meter()
const app = Fastify()

await addSide(work, WORK_PREFIX)
await addSide({ ...work, users: WARM_UP_USERS }, WARM_UP_PREFIX)
const address = await app.listen({ port: 0, host: '127.0.0.1' })
process.on('message', async (question: Question) => process.send?.(await meter[question]() ?? 'done'))
process.on('disconnect', () => process.exit())
process.send?.(Number(new URL(address).port))

async function addSide (work: Work, prefix: string): Promise<void> {
  const db = client.db(databaseName(work.users))
  const options: main.ImportFileDataOptions = work.store === 'mongodb' ? rocketChatDatabase(db) : generatedOptions(work)
  if (side === 'ours' || side === 'earlier') await app.register(importFileData, { prefix, ...options })
  else await addBaseline(baseline(options, db), options, prefix)
}

async function addBaseline (handler: RouteHandlerMethod, options: main.ImportFileDataOptions, prefix: string): Promise<void> {
  await app.register(async (instance: FastifyInstance) => {
    await instance.register(auth)
    const onRequest = instance.auth(createAuthFunctions(instance, options), { relation: 'and' })
    instance.get('/getImportFileData', { onRequest, exposeHeadRoute: false }, handler)
  }, { prefix })
}

function baseline ({ store }: main.ImportFileDataOptions, db: Db): RouteHandlerMethod {
  if (side === 'rocket-chat') return rocketChatWay(store)
  if (side === 'raw-drain') return rawDrain(db)
  if (reply === undefined) throw new Error('The bare route needs a reply to send')
  return bareRoute(reply)
}
