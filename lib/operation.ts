import { inspect } from 'node:util'

/** An import operation: one import, from the selection of its file to its end. */
export interface ImportOperation {
  /** The id, which no other operation has. */
  id: string
  /** One of Rocket.Chat's statuses. For any other, the reply is the selection of what is staged, and a warning is logged. */
  status: ImportStatus | (string & {})
  /** The key of its importer, such as `slack`: one of the option `importers`. */
  importerKey?: string
  /** False once the import has become invalid, for example because another import is about to begin. */
  valid?: boolean
  /** The path of the uploaded file. It is never opened and never sent: only whether there is one matters. */
  file?: string | null
  /** What is being read now, such as `general/2023-05-04`. */
  reading?: string | null
  /** How many records have been staged so far. */
  count?: ImportCount
  /** When the operation last changed in any way. Without it a selection has no ETag, and no reply is marked as stalled. */
  updatedAt?: Date
}

/** The kinds of records that an operation counts, in the order of the reply. */
export const countedKinds = ['total', 'completed', 'error', 'users', 'channels', 'messages', 'contacts'] as const

/** Whether a value is a number of records: whole, and 0 or more. */
export const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0

/** How many records an operation has staged of each kind, has in total, has imported and has failed to import; each only once known. */
export type ImportCount = { [kind in typeof countedKinds[number]]?: number }

/** All of Rocket.Chat's statuses without their prefix, by what they mean (contract.md, "What it does, step by step", 5). */
const STATUSES = [
  /** A waiting reply, while the operation is valid. */
  ['waiting', ['downloading_file', 'preparing_started', 'preparing_users', 'preparing_channels', 'preparing_contacts', 'preparing_messages']],
  /** The selection, which cannot change any more. */
  ['settled', ['user_selection', 'import_cancelled']],
  /** The selection of what is staged so far; for a loaded file that `prepare` reads, a waiting reply. */
  ['staged', ['new', 'uploading', 'file_loaded', 'finishing', 'done']],
  ['staged', ['importing_started', 'importing_users', 'importing_contacts', 'importing_channels', 'importing_messages', 'importing_files']],
  /** An error. */
  ['failed', ['import_failed']]
] as const

/** A status of an import operation, as Rocket.Chat names it. */
export type ImportStatus = `importer_${typeof STATUSES[number][1][number]}`

/** What each of Rocket.Chat's statuses means. */
const meanings = new Map(STATUSES.flatMap(([meaning, statuses]) => statuses.map(status => [`importer_${status}`, meaning])))

/** An operation as it was when it was read: a store may return the same object each time, and change it. */
export type Snapshot = ReturnType<typeof snapshotOf>

/**
 * Takes a snapshot of an operation, and finds what it means for the reply. The reply to an unknown status is the same as for `staged`.
 *
 * @param importers the display name of each importer by its key
 * @param prepare what reads a file, if anything does
 */
export function snapshotOf (original: ImportOperation, importers: Readonly<Record<string, string>>, prepare: unknown) {
  const { status, importerKey, file = null, updatedAt } = original
  // A store may return a bigint or an object, which JSON or `===` cannot handle.
  const id = typeof original.id === 'string' ? original.id : inspect(original.id, { depth: Infinity })
  const valid = original.valid !== false
  // Undefined when the importer is not known, or there is none.
  const name = typeof importerKey === 'string' && Object.hasOwn(importers, importerKey) ? importers[importerKey] : undefined
  // In milliseconds since 1970.
  const updateTime = updatedAt instanceof Date && !Number.isNaN(updatedAt.getTime()) ? updatedAt.getTime() : undefined
  // Whether `prepare` has to read the file.
  const isLoaded = status === 'importer_file_loaded' && Boolean(file && prepare && (name !== undefined || !importerKey))
  const meaning = isLoaded ? 'waiting' : meanings.get(status) ?? 'unknown'
  return { original, id, name, status, valid, file, updateTime, isLoaded, meaning }
}

/**
 * Whether the records of a selection belong to one import, given the newest operation before and after they were read. Rocket.Chat clears
 * staged records in three steps: it makes the operations invalid, deletes the records and inserts the new operation. Each step is
 * visible here. While records are imported, the status and `updatedAt` change without that, so they are compared only in a settled selection.
 */
export function isSameImport (before: Snapshot, after: Snapshot | null): boolean {
  if (before.id !== after?.id || before.valid !== after.valid) return false
  return before.meaning !== 'settled' || (before.status === after.status && before.updateTime === after.updateTime)
}
