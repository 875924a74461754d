import { FileFormatInvalid, ImporterNotDefined, OperationInvalid, OperationNotFound } from './errors.js'
import { type ImportOperation } from './store.js'

type Meaning = 'waiting' | 'settled' | 'staged' | 'loaded' | 'failed'

/**
 * What each status of an import operation means for the reply (contract.md, "What it does, step by step", 5):
 * `waiting`, while it is valid; `settled`, the selection, which cannot change any more; `staged`, the selection of whatever
 * is staged by now; `loaded`, a file that waits for `prepare`, or else the same; `failed`, an error.
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

/** What an operation means for the reply. */
export interface Outcome {
  operation: ImportOperation
  /** The importer's display name. */
  name: string | undefined
  meaning: Exclude<Meaning, 'failed'>
}

/**
 * What an operation means for the reply.
 *
 * @param operation the newest operation, or null
 * @param importers the display name of each importer by its key
 * @throws OperationNotFound, ImporterNotDefined, OperationInvalid, FileFormatInvalid: the contract's errors
 */
export function outcomeOf (operation: ImportOperation | null, importers: ReadonlyMap<string, string>): Outcome {
  if (operation === null) throw new OperationNotFound()
  const name = importerName(operation.importerKey, importers)
  const meaning = meaningOf(operation)
  if (meaning === 'failed') throw new FileFormatInvalid()
  if (meaning === 'waiting' && operation.valid === false) throw new OperationInvalid()
  return { operation, name, meaning }
}

/** When an operation last changed: milliseconds since 1970, or undefined when it does not say. */
export function changedAt ({ updatedAt }: ImportOperation): number | undefined {
  const time = updatedAt instanceof Date ? updatedAt.getTime() : NaN
  return Number.isNaN(time) ? undefined : time
}

/**
 * Whether an operation still is in the state in which its selection began to be read. Rocket.Chat clears staged records by making
 * operations invalid, deleting the records and inserting the new operation, in this order: so each of these steps shows. While the
 * records are imported, the status and the time of the last change move on by themselves, and are not compared.
 */
export function isSameState (before: ImportOperation, after: ImportOperation, meaning: Outcome['meaning']): boolean {
  if (before.id !== after.id || before.valid !== after.valid) return false
  return meaning !== 'settled' || (before.status === after.status && changedAt(before) === changedAt(after))
}

function meaningOf ({ status, file }: ImportOperation): Meaning {
  if (!isImportStatus(status)) return 'staged'
  const meaning = MEANINGS[status]
  return meaning === 'loaded' && !file ? 'staged' : meaning
}

function importerName (key: string | null | undefined, importers: ReadonlyMap<string, string>): string | undefined {
  if (!key) return undefined
  const name = importers.get(key)
  if (name === undefined) throw new ImporterNotDefined(key)
  return name
}
