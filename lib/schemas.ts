import { type Static, Type } from 'typebox'
import { countedKinds } from './operation.js'

// The schemas describe the route for OpenAPI documents. Nothing is validated or serialized by them; tests check real replies against them.

const text = (description: string) => Type.String({ description })
const preselected = Type.Literal(true, { description: 'Preselected' })

/** The request headers. Others are ignored. */
export const headersSchema = Type.Object({
  'X-User-Id': Type.String({ description: 'The id of the user who calls', examples: ['d26x6zSkaPSe5gCyy'] }),
  'X-Auth-Token': text('A login token or personal access token of that user'),
  'If-None-Match': Type.Optional(text('The ETag of a reply that the caller has already'))
})

/** The selection: everything that is staged and can be selected for import. */
export const selectionSchema = Type.Object({
  name: Type.Optional(text('The importer\'s display name; left out when the operation has no importer')),
  users: Type.Array(Type.Object({
    user_id: text('The user\'s first id in the source system'),
    username: text('Empty when none is staged'),
    email: text('The first e-mail address; empty when none is staged'),
    is_deleted: Type.Boolean({ description: 'Deleted in the source system' }),
    is_bot: Type.Boolean(),
    do_import: preselected,
    is_email_taken: Type.Literal(false)
  }, { additionalProperties: false, description: 'A staged user' })),
  channels: Type.Array(Type.Object({
    channel_id: text('The channel\'s first id in the source system, or `__directMessages__`'),
    name: text('Empty when none is staged'),
    is_archived: Type.Boolean(),
    do_import: preselected,
    is_private: Type.Boolean(),
    is_direct: Type.Boolean({ description: 'True for the item that represents all direct channels' })
  }, { additionalProperties: false, description: 'A staged channel' })),
  contacts: Type.Optional(Type.Array(Type.Object({
    id: text('The contact\'s first id in the source system'),
    name: text('Empty when none is staged'),
    emails: Type.Array(Type.String()),
    phones: Type.Array(Type.String()),
    do_import: preselected
  }, { additionalProperties: false, description: 'A staged contact' }), { description: 'Left out when none is staged' })),
  message_count: Type.Integer({ minimum: 0, description: 'How many messages are staged' }),
  success: Type.Literal(true)
}, { additionalProperties: false, description: 'The staged records, for selection' })
/** See {@link selectionSchema}. */
export type Selection = Static<typeof selectionSchema>

/** A staged user, as a client shows it for selection. */
export type UserItem = Selection['users'][number]

/** A staged channel, or all direct channels together, as a client shows it for selection. */
export type ChannelItem = Selection['channels'][number]

/** A staged contact, as a client shows it for selection. */
export type ContactItem = NonNullable<Selection['contacts']>[number]

/** The reply while the import is being prepared: each optional member only when the operation has it. */
export const waitingSchema = Type.Object({
  waiting: Type.Literal(true),
  step: text('The status of the operation'),
  reading: Type.Optional(text('What is being read now')),
  count: Type.Optional(Type.Partial(Type.Record(Type.Enum(countedKinds), Type.Integer({ minimum: 0 })), {
    additionalProperties: false,
    description: 'How many records the import has in total, has imported and could not import, and how many of each kind are staged'
  })),
  updated_at: Type.Optional(Type.String({ format: 'date-time', description: 'When the operation last changed' })),
  stalled: Type.Optional(Type.Boolean({ description: 'The operation has not changed for a long time, and may never end' })),
  success: Type.Literal(true)
}, { additionalProperties: false, description: 'The import is being prepared: call again after as many seconds as `Retry-After` says' })
/** See {@link waitingSchema}. */
export type Waiting = Static<typeof waitingSchema>

/** An error reply. */
export const errorReplySchema = Type.Object({
  success: Type.Literal(false),
  error: text('The message, with the code in brackets'),
  errorType: Type.Optional(text('The code; left out in the replies 401 and 403'))
}, { additionalProperties: false })
/** See {@link errorReplySchema}. */
export type ErrorReply = Static<typeof errorReplySchema>
