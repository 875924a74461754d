export { rocketChatDump, type RocketChatDocuments, type RocketChatOptions } from './dump.js'
export { hashLoginToken } from './login-token.js'
