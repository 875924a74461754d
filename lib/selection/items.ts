import { plainValue } from '../plain-value.js'
import { type ChannelItem, type ContactItem, type UserItem } from '../schemas.js'
import { type StagedChannel, type StagedContact, type StagedUser } from '../store.js'

// Staged records come from an uploaded file, so their fields may have any type. Malformed fields get the defaults of the contract.
// A record without an import id has no item: no client could select it.

/** The item that stands for all direct channels. It is sent once, after the other channels. */
export const directMessages: ChannelItem = Object.freeze({
  channel_id: '__directMessages__',
  name: 'Direct Messages',
  is_archived: false,
  do_import: true,
  is_private: true,
  is_direct: true
})

/** The item of a staged user (contract.md, step 6), or undefined when it has no import id. */
export function userItem (staged: StagedUser | null | undefined): UserItem | undefined {
  const id = importId(staged)
  if (!staged || id === undefined) return undefined
  return {
    user_id: id,
    username: text(staged.username) ?? '',
    email: first(staged.emails) ?? '',
    is_deleted: Boolean(plainValue(staged.deleted)),
    is_bot: staged.type === 'bot',
    do_import: true,
    is_email_taken: false
  }
}

/**
 * The item of a staged channel (contract.md, step 6), or undefined when it has no import id. For a direct channel, and for one that
 * has the id of `directMessages`, this is `directMessages`, the same object each time.
 */
export function channelItem (staged: StagedChannel | null | undefined): ChannelItem | undefined {
  if (staged?.t === 'd') return directMessages
  const id = importId(staged)
  if (!staged || id === undefined) return undefined
  if (id === directMessages.channel_id) return directMessages
  return {
    channel_id: id,
    name: text(staged.name) ?? '',
    is_archived: Boolean(plainValue(staged.archived)),
    do_import: true,
    is_private: staged.t === 'p',
    is_direct: false
  }
}

/** The item of a staged contact (contract.md, step 6), or undefined when it has no import id. */
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
  const plain = plainValue(value)
  if (typeof plain === 'string' || typeof plain === 'bigint') return String(plain)
  if (typeof plain !== 'number' || !Number.isFinite(plain)) return undefined
  // All digits, where the text of a large number would have an exponent.
  return Number.isInteger(plain) ? String(BigInt(plain)) : String(plain)
}
