import { inspect } from 'node:util'
import { type ImportFileDataOptions } from '../options.js'
import { bsonType, plainValue } from '../plain-value.js'
import { type ImportCount, type ImportOperation, type StagedChannel, type StagedContact, type StagedUser } from '../store.js'

// The shapes are those that Rocket.Chat writes (contract.md, "Documents"), down to the fields that the reply needs. What is
// staged comes from a file that somebody uploaded, and is taken as it is: the plugin trusts none of it.

/** A document of the collection `users`: who may log in, and with what. */
export interface UserDocument {
  _id: string
  /** False: deactivated. */
  active?: boolean
  roles?: readonly string[]
  services?: { resume?: { loginTokens?: ReadonlyArray<{ hashedToken?: string }> } }
}

/** A document of the collection `rocketchat_permissions`: the roles that have a permission. */
export interface PermissionDocument {
  /** The permission, such as `run-import`. */
  _id: string
  roles?: readonly string[]
}

/** A document of the collection `rocketchat_import`: one import operation. */
export interface OperationDocument {
  _id: unknown
  /** When the import began; the newest operation counts. */
  ts?: unknown
  status?: string
  importerKey?: string
  valid?: boolean
  file?: string | null
  messagesstatus?: string | null
  count?: ImportCount
  _updatedAt?: Date
}

/** A document of the collection `rocketchat_import_data`: one staged record. */
export interface StagedDocument {
  /** `user`, `channel`, `contact` or `message`. */
  dataType?: string
  data?: StagedData | null
}

/** The record itself: which of the fields it has depends on its `dataType`. */
export interface StagedData extends StagedUser, StagedChannel, StagedContact {}

/** A staged document's record; one that has none is a record without an import id. */
export function dataOf ({ data }: StagedDocument): StagedData {
  return data ?? { importIds: [], t: '' }
}

/** What is injected for data in Rocket.Chat's layout: to be spread into the plugin's options. */
export type RocketChatOptions = Pick<ImportFileDataOptions<UserDocument>, 'lookupUser' | 'hasPermission' | 'store'>

/** The operation that a document of `rocketchat_import` is. One without a true `valid` is invalid there, and so here. */
export function toOperation (document: OperationDocument): ImportOperation {
  const { _id, status, importerKey, valid, file, messagesstatus, count, _updatedAt } = document
  return {
    id: wordOf(_id),
    status: status ?? '',
    valid: valid === true,
    reading: messagesstatus ?? null,
    file: file ?? null,
    ...(importerKey && { importerKey: wordOf(importerKey) }),
    ...(count && { count: toCount(count) }),
    ...(_updatedAt instanceof Date && { updatedAt: _updatedAt })
  }
}

// Not String of an embedded document, which may have a member `toString` that is not a function.
function wordOf (value: unknown): string {
  const plain = plainValue(value)
  return typeof plain === 'object' && bsonType(plain) === undefined ? inspect(plain) : String(plain)
}

function toCount (count: object): ImportCount {
  const counts = Object.entries(count).map(([kind, value]) => [kind, plainValue(value)])
  return Object.fromEntries(counts.filter(([, value]) => typeof value === 'number'))
}

/** Whether the roles of a user meet the roles that have a permission. */
export function rolesMeet (user: UserDocument | null | undefined, permission: PermissionDocument | null | undefined): boolean {
  const held = user?.roles
  const granted = permission?.roles
  // Text would be searched for a part of it.
  return Array.isArray(held) && Array.isArray(granted) && held.some(role => typeof role === 'string' && granted.includes(role))
}
