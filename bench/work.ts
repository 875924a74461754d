import { createHash } from 'node:crypto'
import type { Db } from 'mongodb'
import type { ImportFileDataOptions, ImportOperation, StagedChannel, StagedUser } from '../lib/index.js'

/** What a server replies with: a selection of `users` users, or a waiting reply. */
export interface Work {
  /** The source of the records. */
  store: 'generated' | 'mongodb'
  users: number
  /** The minimum length of the users' names. */
  nameLength?: number
  waiting?: boolean
}

/** The credentials of the only authorized caller. */
export const credentials = { userId: 'bench-caller', authToken: 'bench-token' }

const BATCH_SIZE = 1000

const IMPORTER = 'slack'

/** The time of the operation's last change. In the future, so that the operation never stalls and every reply is the same. */
const CHANGED = new Date('2100-01-01T00:00:00Z')

/** The plugin's options with a store that generates its records as fast as possible, the same each time. */
export function generatedOptions ({ users, nameLength = 0, waiting = false }: Work): ImportFileDataOptions {
  const operation: ImportOperation = {
    id: 'bench',
    status: waiting ? 'importer_preparing_messages' : 'importer_user_selection',
    importerKey: IMPORTER,
    valid: true,
    updatedAt: CHANGED,
    ...(waiting && { reading: 'general/2023-05-04', count: { total: 12_034, users: 320, channels: 41 } })
  }
  return {
    lookupUser: ({ userId, authToken }) =>
      userId === credentials.userId && authToken === credentials.authToken ? { id: userId } : null,
    hasPermission: () => true,
    store: {
      latestOperation: async () => operation,
      users: () => batches(users, index => user(index, nameLength)),
      channels: () => batches(channelCount(users), channel),
      countMessages: async () => messageCount(users)
    }
  }
}

/** The name of the database with a selection of `users` users. */
export function databaseName (users: number): string {
  return `import_file_data_bench_${users}`
}

/** Drops a database, and fills it with Rocket.Chat's documents and indexes. */
export async function fillDatabase (db: Db, users: number): Promise<void> {
  await db.dropDatabase()
  await db.collection('rocketchat_import').createIndex({ ts: -1 })
  await db.collection('rocketchat_import_data').createIndex({ dataType: 1 })
  for (const [name, list] of Object.entries(accounts())) await db.collection<{ _id: string }>(name).insertMany(list)
  for (const batch of documents(users)) await db.collection<{ _id: string }>('rocketchat_import_data').insertMany(batch)
}

function channelCount (users: number): number {
  return Math.floor(users / 20)
}

function messageCount (users: number): number {
  return Math.floor(users / 2)
}

function accounts () {
  return {
    users: [{
      _id: credentials.userId,
      active: true,
      roles: ['admin'],
      services: { resume: { loginTokens: [{ hashedToken: createHash('sha256').update(credentials.authToken).digest('base64') }] } }
    }],
    rocketchat_permissions: [{ _id: 'run-import', roles: ['admin'] }],
    rocketchat_import: [{
      _id: 'bench',
      type: 'Slack',
      importerKey: IMPORTER,
      ts: CHANGED,
      status: 'importer_user_selection',
      valid: true,
      user: credentials.userId,
      _updatedAt: CHANGED
    }]
  }
}

// With all the fields that Rocket.Chat's Slack importer stages, so that a projection has fields to omit.
function * documents (users: number): Generator<Array<{ _id: string }>> {
  yield * batches(users, index => {
    const staged = user(index)
    const more = {
      name: `User ${index}`,
      utcOffset: 3600,
      avatarUrl: `https://avatars.example.com/${staged.importIds[0]}_512.jpg`,
      statusText: 'away',
      bio: 'A generated user'
    }
    return { _id: `user-${index}`, dataType: 'user', data: { ...staged, ...more }, options: {} }
  })
  yield * batches(channelCount(users), index => {
    const more = { users: Array.from({ length: 10 }, (_, member) => `U${index + member}`), u: { _id: 'U0' }, topic: 'A generated topic' }
    return { _id: `channel-${index}`, dataType: 'channel', data: { ...channel(index), ...more }, options: {} }
  })
  yield * batches(messageCount(users), index => {
    const data = { rid: 'C0', u: { _id: `U${index}` }, ts: new Date(1_683_158_400_000 + index), msg: 'A generated message text' }
    return { _id: `message-${index}`, dataType: 'message', data, options: {} }
  })
}

function user (index: number, nameLength = 0): StagedUser {
  return {
    importIds: [`U${index.toString(36).toUpperCase()}`],
    username: `user.${index}`.padEnd(nameLength, '.'),
    emails: [`user.${index}@example.com`],
    deleted: index % 20 === 0,
    type: index % 50 === 0 ? 'bot' : 'user'
  }
}

function channel (index: number): StagedChannel {
  return { importIds: [`C${index.toString(36).toUpperCase()}`], name: `channel-${index}`, t: index % 10 === 0 ? 'p' : 'c', archived: false }
}

// Not a generator, because it keeps the last batch in memory until the next.
function batches<T> (count: number, make: (index: number) => T): Iterable<T[]> {
  function iterate (): Iterator<T[], undefined> {
    let from = 0
    return {
      next () {
        if (from >= count) return { done: true, value: undefined }
        const batch: T[] = []
        for (const end = Math.min(from + BATCH_SIZE, count); from < end; from++) batch.push(make(from))
        return { value: batch }
      }
    }
  }
  return { [Symbol.iterator]: iterate }
}
