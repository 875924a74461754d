import type { RouteHandlerMethod } from 'fastify'
import type { Batches, ImportDataStore, StoreContext } from '../../lib/index.js'

const NAMES: Record<string, string> = { slack: 'Slack' }

/**
 * Rocket.Chat's way of replying with a selection: one query after another, each read into an array and mapped, and the result sent as
 * one object. Its write of the status and its query for a direct channel are left out: they cost nothing with a store in memory.
 */
export function rocketChatWay (store: ImportDataStore): RouteHandlerMethod {
  const { signal } = new AbortController()
  return async ({ log }) => {
    const context = { signal, log }
    const operation = await store.latestOperation(context)
    if (operation === null) throw new Error('Import Operation Not Found')

    const users = await readAll(store.users(context))
    const channels = await readAll(store.channels(context))
    const contacts = await readContacts(store, context)
    const selectedUsers = users.map(user => ({
      user_id: user.importIds[0],
      username: user.username,
      email: user.emails?.[0],
      is_deleted: Boolean(user.deleted),
      is_bot: user.type === 'bot',
      do_import: true,
      is_email_taken: false
    }))
    const selectedChannels = channels.map(channel => ({
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
    return {
      name: NAMES[operation.importerKey ?? ''],
      users: selectedUsers,
      channels: selectedChannels,
      ...(selectedContacts.length > 0 && { contacts: selectedContacts }),
      message_count: await store.countMessages(context),
      success: true
    }
  }
}

async function readContacts (store: ImportDataStore, context: StoreContext) {
  return store.contacts ? await readAll(store.contacts(context)) : []
}

async function readAll<T> (batches: Batches<T>): Promise<T[]> {
  const all: T[] = []
  for await (const batch of batches) for (const record of batch) all.push(record)
  return all
}
