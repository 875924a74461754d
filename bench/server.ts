import auth from '@fastify/auth'
import Fastify, { type FastifyInstance, type RouteHandlerMethod } from 'fastify'
import { type Db, MongoClient } from 'mongodb'
import { createAuthFunctions, kCaller } from '../lib/auth.js'
import { type ImportFileDataOptions, importFileData } from '../lib/index.js'
import { rocketChatDatabase, rocketChatDump } from '../lib/rocketchat/index.js'
import { bareRoute } from './baselines/bare-route.js'
import { drain } from './baselines/drain.js'
import { readyMade } from './baselines/ready-made.js'
import { databaseLookUps, databaseModels, rocketChatWay, storeModels } from './baselines/rocket-chat.js'
import { Meter } from './meter.js'
import { type Order, type Question, WARM_UP, WORK } from './server-process.js'
import { type Work, credentials, databaseOf, dumpOf, madeUpStore } from './work.js'

// The program of a server process: serves a side's reply, and measures itself when asked.

type Injected = Pick<ImportFileDataOptions, 'lookupUser' | 'hasPermission' | 'store'>

const { side, work, mongoUrl = '' }: Order = JSON.parse(process.argv[2] ?? '')
const client = new MongoClient(mongoUrl || 'mongodb://127.0.0.1')
const meter = new Meter()
const app = Fastify()

await addSide(work, WORK.prefix)
await addSide({ ...work, users: WARM_UP.users }, WARM_UP.prefix)
const address = await app.listen({ port: 0, host: '127.0.0.1' })
process.on('message', async (question: Question) => process.send?.(await meter[question]() ?? 'done'))
process.on('disconnect', () => process.exit())
process.send?.(Number(new URL(address).port))

async function addSide (work: Work, prefix: string): Promise<void> {
  const db = client.db(databaseOf(work.users))
  const injected = inject(work, db)
  if (side === 'ours') await app.register(importFileData, { prefix, ...injected })
  else await addBaseline(await baseline(work, injected, db), injected, prefix)
}

async function addBaseline (handler: RouteHandlerMethod, injected: Injected, prefix: string): Promise<void> {
  await app.register(async (instance: FastifyInstance) => {
    await instance.register(auth)
    instance.decorateRequest(kCaller, null)
    const onRequest = instance.auth(createAuthFunctions(injected), { relation: 'and' })
    instance.get('/getImportFileData', { onRequest, exposeHeadRoute: false }, handler)
  }, { prefix })
}

async function baseline (work: Work, injected: Injected, db: Db): Promise<RouteHandlerMethod> {
  switch (side) {
    case 'rocket-chat': return rocketChatWay(work.store === 'mongodb' ? databaseModels(db) : storeModels(injected.store))
    case 'drain': return drain(db, { raw: false })
    case 'raw-drain': return drain(db, { raw: true })
    case 'ready-made': return readyMade(await bodyOf(injected))
    default: return bareRoute()
  }
}

function inject (work: Work, db: Db): Injected {
  switch (work.store) {
    case 'mongodb': return { ...rocketChatDatabase(db), ...(side === 'rocket-chat' && databaseLookUps(db)) }
    case 'dump': return rocketChatDump(dumpOf(work.users))
    default: return {
      lookupUser: ({ userId, authToken }) =>
        userId === credentials.userId && authToken === credentials.authToken ? { id: userId } : null,
      hasPermission: () => true,
      store: madeUpStore(work)
    }
  }
}

async function bodyOf (injected: Injected): Promise<Buffer> {
  const maker = Fastify()
  await maker.register(importFileData, injected)
  const headers = { 'x-user-id': credentials.userId, 'x-auth-token': credentials.authToken }
  const { rawPayload } = await maker.inject({ url: '/getImportFileData', headers })
  return rawPayload
}
