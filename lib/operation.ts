import { FileFormatInvalid, ImporterNotDefined, OperationInvalid, OperationNotFound } from './errors.js'
import { type ImportOperation } from './store.js'

type Meaning = 'waiting' | 'settled' | 'staged' | 'loaded' | 'failed'

/**
 * What each status of an import operation means for the reply (contract.md, "What it does, step by step", 5):
 * `waiting`, while it is valid; `settled`, the selection, which cannot change any more; `staged`, the selection of whatever
 * is staged by now; `loaded`, the same, or `prepare` when there is a file; `failed`, an error.
 */
const MEANINGS = {
  importer_new: 'staged',
  importer_uploading: 'staged',
  importer_downloading_file: 'waiting',
  importer_file_loaded: 'loaded',
  importer_preparing_started: 'waiting',
  importer_preparing_users: 'waiting',
  importer_preparing_channels: 'waiting',
  importer_preparing_contacts: 'waiting',
  importer_preparing_messages: 'waiting',
  importer_user_selection: 'settled',
  importer_importing_started: 'staged',
  importer_importing_users: 'staged',
  importer_importing_contacts: 'staged',
  importer_importing_channels: 'staged',
  importer_importing_messages: 'staged',
  importer_importing_files: 'staged',
  importer_finishing: 'staged',
  importer_done: 'staged',
  importer_import_failed: 'failed',
  importer_import_cancelled: 'settled'
} as const satisfies Record<string, Meaning>

/** A status of an import operation: Rocket.Chat's words. */
export type ImportStatus = keyof typeof MEANINGS

/** Every status that there is. */
export const importStatuses = Object.keys(MEANINGS)

/** Whether a status is one of Rocket.Chat's. */
export function isImportStatus (status: unknown): status is ImportStatus {
  return typeof status === 'string' && Object.hasOwn(MEANINGS, status)
}

/** What the reply to an operation is to be: word that it is being prepared, or the selection under its importer's name. */
export type Outcome =
  | { kind: 'waiting', operation: ImportOperation }
  | { kind: 'selection', operation: ImportOperation, name: string | undefined }

/**
 * What an operation means for the reply.
 *
 * @param operation the newest operation, or null
 * @param importers the display name of each importer by its key
 * @throws OperationNotFound, ImporterNotDefined, OperationInvalid, FileFormatInvalid: the contract's errors
 */
export function outcomeOf (operation: ImportOperation | null | undefined, importers: ReadonlyMap<string, string>): Outcome {
  if (operation === null || operation === undefined) throw new OperationNotFound()
  const name = importerName(operation.importerKey, importers)
  const meaning: Meaning = isImportStatus(operation.status) ? MEANINGS[operation.status] : 'staged'
  if (meaning === 'failed') throw new FileFormatInvalid()
  if (meaning !== 'waiting') return { kind: 'selection', operation, name }
  if (operation.valid === false) throw new OperationInvalid()
  return { kind: 'waiting', operation }
}

function importerName (key: string | null | undefined, importers: ReadonlyMap<string, string>): string | undefined {
  if (key === null || key === undefined) return undefined
  const name = importers.get(key)
  if (name === undefined) throw new ImporterNotDefined(key)
  return name
}
