import { Type } from 'typebox'
import { Forbidden, InternalServerError, OperationNotFound, ServiceUnavailable, TooManyRequests, Unauthorized, toErrorReply } from './errors.js'
import { errorReplySchema, selectionSchema, waitingSchema } from './schemas.js'

/** The schemas of the replies by status. They describe the replies; nothing is serialized by them. */
export const replySchemas = {
  200: Type.Union([selectionSchema, waitingSchema], { description: 'The selection, or the progress while the import is being prepared' }),
  304: Type.Null({ description: 'Nothing has changed since the reply whose ETag is in `If-None-Match`' }),
  400: errorReply('No import operation, an unknown importer, an invalid operation or a file that could not be read', new OperationNotFound()),
  401: errorReply('A header is missing, the user is unknown or the token is wrong', new Unauthorized()),
  403: errorReply('The user lacks the permission `run-import`', new Forbidden()),
  429: errorReply('Too many calls: wait as long as `Retry-After` says', new TooManyRequests(60)),
  500: errorReply('A fault in the server; its log has the details', new InternalServerError()),
  503: errorReply('The import data cannot be read: try again after as many seconds as `Retry-After` says', new ServiceUnavailable()),
  '4xx': errorReply('Refused by a hook or a function of the host; the message says why', Object.assign(new Error(), { statusCode: 413 }))
}

function errorReply (description: string, example: Error) {
  const { body } = toErrorReply(example, 60)
  return Type.Object(errorReplySchema.properties, { additionalProperties: false, description, examples: [body] })
}
