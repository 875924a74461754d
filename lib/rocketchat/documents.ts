import { hash } from 'node:crypto'
import { format, inspect } from 'node:util'
import type { ImportOperation } from '../operation.js'
import { type ImportFileDataOptions, isRecord } from '../options.js'
import type { StagedChannel, StagedContact, StagedUser } from '../store.js'

// Rocket.Chat's documents (contract.md, "Documents"), with the fields that the reply needs.

/** A document of the collection `users`. */
export interface UserDocument {
  _id: string
  /** False: deactivated. */
  active?: boolean
  roles?: readonly string[]
  services?: { resume?: { loginTokens?: ReadonlyArray<{ hashedToken?: string }> } }
}

/** A document of the collection `rocketchat_permissions`: the roles that have a permission, such as `run-import`. */
export interface PermissionDocument { _id: string, roles?: readonly string[] }

/** A document of the collection `rocketchat_import`: an import operation. Some of its fields are named as in `ImportOperation`. */
export interface OperationDocument extends Partial<Pick<ImportOperation, 'status' | 'importerKey' | 'valid' | 'file' | 'count'>> {
  _id: unknown
  /** When the import began. The document with the newest is the current operation. */
  ts?: unknown
  messagesstatus?: string | null
  _updatedAt?: Date
}

/** The staged record in a document of `rocketchat_import_data`. Which of the fields it has depends on its type. */
export interface StagedData extends StagedUser, StagedChannel, StagedContact {}

/** A document of the collection `rocketchat_import_data`. Its `dataType` is `user`, `channel`, `contact` or `message`. */
export interface StagedDocument { dataType?: string, data?: StagedData | null }

/** The options of the plugin for data in Rocket.Chat's layout. */
export type RocketChatOptions = Pick<ImportFileDataOptions<UserDocument>, 'lookupUser' | 'hasPermission' | 'store'>

/**
 * The hash of a login token or personal access token under which Rocket.Chat stores it, in
 * `services.resume.loginTokens[].hashedToken` of a document of `users`: its SHA-256 in base64.
 */
export const hashLoginToken = (token: string): string => hash('sha256', token, 'base64')

/** The staged record of a document. A document without one is a record without an import id. */
export const dataOf = ({ data }: StagedDocument): StagedData => data ?? { importIds: [], t: '' }

/**
 * The operation of a document of `rocketchat_import`, or null when there is none. Like Rocket.Chat, it takes an operation whose `valid` is
 * not true as invalid.
 */
export function toOperation (document: OperationDocument | null | undefined): ImportOperation | null {
  if (!document) return null
  const { _id, status, importerKey, valid, file, messagesstatus, count, _updatedAt: updatedAt } = document
  return {
    // String() throws for a document with a member `toString` that is not a function.
    id: isRecord(_id) ? inspect(_id, { depth: Infinity }) : format('%s', _id),
    status: status ?? '',
    valid: valid === true,
    reading: messagesstatus ?? null,
    file: file ?? null,
    ...(importerKey && { importerKey: format('%s', importerKey) }),
    ...(count && { count }),
    ...(updatedAt && { updatedAt })
  }
}

/** Whether a user has one of the roles that have a permission. */
export function hasRoleOf ({ roles }: UserDocument, permission: PermissionDocument | null | undefined): boolean {
  const granted = listOf(permission?.roles)
  return listOf(roles).some(role => typeof role === 'string' && granted.includes(role))
}

/** A list of a document; empty unless it is an array. A string has `includes`, too, which would find a part of it. */
export const listOf = <Member>(list: readonly Member[] | undefined): readonly Member[] => Array.isArray(list) ? list : []
