/**
 * The kinds of records in a selection: their names, and what to show of each record. `columns` are the table's columns: the name with
 * the id, the `fields` (if any) and the marks. `marks` are words, so that no information depends on colour alone.
 */
export const kinds = [
  {
    key: 'users',
    title: 'Users',
    one: 'user',
    many: 'users',
    columns: ['User', 'E-mail', 'Marks'],
    id: user => user.user_id,
    name: user => user.username ?? '',
    fields: { 'E-mail': user => [user.email] },
    marks: user => marksOf({ bot: user.is_bot, deleted: user.is_deleted, 'no e-mail': !user.email })
  },
  {
    key: 'channels',
    title: 'Channels',
    one: 'channel',
    many: 'channels',
    columns: ['Channel', 'Marks'],
    id: channel => channel.channel_id,
    name: channel => channel.name ?? '',
    fields: {},
    marks: channel => marksOf({ direct: channel.is_direct, private: channel.is_private, archived: channel.is_archived })
  },
  {
    key: 'contacts',
    title: 'Contacts',
    one: 'contact',
    many: 'contacts',
    columns: ['Contact', 'E-mail and phone', 'Marks'],
    id: contact => contact.id,
    name: contact => contact.name,
    fields: { 'E-mail': contact => contact.emails, Phone: contact => contact.phones },
    marks: contact => marksOf({ 'no e-mail': contact.emails.length === 0 })
  }
]

/** The values of all the fields of an item. */
export function linesOf ({ fields }, item) {
  return Object.values(fields).flatMap(lines => lines(item))
}

/** Returns the function that gives an item's text in a column, to sort by. */
export function sortText (kind, column) {
  if (column === 0) return kind.name
  if (column === kind.columns.length - 1) return item => kind.marks(item).join(' ')
  return item => linesOf(kind, item)[0] ?? ''
}

function marksOf (marks) {
  return Object.keys(marks).filter(mark => marks[mark])
}
