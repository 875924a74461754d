import { demand, isObject } from '../options.js'
import * as rocketChat from './documents.js'
import { newestFirst } from './sort-order.js'

const BATCH_SIZE = 1000

/**
 * Rocket.Chat's documents by collection, as `EJSON.parse` of the package `bson` reads the output of `mongoexport`. With its option
 * `relaxed: false`, 64-bit integers keep all digits.
 */
export interface RocketChatDocuments {
  rocketchat_import: readonly rocketChat.OperationDocument[]
  rocketchat_import_data: readonly rocketChat.StagedDocument[]
  users: readonly rocketChat.UserDocument[]
  rocketchat_permissions: readonly rocketChat.PermissionDocument[]
}

/**
 * The options of the plugin for Rocket.Chat's documents in memory. They are read at each call, so a host may change the arrays at any
 * time. They are never written to. Malformed documents are ignored.
 *
 * @throws InvalidOption when one of the collections is not an array
 */
export function rocketChatDump (documents: RocketChatDocuments): rocketChat.RocketChatOptions {
  demand('an array of documents', Array.isArray, documents, ['rocketchat_import', 'rocketchat_import_data', 'users', 'rocketchat_permissions'])

  function * staged (dataType: string): Generator<rocketChat.StagedData[]> {
    const all = documents.rocketchat_import_data
    for (let from = 0; from < all.length; from += BATCH_SIZE) {
      yield all.slice(from, from + BATCH_SIZE).filter(document => document?.dataType === dataType).map(rocketChat.dataOf)
    }
  }

  return {
    lookupUser: ({ userId, authToken }) => documents.users.find(user => user?._id === userId && user.active !== false &&
      rocketChat.listOf(user.services?.resume?.loginTokens).map(token => token?.hashedToken).includes(rocketChat.hashLoginToken(authToken))),
    hasPermission: (user, permission) =>
      rocketChat.hasRoleOf(user, documents.rocketchat_permissions.find(document => document?._id === permission)),
    store: {
      latestOperation: async () => rocketChat.toOperation(documents.rocketchat_import.filter(isObject).sort(newestFirst)[0]),
      users: () => staged('user'),
      channels: () => staged('channel'),
      contacts: () => staged('contact'),
      countMessages: async () => documents.rocketchat_import_data.filter(document => document?.dataType === 'message').length
    }
  }
}
