import { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { type Caller, kCaller } from './auth.js'
import { Call } from './call.js'
import { InvalidStoreAnswer, OperationChanged, callInjected } from './errors.js'
import { type Outcome, isImportStatus, isSameState, outcomeOf } from './operation.js'
import { type ResolvedOptions } from './options.js'
import { rememberLast } from './remember-last.js'
import { adviseRetry, sendJson } from './replies.js'
import { sendSelection } from './selection/send.js'
import { writeSelection } from './selection/write.js'
import { type ImportOperation } from './store.js'
import { matches, selectionTag, waitingTag } from './waiting/etag.js'
import { Preparation } from './waiting/preparation.js'
import { createWaitingText, isStalled, retryAfter } from './waiting/reply.js'

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>

/**
 * The handler of the route, for a caller who is authenticated: finds the operation, and replies 304, that the caller has to wait, or
 * with the selection.
 *
 * @param instance the instance whose end also ends what `prepare` is doing
 */
export function createHandler (instance: FastifyInstance, options: ResolvedOptions): Handler {
  const { store, importers, stalledAfter, writeTimeout } = options
  const preparation = options.prepare && new Preparation(options.prepare, stalledAfter)
  const tagOfWaiting = rememberLast(waitingTag)
  const waitingText = createWaitingText()
  const reportedStatuses = new Set<string>()

  async function handle (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const call = new Call(reply)
    const { operation, name, meaning } = outcomeOf(await callInjected(() => latestOperation(call)), importers)
    reportUnknownStatus(operation.status, call.log)

    if (isWaiting(operation, meaning, request)) {
      const text = waitingText(operation, isStalled(operation, stalledAfter))
      adviseRetry(reply, retryAfter(operation))
      return replyUnlessKnown(request, reply, tagOfWaiting(operation.id, name, text), () => sendJson(reply, text))
    }
    return replyUnlessKnown(request, reply, meaning === 'settled' ? selectionTag(operation, name) : undefined, () =>
      sendSelection(reply, call, writeTimeout, output =>
        writeSelection(store, call, name, () => confirmUnchanged(operation, meaning, call), output)))
  }

  async function latestOperation (call: Call): Promise<ImportOperation | null> {
    const operation = await store.latestOperation(call) ?? null
    if (typeof operation !== 'object') throw new InvalidStoreAnswer('latestOperation', 'an operation, or null')
    return operation
  }

  function isWaiting (operation: ImportOperation, meaning: Outcome['meaning'], request: FastifyRequest): boolean {
    if (meaning === 'waiting') preparation?.check(operation)
    if (meaning !== 'loaded' || preparation === undefined) return meaning === 'waiting'
    preparation.require(operation, request.getDecorator<Caller>(kCaller).credentials, request.log)
    return true
  }

  async function confirmUnchanged (operation: ImportOperation, meaning: Outcome['meaning'], call: Call): Promise<void> {
    const latest = await latestOperation(call)
    if (latest === null || !isSameState(operation, latest, meaning)) throw new OperationChanged()
  }

  function reportUnknownStatus (status: unknown, log: FastifyBaseLogger): void {
    const word = typeof status === 'string' ? status : typeof status
    if (isImportStatus(status) || reportedStatuses.has(word)) return
    reportedStatuses.add(word)
    log.warn({ status }, 'The import operation has an unknown status: the reply is the selection of what is staged')
  }

  if (preparation) instance.addHook('onClose', () => preparation.close())
  return handle
}

// 304 when the caller has the reply already (RFC 9110, 15.4.5).
function replyUnlessKnown (
  { headers }: FastifyRequest,
  reply: FastifyReply,
  entityTag: string | undefined,
  send: () => FastifyReply | Promise<FastifyReply>
): FastifyReply | Promise<FastifyReply> {
  if (entityTag !== undefined) reply.header('ETag', entityTag)
  return matches(entityTag, headers['if-none-match']) ? reply.code(304).send() : send()
}
