import { plainValue } from '../plain-value.js'
import type { ChannelItem, ContactItem, UserItem } from '../schemas.js'
import type { StagedChannel, StagedContact, StagedUser } from '../store.js'

// Staged records come from an uploaded file, so their fields may have any type. Malformed fields get defaults.
// A record without an import id has no item, because no client could select it.

/** The item that represents all direct channels. It is sent once, after the other channels. */
export const directMessages: ChannelItem = Object.freeze({
  channel_id: '__directMessages__', name: 'Direct Messages', is_archived: false, do_import: true, is_private: true, is_direct: true
})

/** The item of a staged user (contract.md, step 6), or undefined when it has no import id. */
export function userItem ({ importIds, username, emails, deleted, type }: StagedUser): UserItem | undefined {
  const id = first(importIds)
  if (!id) return undefined
  return {
    user_id: id,
    username: text(username) ?? '',
    email: first(emails) ?? '',
    is_deleted: Boolean(plainValue(deleted)),
    is_bot: type === 'bot',
    do_import: true,
    is_email_taken: false
  }
}

/**
 * The item of a staged channel (contract.md, step 6), or undefined when it has no import id. For a direct channel, and for one with
 * the id of `directMessages`, this is `directMessages`, the same object each time.
 */
export function channelItem ({ importIds, name, t, archived }: StagedChannel): ChannelItem | undefined {
  const id = t === 'd' ? directMessages.channel_id : first(importIds)
  if (!id) return undefined
  if (id === directMessages.channel_id) return directMessages
  return {
    channel_id: id,
    name: text(name) ?? '',
    is_archived: Boolean(plainValue(archived)),
    do_import: true,
    is_private: t === 'p',
    is_direct: false
  }
}

/** The item of a staged contact (contract.md, step 6), or undefined when it has no import id. */
export function contactItem ({ importIds, name, emails, phones }: StagedContact): ContactItem | undefined {
  const id = first(importIds)
  if (!id) return undefined
  return { id, name: text(name) ?? '', emails: texts(emails), phones: texts(phones), do_import: true }
}

const first = (list: unknown) => Array.isArray(list) ? text(list[0]) : undefined

const texts = (list: unknown) => Array.isArray(list) ? list.map(text).filter(member => member !== undefined) : []

function text (value: unknown): string | undefined {
  if (typeof value === 'string') return value
  const plain = plainValue(value)
  // All digits: the text of a large number would have an exponent.
  if (Number.isInteger(plain)) return String(BigInt(Number(plain)))
  return typeof plain === 'string' || Number.isFinite(plain) ? String(plain) : undefined
}
