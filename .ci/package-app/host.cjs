const Fastify = require('fastify')
const importFileData = require('fastify-import-file-data')
const rocketchat = require('fastify-import-file-data/rocketchat')
const { call } = require('./call.cjs')

call(Fastify, [importFileData, importFileData.default, importFileData.importFileData], rocketchat)
  .then(() => console.log('CommonJS: registered'))
