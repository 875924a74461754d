export { rocketChatDatabase, type DatabaseLike, type RocketChatDatabaseOptions } from './database.js'
export { type RocketChatOptions } from './documents.js'
export { rocketChatDump, type RocketChatDocuments } from './dump.js'
export { hashLoginToken } from './login-token.js'
