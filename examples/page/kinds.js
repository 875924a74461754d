/**
 * The kinds of records in a selection, each with its words and with what to show of one of its items. `details` are the lines
 * between the name and the marks, if there are to be any; `marks` are words, so that nothing is told by colour alone.
 */
export const kinds = [
  {
    key: 'users',
    title: 'Users',
    one: 'user',
    many: 'users',
    columns: ['User', 'E-mail', 'Marks'],
    id: user => user.user_id,
    name: user => user.username,
    details: user => [user.email],
    marks: user => [user.is_bot && 'bot', user.is_deleted && 'deleted', !user.email && 'no e-mail']
  },
  {
    key: 'channels',
    title: 'Channels',
    one: 'channel',
    many: 'channels',
    columns: ['Channel', 'Marks'],
    id: channel => channel.channel_id,
    name: channel => channel.name,
    marks: channel => [channel.is_direct && 'direct', channel.is_private && 'private', channel.is_archived && 'archived']
  },
  {
    key: 'contacts',
    title: 'Contacts',
    one: 'contact',
    many: 'contacts',
    columns: ['Contact', 'E-mail and phone', 'Marks'],
    id: contact => contact.id,
    name: contact => contact.name,
    details: contact => [...contact.emails, ...contact.phones],
    marks: contact => [contact.emails.length === 0 && 'no e-mail']
  }
]
