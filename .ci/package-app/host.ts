import Fastify from 'fastify'
import importFileData, { type ImportDataStore, type ImportFileDataOptions } from 'fastify-import-file-data'
import { hashLoginToken, rocketChatDump } from 'fastify-import-file-data/rocketchat'

interface User { id: string, mayImport: boolean }

const store: ImportDataStore = {
  latestOperation: async () => ({ id: 'import-1', importerKey: 'csv', status: 'importer_user_selection' }),
  users: () => [[{ importIds: ['1'], username: 'grace', emails: ['grace@example.com'] }]],
  channels: () => [],
  countMessages: async () => 0
}
const options: ImportFileDataOptions<User> = {
  lookupUser: ({ userId, authToken }) => authToken === 'secret' ? { id: userId, mayImport: true } : null,
  hasPermission: user => user.mayImport,
  store
}
// @ts-expect-error Required options are missing.
const incomplete: ImportFileDataOptions<User> = { store }

const app = Fastify()
await app.register(importFileData, { prefix: '/own', ...options })
await app.register(importFileData, {
  prefix: '/dump',
  ...rocketChatDump({
    users: [{ _id: 'ada', roles: ['admin'], services: { resume: { loginTokens: [{ hashedToken: hashLoginToken('secret') }] } } }],
    rocketchat_permissions: [{ _id: 'run-import', roles: ['admin'] }],
    rocketchat_import: [],
    rocketchat_import_data: []
  })
})
const headers = { 'x-user-id': 'ada', 'x-auth-token': 'secret' }
const own = await app.inject({ url: '/own/getImportFileData', headers })
const dump = await app.inject({ url: '/dump/getImportFileData', headers })
if (own.statusCode !== 200 || dump.statusCode !== 400 || incomplete.store !== store) throw new Error(`${own.body} ${dump.body}`)
console.log('TypeScript: registered')
