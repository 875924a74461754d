import { type FastifyBaseLogger } from 'fastify'
import { type ImportStatus } from './operation.js'

/**
 * Where import data is kept, as the plugin reads it. It is never written to.
 *
 * A method that fails (throws, or rejects) makes the reply a 503, or breaks it off when a part of it has been sent; an
 * error with a 4xx `statusCode` of its own has that status instead. What is not of the type below is a fault that no retry mends:
 * the reply is a 500, and the log names the method.
 */
export interface ImportDataStore {
  /** The newest import operation, or null when there is none. */
  latestOperation (context: StoreContext): Promise<ImportOperation | null>
  /** The staged users, in the order in which the reply is to show them. */
  users (context: StoreContext): Batches<StagedUser>
  /** The staged channels. The direct ones (`t: 'd'`) become one item together, so one of them is enough. */
  channels (context: StoreContext): Batches<StagedChannel>
  /** The staged contacts; left out by a store that has none. */
  contacts? (context: StoreContext): Batches<StagedContact>
  /** How many messages are staged. */
  countMessages (context: StoreContext): Promise<number>
}

/**
 * Staged records, a batch at a time. A batch is what one read of the store brings, and may be empty; one batch of each
 * kind is held in memory at once. A reply may open the same batches twice, and closes what it does not read to the end
 * (by the iterator's `return`), as `for await` does.
 */
export type Batches<T> = AsyncIterable<readonly T[]> | Iterable<readonly T[]>

/** The call that a store works for. */
export interface StoreContext {
  /** Aborted when the caller is gone, so that nothing more need be read. */
  readonly signal: AbortSignal
  /** The request's logger. */
  readonly log: FastifyBaseLogger
}

/** An import operation: one import, from the choice of its file to its end. */
export interface ImportOperation {
  /** What tells this operation from every other. */
  id: string
  /** Where it stands: one of Rocket.Chat's words. At any other the reply is the selection of what is staged, and the log says so. */
  status: ImportStatus | (string & {})
  /** The key of its importer, such as `slack`: one of the option `importers`. */
  importerKey?: string
  /** False once a later import has made this one invalid. */
  valid?: boolean
  /** The path of the uploaded file. Never opened and never shown: that there is one is all that counts. */
  file?: string | null
  /** What is being read at the moment, such as `general/2023-05-04`. */
  reading?: string | null
  /** How many records have been staged so far. */
  count?: ImportCount
  /** When the operation last changed in any way. Without it a selection has no ETag, and no reply says that the operation stalls. */
  updatedAt?: Date
}

/** How many records an operation has staged of each kind, has in all, has imported and has failed to; each only once it is known. */
export interface ImportCount {
  total?: number
  completed?: number
  error?: number
  users?: number
  channels?: number
  messages?: number
  contacts?: number
}

/** A staged user: the fields of Rocket.Chat's record that the reply needs. */
export interface StagedUser {
  /** The ids that the user has in the system it comes from; the first becomes `user_id`. */
  importIds: readonly string[]
  username?: string
  /** The first becomes `email`. */
  emails?: readonly string[]
  deleted?: boolean
  type?: string
}

/** A staged channel: the fields of Rocket.Chat's record that the reply needs. */
export interface StagedChannel {
  /** The ids that the channel has in the system it comes from; the first becomes `channel_id`. */
  importIds: readonly string[]
  name?: string
  /** `c`: public; `p`: private; `d`: direct. */
  t: string
  archived?: boolean
}

/** A staged contact: the fields of Rocket.Chat's record that the reply needs. */
export interface StagedContact {
  /** The ids that the contact has in the system it comes from; the first becomes `id`. */
  importIds: readonly string[]
  name?: string
  emails?: readonly string[]
  phones?: readonly string[]
}
