import createError from '@fastify/error'

/** An option is missing or wrong; thrown at registration. Arguments: the option, what was expected, what it is. */
export const InvalidOption = createError<[option: string, expected: string, actual: string]>(
  'FST_IMPORT_FILE_DATA_INVALID_OPTION', 'The option "%s" of fastify-import-file-data must be %s, but it is %s', 500, TypeError)

/** A method of the store returned the wrong type. Arguments: the method, what was expected. */
export const InvalidStoreAnswer = createError<[method: string, expected: string]>(
  'FST_IMPORT_FILE_DATA_INVALID_STORE_ANSWER', 'The store\'s %s() must return %s', 500)

/** A database did not answer in time. Argument: the limit in milliseconds. */
export const ReadTimeout = createError<[maxTimeMS: number]>(
  'FST_IMPORT_FILE_DATA_READ_TIMEOUT', 'The database did not answer within maxTimeMS (%d ms)', 503)

/** A cursor was closed before its end, because the host closed its client. */
export const CursorClosed = createError('FST_IMPORT_FILE_DATA_CURSOR_CLOSED', 'The cursor was closed before its end', 503)

/** The operation changed while its selection was read, so the records may belong to another import or be incomplete. */
export const OperationChanged = createError(
  'FST_IMPORT_FILE_DATA_OPERATION_CHANGED',
  'The import operation changed while its selection was read: the records may be incomplete, so the selection is not sent', 503)

/** `prepare` ended without an error, but the operation still waits for it. Logged; callers get FileFormatInvalid. */
export const PreparationWithoutEffect = createError(
  'FST_IMPORT_FILE_DATA_PREPARATION_WITHOUT_EFFECT',
  'prepare ended, but the import operation has not changed since: prepare has to update the status of the operation', 500)

/** A header is missing, empty or repeated, the user is unknown or deactivated, or the token is wrong. */
export const Unauthorized = createError('FST_IMPORT_FILE_DATA_UNAUTHORIZED', 'unauthorized', 401)

/** The caller lacks the permission `run-import`. */
export const Forbidden = createError(
  'FST_IMPORT_FILE_DATA_FORBIDDEN', 'User does not have the permissions required for this action [error-unauthorized]', 403)

/** The path continues after the route's path, or ends with a slash. */
export const NotFound = replyError('error-not-found', 'Not Found', 404)

/** The method is not GET. */
export const MethodNotAllowed = replyError('error-method-not-allowed', 'Method Not Allowed', 405)

/** There is no import operation. */
export const OperationNotFound = replyError('error-operation-not-found', 'Import Operation Not Found', 400)

/** The operation's importer is not one of the option `importers`. Argument: its key. */
export const ImporterNotDefined = replyError<[key: string]>(
  'error-importer-not-defined', 'The importer (%s) has no import class defined.', 400)

/** The operation is being prepared, but has become invalid. */
export const OperationInvalid = replyError('error-import-operation-invalid', 'Invalid Import Operation', 400)

/** The operation failed, or its `prepare` did. */
export const FileFormatInvalid = replyError(
  'error-import-file-format-invalid', 'Failed to process import file. Please check the file format and try again.', 400)

/** A rate limit of the host refused the call. Argument: seconds to wait. */
export const TooManyRequests = replyError<[seconds: number]>(
  'error-too-many-requests', 'Error, too many requests. Please slow down. You must wait %d seconds before trying this endpoint again.', 429)

/** An injected function or the store failed. `cause` is the failure; it is logged, but not sent. */
export const ServiceUnavailable = replyError<[options?: { cause: unknown }]>(
  'error-service-unavailable', 'The import data cannot be read at the moment. Please try again in a few seconds.', 503)

/**
 * Wraps an async function, so that it fails with the error for the reply: an error with a 4xx `statusCode` stays as it is, so that a
 * host can refuse a caller, and so does an `InvalidStoreAnswer`. Any other becomes the cause of a `ServiceUnavailable`: by its
 * class, a fault in a function cannot be distinguished from an outage (`fetch` throws a TypeError when the network is down).
 */
export function withErrorForReply<Arguments extends unknown[], Result> (call: (...args: Arguments) => Promise<Result>) {
  return (...args: Arguments): Promise<Result> => call(...args).catch(failure => {
    // Not by its `status`: the errors of HTTP clients have that of the reply that they got.
    const isClientError = failure instanceof Error && (statusOf(failure, ['statusCode']) ?? 500) < 500
    throw isClientError || failure instanceof InvalidStoreAnswer ? failure : new ServiceUnavailable({ cause: failure })
  })
}

/** The status of an error (400 to 599) that was thrown: the first of these members that is one. Undefined when none is. */
export function statusOf (thrown: unknown, members = ['statusCode', 'status']): number | undefined {
  return members.map(member => Object(thrown)[member]).find(status => Number.isInteger(status) && status >= 400 && status < 600)
}

/** An error with one of Rocket.Chat's codes, or one in the same style. The reply repeats it as `errorType`. */
function replyError<Arguments extends unknown[] = []> (code: string, message: string, statusCode: number) {
  return class ReplyError extends createError<string, number, Arguments>(code, message, statusCode) {
    // @fastify/error writes every code in capitals.
    override code = code
  }
}
