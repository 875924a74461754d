import { type ChannelItem, type ContactItem, type UserItem } from './schemas.js'
import { type StagedChannel, type StagedContact, type StagedUser } from './store.js'

// A staged record comes from a file that somebody uploaded, so nothing here trusts its fields to be what their types say:
// what can be told is told, and a record without an import id, which no client could select, has no item.

/** The item that stands for all direct channels together: it comes once, and last. */
export const directMessages: ChannelItem = Object.freeze({
  channel_id: '__directMessages__',
  name: 'Direct Messages',
  is_archived: false,
  do_import: true,
  is_private: true,
  is_direct: true
})

/** A staged user's item (contract.md, step 6), or undefined when it has no import id. */
export function userItem (staged: StagedUser | null | undefined): UserItem | undefined {
  const id = importId(staged)
  if (!staged || id === undefined) return undefined
  const item: UserItem = {
    user_id: id,
    email: first(staged.emails) ?? '',
    is_deleted: Boolean(staged.deleted),
    is_bot: staged.type === 'bot',
    do_import: true,
    is_email_taken: false
  }
  const username = text(staged.username)
  if (username !== undefined) item.username = username
  return item
}

/**
 * A staged channel's item (contract.md, step 6), or undefined when it has no import id. A direct channel has no item of its
 * own: it gives `directMessages`, the same object each time.
 */
export function channelItem (staged: StagedChannel | null | undefined): ChannelItem | undefined {
  if (staged?.t === 'd') return directMessages
  const id = importId(staged)
  if (!staged || id === undefined) return undefined
  const item: ChannelItem = {
    channel_id: id,
    is_archived: Boolean(staged.archived),
    do_import: true,
    is_private: staged.t === 'p',
    is_direct: false
  }
  const name = text(staged.name)
  if (name !== undefined) item.name = name
  return item
}

/** A staged contact's item (contract.md, step 6), or undefined when it has no import id. */
export function contactItem (staged: StagedContact | null | undefined): ContactItem | undefined {
  const id = importId(staged)
  if (!staged || id === undefined) return undefined
  return {
    id,
    name: text(staged.name) ?? '',
    emails: texts(staged.emails),
    phones: texts(staged.phones),
    do_import: true
  }
}

function importId (staged: { importIds: readonly string[] } | null | undefined): string | undefined {
  return first(staged?.importIds) || undefined
}

function first (list: unknown): string | undefined {
  return Array.isArray(list) ? text(list[0]) : undefined
}

function texts (list: unknown): string[] {
  return Array.isArray(list) ? list.map(text).filter(member => member !== undefined) : []
}

function text (value: unknown): string | undefined {
  if (typeof value === 'string') return value
  return Number.isFinite(value) || typeof value === 'bigint' ? String(value) : undefined
}
