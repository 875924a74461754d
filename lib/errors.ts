import { STATUS_CODES } from 'node:http'
import createError from '@fastify/error'
import { type ErrorReply } from './schemas.js'

/**
 * An option that is missing or of the wrong kind; thrown at registration.
 * Arguments: the option's name, what was expected, what came.
 */
export const InvalidOption = createError<[option: string, expected: string, came: string]>(
  'FST_IMPORT_FILE_DATA_INVALID_OPTION',
  'The option "%s" of fastify-import-file-data must be %s, but it is %s',
  500,
  TypeError
)

/** What an injected store gave is not what `ImportDataStore` asks for. Arguments: the method, what was expected. */
export const InvalidStoreAnswer = createError<[method: string, expected: string]>(
  'FST_IMPORT_FILE_DATA_INVALID_STORE_ANSWER',
  'The store\'s %s() must give %s',
  500,
  TypeError
)

/** A database did not answer in time. Argument: how long that is, in milliseconds. */
export const ReadTimeout = createError<[maxTimeMS: number]>(
  'FST_IMPORT_FILE_DATA_READ_TIMEOUT',
  'The database did not answer within maxTimeMS (%d ms)',
  503
)

/** A cursor was closed before its end, by the host's closing its client. */
export const CursorClosed = createError('FST_IMPORT_FILE_DATA_CURSOR_CLOSED', 'The cursor was closed before its end', 503)

/** The operation changed while its selection was read, so the records may be those of another import, or not all of them. */
export const OperationChanged = createError(
  'FST_IMPORT_FILE_DATA_OPERATION_CHANGED',
  'The import operation changed while its selection was read: the records may be incomplete, so the selection is not sent',
  503
)

/** `prepare` ended without a failure, but the operation still waits for it. Logged, and told as FileFormatInvalid. */
export const PreparationWithoutEffect = createError(
  'FST_IMPORT_FILE_DATA_PREPARATION_WITHOUT_EFFECT',
  'prepare ended, but the import operation has not changed since: prepare has to move the status of the operation on',
  500
)

/** A header is missing, empty or repeated, the user is unknown or deactivated, or the token is wrong. */
export const Unauthorized = createError('FST_IMPORT_FILE_DATA_UNAUTHORIZED', 'unauthorized', 401)

/** The caller lacks the permission `run-import`. */
export const Forbidden = createError(
  'FST_IMPORT_FILE_DATA_FORBIDDEN',
  'User does not have the permissions required for this action [error-unauthorized]',
  403
)

/** There is nothing below the route's path, a slash at its end included. */
export const NotFound = coded('error-not-found', 'Not Found', 404)

/** The route has no method but GET. */
export const MethodNotAllowed = coded('error-method-not-allowed', 'Method Not Allowed', 405)

/** There is no import operation. */
export const OperationNotFound = coded('error-operation-not-found', 'Import Operation Not Found', 400)

/** The operation's importer is not one of the option `importers`. Argument: its key. */
export const ImporterNotDefined = coded<[key: string]>(
  'error-importer-not-defined', 'The importer (%s) has no import class defined.', 400)

/** The operation is being prepared, but a later one has made it invalid. */
export const OperationInvalid = coded('error-import-operation-invalid', 'Invalid Import Operation', 400)

/** The operation failed, or its `prepare` did. */
export const FileFormatInvalid = coded(
  'error-import-file-format-invalid',
  'Failed to process import file. Please check the file format and try again.',
  400
)

/** A rate limit of the host refused the call. Argument: seconds to wait. */
export const TooManyRequests = coded<[seconds: number]>(
  'error-too-many-requests',
  'Error, too many requests. Please slow down. You must wait %d seconds before trying this endpoint again.',
  429
)

/** An injected function or the store failed; `cause` says why, and only the log shows it. */
export const ServiceUnavailable = coded<[options?: { cause: unknown }]>(
  'error-service-unavailable',
  'The import data cannot be read at the moment. Please try again in a few seconds.',
  503
)

/** Any other failure. */
export const InternalServerError = coded('error-internal-server-error', 'Internal Server Error', 500)

/** Seconds after which a caller may try again when a reply is a 503; sent as `Retry-After`. */
export const RETRY_AFTER_SECONDS = 5

/** Seconds to wait when a rate limit does not say how many: the length of Rocket.Chat's own window. */
const RATE_LIMIT_WINDOW_SECONDS = 60

/** An error as the reply shows it: never more than what the caller may know. */
export interface PublicError {
  statusCode: number
  body: ErrorReply
}

/**
 * Calls an injected function and says what its failure means: its own error when that has a 4xx `statusCode`, so that a host
 * can refuse a caller in its own way; an `InvalidStoreAnswer`, which no retry would mend, as it is; else a `ServiceUnavailable`
 * with the failure as its cause. No error class tells a fault in a host's function from an outage: `fetch` throws a TypeError
 * when the network is down.
 */
export async function callInjected<T> (call: () => T | Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (failure) {
    throw isClientError(failure) || failure instanceof InvalidStoreAnswer ? failure : new ServiceUnavailable({ cause: failure })
  }
}

/**
 * The reply for whatever was thrown on the way: the contract's own errors as they are, a client error (4xx) of another
 * plugin in the contract's envelope, and anything else without a word of what it was.
 *
 * @param error what was thrown, by us or by any hook of the host
 * @param retryAfter the reply's `Retry-After` header, if one is set already: seconds
 */
export function toPublicError (error: unknown, retryAfter: unknown): PublicError {
  if (error instanceof Unauthorized || error instanceof Forbidden) {
    return { statusCode: error.statusCode, body: { success: false, error: error.message } }
  }
  if (!isClientError(error)) {
    return inEnvelope(statusCodeOf(error) === 503 ? new ServiceUnavailable() : new InternalServerError())
  }
  if (error.statusCode === 429) {
    return inEnvelope(new TooManyRequests(Number(retryAfter) > 0 ? Math.ceil(Number(retryAfter)) : RATE_LIMIT_WINDOW_SECONDS))
  }
  return inEnvelope(error)
}

interface ClientError { statusCode: number, message: string, code?: unknown }

function isClientError (error: unknown): error is ClientError {
  const statusCode = statusCodeOf(error)
  return statusCode !== undefined && statusCode >= 400 && statusCode < 500
}

function statusCodeOf (error: unknown): number | undefined {
  const statusCode = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  return Number.isInteger(statusCode) ? Number(statusCode) : undefined
}

function inEnvelope ({ statusCode, message, code }: ClientError): PublicError {
  const text = STATUS_CODES[statusCode] ?? 'Unknown'
  const errorType = typeof code === 'string' ? code : `error-${kebabCase(text)}`
  return { statusCode, body: { success: false, error: `${message || text} [${errorType}]`, errorType } }
}

function kebabCase (words: string): string {
  return words.toLowerCase().replace(/[^a-z]+/g, '-')
}

/** An error whose `code` is the contract's own word, which the reply repeats as `errorType`. */
function coded<Arguments extends unknown[] = []> (code: string, message: string, statusCode: number) {
  const Base = createError<Arguments>(code, message, statusCode)
  return class ReplyError extends Base {
    // @fastify/error writes every code in capitals.
    override code = code
    override statusCode = statusCode
  }
}
