import { type Db } from 'mongodb'
import { type RouteHandlerMethod } from 'fastify'
import { type Batches, type ImportDataStore, type StagedChannel, type StagedContact, type StagedUser } from '../../lib/index.js'
import { type PermissionDocument, type UserDocument, rolesMeet } from '../../lib/rocketchat/documents.js'
import { type RocketChatOptions, hashLoginToken } from '../../lib/rocketchat/index.js'
import { directMessages } from '../../lib/selection/items.js'

/** Rocket.Chat's models, as far as this endpoint uses them: each answers with all there is. */
export interface Models {
  lastImport (): Promise<{ id: unknown, importerKey?: string } | null>
  /** Writes the operation's status, and reads the operation again. */
  updateStatus (id: unknown, status: string): Promise<unknown>
  users (): Promise<StagedUser[]>
  channels (): Promise<StagedChannel[]>
  contacts (): Promise<StagedContact[]>
  hasDirectChannel (): Promise<boolean>
  countMessages (): Promise<number>
}

const NAMES: Record<string, string> = { slack: 'Slack' }

/**
 * Rocket.Chat's way, for an operation that is ready for selection (contract.md, "What it does, step by step"): the status is
 * written, then one query after another, each into an array, which is mapped; and all of it sent as one object.
 */
export function rocketChatWay (models: Models): RouteHandlerMethod {
  return async () => {
    const operation = await models.lastImport()
    if (operation === null) throw new Error('Import Operation Not Found')
    await models.updateStatus(operation.id, 'importer_user_selection')

    const users = await models.users()
    const channels = await models.channels()
    const contacts = await models.contacts()
    const hasDirectChannel = await models.hasDirectChannel()
    const selectedUsers = users.map(user => ({
      user_id: user.importIds[0],
      username: user.username,
      email: user.emails?.[0],
      is_deleted: Boolean(user.deleted),
      is_bot: user.type === 'bot',
      do_import: true,
      is_email_taken: false
    }))
    const selectedChannels: object[] = channels.map(channel => ({
      channel_id: channel.importIds[0],
      name: channel.name,
      is_archived: Boolean(channel.archived),
      do_import: true,
      is_private: channel.t === 'p',
      is_direct: false
    }))
    const selectedContacts = contacts.map(contact => ({
      id: contact.importIds[0],
      name: contact.name ?? '',
      emails: contact.emails ?? [],
      phones: contact.phones ?? [],
      do_import: true
    }))
    const messageCount = await models.countMessages()
    if (hasDirectChannel) selectedChannels.push(directMessages)
    return {
      name: NAMES[operation.importerKey ?? ''],
      users: selectedUsers,
      channels: selectedChannels,
      ...(selectedContacts.length > 0 && { contacts: selectedContacts }),
      message_count: messageCount,
      success: true
    }
  }
}

/** Rocket.Chat's look-ups over its database, one after the other. */
export function databaseLookUps (db: Db): Pick<RocketChatOptions, 'lookupUser' | 'hasPermission'> {
  const users = db.collection<UserDocument>('users')
  const permissions = db.collection<PermissionDocument>('rocketchat_permissions')
  return {
    lookupUser: ({ userId, authToken }) => users.findOne(
      { _id: userId, 'services.resume.loginTokens.hashedToken': hashLoginToken(authToken) },
      { projection: { roles: 1 } }
    ),
    hasPermission: async (user, permission) => rolesMeet(user, await permissions.findOne({ _id: permission }))
  }
}

/** The models over Rocket.Chat's database. */
export function databaseModels (db: Db): Models {
  const operations = db.collection('rocketchat_import')
  const data = db.collection<{ dataType: string, data: StagedUser & StagedChannel & StagedContact }>('rocketchat_import_data')

  async function find (filter: object, fields: readonly string[]) {
    const projection = Object.fromEntries(fields.map(field => [`data.${field}`, 1]))
    const found = await data.find(filter, { projection }).toArray()
    return found.map(document => document.data)
  }

  return {
    async lastImport () {
      const operation = await operations.findOne({}, { sort: { ts: -1 } })
      return operation && { id: operation._id, importerKey: String(operation['importerKey']) }
    },
    async updateStatus (id, status) {
      const filter = { _id: Object(id) }
      await operations.updateOne(filter, { $set: { status, _updatedAt: new Date() } })
      return await operations.findOne(filter)
    },
    users: () => find({ dataType: 'user' }, ['importIds', 'username', 'emails', 'deleted', 'type']),
    channels: () => find({ dataType: 'channel', 'data.t': { $ne: 'd' } }, ['importIds', 'name', 'archived', 't']),
    contacts: () => find({ dataType: 'contact' }, ['importIds', 'name', 'emails', 'phones']),
    hasDirectChannel: async () => await data.countDocuments({ dataType: 'channel', 'data.t': 'd' }) > 0,
    countMessages: () => data.countDocuments({ dataType: 'message' })
  }
}

/** The models over a store without direct channels. */
export function storeModels (store: ImportDataStore): Models {
  const context = { signal: new AbortController().signal, get log (): never { throw new Error('There is no logger') } }
  return {
    lastImport: () => store.latestOperation(context),
    async updateStatus () {},
    users: () => readAll(store.users(context)),
    channels: () => readAll(store.channels(context)),
    contacts: () => readAll(store.contacts?.(context) ?? []),
    hasDirectChannel: async () => false,
    countMessages: () => store.countMessages(context)
  }
}

async function readAll<T> (batches: Batches<T>): Promise<T[]> {
  const all: T[] = []
  for await (const batch of batches) for (const record of batch) all.push(record)
  return all
}
