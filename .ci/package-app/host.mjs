import Fastify from 'fastify'
import importFileData, { importFileData as named } from 'fastify-import-file-data'
import * as rocketchat from 'fastify-import-file-data/rocketchat'
import { call } from './call.cjs'

await call(Fastify, [importFileData, named], rocketchat)
console.log('ESM: registered')
