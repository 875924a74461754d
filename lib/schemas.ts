import { type Static, Type } from 'typebox'

/** The headers that say who calls. Any others are let through. */
export const headersSchema = Type.Object({
  'X-User-Id': Type.String({ description: 'The id of the user who calls', examples: ['d26x6zSkaPSe5gCyy'] }),
  'X-Auth-Token': Type.String({ description: 'A login token or personal access token of that user' }),
  'If-None-Match': Type.Optional(Type.String({ description: 'The ETag of a reply that the caller has already' }))
})

/** One staged user, as a client shows it for selection. */
export const userItemSchema = Type.Object({
  user_id: Type.String({ description: 'The user\'s first id in the system it comes from' }),
  username: Type.String({ description: 'Empty when none is staged' }),
  email: Type.String({ description: 'The first e-mail address; empty when none is staged' }),
  is_deleted: Type.Boolean({ description: 'Deleted in the system it comes from' }),
  is_bot: Type.Boolean(),
  do_import: Type.Literal(true, { description: 'Preselected' }),
  is_email_taken: Type.Literal(false)
}, { additionalProperties: false, description: 'A staged user' })
/** See {@link userItemSchema}. */
export type UserItem = Static<typeof userItemSchema>

/** One staged channel, or all direct ones together, as a client shows it for selection. */
export const channelItemSchema = Type.Object({
  channel_id: Type.String({ description: 'The channel\'s first id in the system it comes from, or `__directMessages__`' }),
  name: Type.String({ description: 'Empty when none is staged' }),
  is_archived: Type.Boolean(),
  do_import: Type.Literal(true, { description: 'Preselected' }),
  is_private: Type.Boolean(),
  is_direct: Type.Boolean({ description: 'True for the one item that stands for every direct channel' })
}, { additionalProperties: false, description: 'A staged channel' })
/** See {@link channelItemSchema}. */
export type ChannelItem = Static<typeof channelItemSchema>

/** One staged contact, as a client shows it for selection. */
export const contactItemSchema = Type.Object({
  id: Type.String({ description: 'The contact\'s first id in the system it comes from' }),
  name: Type.String({ description: 'Empty when none is staged' }),
  emails: Type.Array(Type.String()),
  phones: Type.Array(Type.String()),
  do_import: Type.Literal(true, { description: 'Preselected' })
}, { additionalProperties: false, description: 'A staged contact' })
/** See {@link contactItemSchema}. */
export type ContactItem = Static<typeof contactItemSchema>

/** The selection: everything that is staged and can be chosen for import. */
export const selectionSchema = Type.Object({
  name: Type.Optional(Type.String({ description: 'The importer\'s display name; left out when the operation names no importer' })),
  users: Type.Array(userItemSchema),
  channels: Type.Array(channelItemSchema),
  contacts: Type.Optional(Type.Array(contactItemSchema, { description: 'Left out when none is staged' })),
  message_count: Type.Integer({ minimum: 0, description: 'How many messages are staged' }),
  success: Type.Literal(true)
}, {
  additionalProperties: false,
  description: 'What is staged, to select from',
  examples: [{
    name: 'Slack',
    users: [{
      user_id: 'U03TVFGMH',
      username: 'ada',
      email: 'ada@example.com',
      is_deleted: false,
      is_bot: false,
      do_import: true,
      is_email_taken: false
    }],
    channels: [{
      channel_id: 'C01', name: 'general', is_archived: false, do_import: true, is_private: false, is_direct: false
    }],
    contacts: [{ id: 'c-1', name: 'Grace', emails: ['grace@example.com'], phones: [], do_import: true }],
    message_count: 12034,
    success: true
  }]
})
/** See {@link selectionSchema}. */
export type Selection = Static<typeof selectionSchema>

const countOf = (description: string) => Type.Optional(Type.Integer({ minimum: 0, description }))

/** The reply while the import is still being prepared: each member only where the operation says so. */
export const waitingSchema = Type.Object({
  waiting: Type.Literal(true),
  step: Type.String({ description: 'The status of the operation: what is being done' }),
  reading: Type.Optional(Type.String({ description: 'What is being read at the moment' })),
  count: Type.Optional(Type.Object({
    total: countOf('Records in all'),
    completed: countOf('Records imported'),
    error: countOf('Records that failed'),
    users: countOf('Users staged'),
    channels: countOf('Channels staged'),
    messages: countOf('Messages staged'),
    contacts: countOf('Contacts staged')
  }, { additionalProperties: false, description: 'How many records are known so far' })),
  updated_at: Type.Optional(Type.String({ format: 'date-time', description: 'When the operation last changed' })),
  stalled: Type.Optional(Type.Boolean({ description: 'The operation has not changed for a long time, and may never end' })),
  success: Type.Literal(true)
}, {
  additionalProperties: false,
  description: 'The import is being prepared: ask again after as many seconds as `Retry-After` says',
  examples: [{
    waiting: true,
    step: 'importer_preparing_messages',
    reading: 'general/2023-05-04',
    count: { total: 12034, users: 320, channels: 41 },
    updated_at: '2026-03-02T09:14:05.120Z',
    success: true
  }]
})
/** See {@link waitingSchema}. */
export type Waiting = Static<typeof waitingSchema>

/** Every error reply: closed, so that nothing else can leave. */
export const errorReplySchema = Type.Object({
  success: Type.Literal(false),
  error: Type.String({ description: 'What went wrong, with the code in brackets' }),
  errorType: Type.Optional(Type.String({ description: 'The code; left out in the replies 401 and 403' }))
}, { additionalProperties: false })
/** See {@link errorReplySchema}. */
export type ErrorReply = Static<typeof errorReplySchema>

/**
 * The schemas of every reply by status. They describe the replies; nothing is serialized by them.
 */
export const replySchemas = {
  200: Type.Union([selectionSchema, waitingSchema], { description: 'The selection, or that it is still being prepared' }),
  304: Type.Null({ description: 'Nothing has changed since the reply with the ETag that `If-None-Match` names' }),
  400: errorReply('No import operation, an importer that is not registered, an invalid operation or a file that could not be read', {
    success: false, error: 'Import Operation Not Found [error-operation-not-found]', errorType: 'error-operation-not-found'
  }),
  401: errorReply('A header is missing, the user is unknown or the token is wrong', { success: false, error: 'unauthorized' }),
  403: errorReply('The user lacks the permission `run-import`', {
    success: false, error: 'User does not have the permissions required for this action [error-unauthorized]'
  }),
  429: errorReply('Too many calls: wait as long as `Retry-After` says', {
    success: false,
    error: 'Error, too many requests. Please slow down. You must wait 60 seconds before trying this endpoint again. [error-too-many-requests]',
    errorType: 'error-too-many-requests'
  }),
  500: errorReply('A fault in the server; its log says which', {
    success: false, error: 'Internal Server Error [error-internal-server-error]', errorType: 'error-internal-server-error'
  }),
  503: errorReply('The import data cannot be read at the moment: try again after as many seconds as `Retry-After` says', {
    success: false,
    error: 'The import data cannot be read at the moment. Please try again in a few seconds. [error-service-unavailable]',
    errorType: 'error-service-unavailable'
  }),
  '4xx': errorReply('Refused by a hook or a function of the host, which says why', {
    success: false, error: 'Payload Too Large [error-payload-too-large]', errorType: 'error-payload-too-large'
  })
}

function errorReply (description: string, example: ErrorReply) {
  return Type.Object(errorReplySchema.properties, { additionalProperties: false, description, examples: [example] })
}
