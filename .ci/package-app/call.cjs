const assert = require('node:assert')

/** Registers each of the plugins in a new server, with documents in memory, and calls the route. */
exports.call = async function call (Fastify, plugins, { hashLoginToken, rocketChatDump }) {
  for (const plugin of plugins) {
    const app = Fastify()
    await app.register(plugin, {
      prefix: '/api/v1',
      ...rocketChatDump({
        users: [{ _id: 'ada', roles: ['admin'], services: { resume: { loginTokens: [{ hashedToken: hashLoginToken('secret') }] } } }],
        rocketchat_permissions: [{ _id: 'run-import', roles: ['admin'] }],
        rocketchat_import: [{ _id: 1, ts: new Date(), status: 'importer_user_selection', importerKey: 'slack', valid: true }],
        rocketchat_import_data: [{ dataType: 'message', data: {} }]
      })
    })
    const { body } = await app.inject({ url: '/api/v1/getImportFileData', headers: { 'x-user-id': 'ada', 'x-auth-token': 'secret' } })
    await app.close()
    assert.strictEqual(body, '{"name":"Slack","users":[],"channels":[],"message_count":1,"success":true}')
  }
}
