import { demand, isObject } from '../option-checks.js'
import {
  type OperationDocument,
  type PermissionDocument,
  type RocketChatOptions,
  type StagedData,
  type StagedDocument,
  type UserDocument,
  dataOf,
  rolesMeet,
  toOperation
} from './documents.js'
import { hashLoginToken } from './login-token.js'
import { newestByTs } from './sort-order.js'

/** How many documents are looked through in one go. */
const BATCH_SIZE = 1000

/**
 * Rocket.Chat's documents by collection, as `EJSON.parse` of the package `bson` reads them from what `mongoexport` writes. Its option
 * `relaxed: false` keeps all digits of 64-bit integers.
 */
export interface RocketChatDocuments {
  rocketchat_import: readonly OperationDocument[]
  rocketchat_import_data: readonly StagedDocument[]
  users: readonly UserDocument[]
  rocketchat_permissions: readonly PermissionDocument[]
}

/**
 * Rocket.Chat's documents, held in memory, as what the plugin wants injected. They are read anew for each call, so a host may
 * change the arrays at any time; they are never written to. A document that is malformed matches nothing, and is no error.
 *
 * @throws InvalidOption when one of the collections is no array
 */
export function rocketChatDump (documents: RocketChatDocuments): RocketChatOptions {
  for (const collection of ['rocketchat_import', 'rocketchat_import_data', 'users', 'rocketchat_permissions'] as const) {
    demand(collection, documents[collection], Array.isArray, 'an array of documents')
  }

  function * staged (dataType: string): Generator<StagedData[]> {
    const all = documents.rocketchat_import_data
    for (let from = 0; from < all.length; from += BATCH_SIZE) {
      yield all.slice(from, from + BATCH_SIZE).filter(document => document?.dataType === dataType).map(dataOf)
    }
  }

  return {
    lookupUser ({ userId, authToken }) {
      const hashedToken = hashLoginToken(authToken)
      return documents.users.find(user => user?._id === userId && user.active !== false && hasToken(user, hashedToken))
    },
    hasPermission: (user, permission) =>
      rolesMeet(user, documents.rocketchat_permissions.find(document => document?._id === permission)),
    store: {
      async latestOperation () {
        const newest = newestByTs(documents.rocketchat_import.filter(isObject))
        return newest ? toOperation(newest) : null
      },
      users: () => staged('user'),
      channels: () => staged('channel'),
      contacts: () => staged('contact'),
      countMessages: async () => documents.rocketchat_import_data.filter(document => document?.dataType === 'message').length
    }
  }
}

function hasToken ({ services }: UserDocument, hashedToken: string): boolean {
  const loginTokens = services?.resume?.loginTokens
  return Array.isArray(loginTokens) && loginTokens.some(token => token?.hashedToken === hashedToken)
}
