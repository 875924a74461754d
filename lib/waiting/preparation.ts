import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { PreparationWithoutEffect } from '../errors.js'
import type { Snapshot } from '../operation.js'
import type { Credentials, Prepare } from '../options.js'

/** How many operations are remembered after their preparation. A replica that lags may return an operation that is not the newest. */
const REMEMBERED = 100

/** One call of `prepare`. */
interface Run {
  /** The operation when the run started; once it has been read after the run, as the run left it. */
  operation: Snapshot
  /** Whether the operation has been read after the run. */
  isRead: boolean
  /** Whether it was started because the operation had changed during the run before. */
  readonly isRepeat: boolean
  /** Resolves when the run has ended. It never rejects. */
  end: Promise<void>
  /** When the run ended, in milliseconds since 1970. */
  endedAt?: number
  hasFailed?: boolean
}

/**
 * Creates a function that runs the host's `prepare` in the background: once for each uploaded file, for all callers. It is called with each
 * operation that is read, and with what `prepare` gets besides it. It returns whether the operation waits for a preparation that has
 * failed.
 *
 * @param instance waits for the runs, and aborts them, when it closes
 * @param patience milliseconds after the end of `prepare` within which the operation has to change; otherwise it counts as failed
 */
export function createPreparation (instance: FastifyInstance, prepare: Prepare, patience: number) {
  const runs = new Map<string, Run>()
  const closing = new AbortController()
  instance.addHook('onClose', async () => {
    closing.abort()
    await Promise.all([...runs.values()].map(({ end }) => end))
  })

  function start (operation: Snapshot, isRepeat: boolean, credentials: Credentials, log: FastifyBaseLogger): undefined {
    if (closing.signal.aborted) return
    const run: Run = { operation, isRead: false, isRepeat, end: Promise.resolve() }
    // Called in a promise, because it may throw instead of returning one.
    run.end = run.end.then(() => prepare(operation.original, { credentials, signal: closing.signal, log }))
      .catch(failure => fail(run, failure, log))
      .finally(() => { run.endedAt = Date.now() })
    runs.delete(operation.id)
    runs.set(operation.id, run)
    for (const [id, { endedAt }] of runs) if (runs.size > REMEMBERED && endedAt !== undefined) runs.delete(id)
  }

  function fail (run: Run, failure: unknown, log: FastifyBaseLogger): void {
    run.hasFailed = true
    if (!closing.signal.aborted) log.error({ err: failure, operation: run.operation.id }, 'The import could not be prepared')
  }

  return (operation: Snapshot, credentials: Credentials, log: FastifyBaseLogger) => {
    const { id, file, updateTime, isLoaded, meaning } = operation
    const run = runs.get(id)
    if (run === undefined && isLoaded) start(operation, false, credentials, log)
    if (run?.endedAt === undefined) return false
    if (isNewer(operation, run.operation)) {
      // A file that was uploaded during a run needs another run. An operation that the run itself changed looks the same, unless the
      // file is another one: so without another file there is only one more run.
      const isSecondRepeat = run.isRepeat && !run.isRead && file === run.operation.file
      if (isLoaded && !isSecondRepeat) return start(operation, !run.isRead, credentials, log)
      if (!run.isRead) run.operation = operation
    }
    // Not by an older version, which a replica that lags may return.
    run.isRead ||= (updateTime ?? Infinity) >= (run.operation.updateTime ?? 0)
    if (isLoaded && run.operation.isLoaded && !run.hasFailed && Date.now() - run.endedAt >= patience) fail(run, new PreparationWithoutEffect(), log)
    // The last changes that the run made may be read after its end.
    const isOwnChange = (updateTime ?? Infinity) <= run.endedAt
    return run.hasFailed && meaning === 'waiting' && (isOwnChange || !isNewer(operation, run.operation))
  }
}

// False for an older version: reads of a replica set may alternate between a member that lags and one that does not.
function isNewer (operation: Snapshot, other: Snapshot): boolean {
  if (operation.updateTime !== undefined && other.updateTime !== undefined) return operation.updateTime > other.updateTime
  return operation.status !== other.status || operation.file !== other.file
}
