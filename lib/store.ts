import type { FastifyBaseLogger } from 'fastify'
import type { ImportOperation } from './operation.js'

/**
 * Where the import data is, as the plugin reads it. The plugin never writes.
 *
 * If a method throws or rejects, the reply is a 503. If part of the reply has been sent, it is aborted. An error with a 4xx `statusCode`
 * keeps that status. A return value of the wrong type is a 500, because a retry would not help; the log names the method. A field of the
 * wrong type in an operation or a staged record is ignored.
 */
export interface ImportDataStore {
  /** The newest import operation, or null when there is none. */
  latestOperation (context: StoreContext): Promise<ImportOperation | null>
  /** The staged users, in the order of the reply. */
  users (context: StoreContext): Batches<StagedUser>
  /** The staged channels. Direct ones (`t: 'd'`) share one item, so one of them is enough. */
  channels (context: StoreContext): Batches<StagedChannel>
  /** The staged contacts. A store without contacts leaves it out. */
  contacts? (context: StoreContext): Batches<StagedContact>
  /** How many messages are staged. */
  countMessages (context: StoreContext): Promise<number>
}

/**
 * Staged records in batches. A batch is the result of one read, and may be empty; at most one batch of each kind is held in
 * memory. A reply may open the same batches twice. It closes batches that it does not read to the end with the iterator's
 * `return`, even after its `next` has failed.
 */
export type Batches<T> = AsyncIterable<readonly T[]> | Iterable<readonly T[]>

/** The call that a store reads for. */
export interface StoreContext {
  /** Aborted when nothing more has to be read: the caller has disconnected, or the reply has failed. */
  readonly signal: AbortSignal
  /** The request's logger. */
  readonly log: FastifyBaseLogger
}

/** A staged user: the fields of Rocket.Chat's record that the reply needs. */
export interface StagedUser {
  /** The user's ids in the source system; the first becomes `user_id`. */
  importIds: readonly string[]
  username?: string
  /** The first becomes `email`. */
  emails?: readonly string[]
  deleted?: boolean
  type?: string
}

/** A staged channel: the fields of Rocket.Chat's record that the reply needs. */
export interface StagedChannel {
  /** The channel's ids in the source system; the first becomes `channel_id`. */
  importIds: readonly string[]
  name?: string
  /** `c`: public; `p`: private; `d`: direct. */
  t: string
  archived?: boolean
}

/** A staged contact: the fields of Rocket.Chat's record that the reply needs. */
export interface StagedContact {
  /** The contact's ids in the source system; the first becomes `id`. */
  importIds: readonly string[]
  name?: string
  emails?: readonly string[]
  phones?: readonly string[]
}
