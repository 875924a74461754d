export { rocketChatDatabase, type DatabaseLike, type RocketChatDatabaseOptions } from './database.js'
export { hashLoginToken, type RocketChatOptions } from './documents.js'
export { rocketChatDump, type RocketChatDocuments } from './dump.js'
