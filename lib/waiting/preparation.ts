import type { FastifyBaseLogger } from 'fastify'
import { FileFormatInvalid, PreparationWithoutEffect } from '../errors.js'
import type { Snapshot } from '../operation.js'
import type { Credentials, Prepare } from '../options.js'

/** How many operations are remembered after their preparation. A replica that lags may return an operation that is not the newest. */
const REMEMBERED = 100

/** One call of `prepare`. */
interface Run {
  /** The operation when the run started. */
  readonly startedFor: Snapshot
  /** Whether it was started because the operation had changed during the run before. */
  readonly isRepeat: boolean
  /** Resolves when the run has ended. It never rejects. */
  end: Promise<void>
  /** When the run ended, in milliseconds since 1970, and the newest known version of the operation when it was first read after that. */
  endedAt?: number
  endedFor?: Snapshot
  hasFailed?: boolean
}

/** Runs the host's `prepare` in the background: once for each uploaded file, for all callers. */
export class Preparation {
  readonly #runs = new Map<string, Run>()
  readonly #closing = new AbortController()

  /** @param patience milliseconds after the end of `prepare` within which the operation has to change; otherwise it counts as failed */
  constructor (private readonly prepare: Prepare, private readonly patience: number) {}

  /**
   * Called before each waiting reply: starts `prepare` for an operation whose file is loaded, unless it was started already.
   *
   * @param credentials the caller's, which `prepare` gets
   * @throws FileFormatInvalid when the last preparation failed and the operation has not changed since
   */
  require (operation: Snapshot, credentials: Credentials, log: FastifyBaseLogger): void {
    const run = this.#runs.get(operation.id)
    const isLoaded = operation.status === 'importer_file_loaded'
    if (run === undefined && isLoaded) return this.#start(operation, credentials, log)
    if (run?.endedAt === undefined) return
    if (isLoaded) {
      // A file that was uploaded during a run needs another run. An operation that the run itself changed looks the same, unless the
      // file is another one: so without another file there is only one more run.
      const isSecondRepeat = run.isRepeat && run.endedFor === undefined && operation.file === run.startedFor.file
      if (!isSecondRepeat && isNewer(operation, run.endedFor ?? run.startedFor)) return this.#start(operation, credentials, log)
      if (!run.hasFailed && Date.now() - run.endedAt >= this.patience) this.#fail(run, new PreparationWithoutEffect(), log)
    }
    run.endedFor ??= isNewer(operation, run.startedFor) ? operation : run.startedFor
    // The last changes that the run made may be read after its end.
    const isOwnChange = (operation.updateTime ?? Infinity) <= run.endedAt
    if (run.hasFailed && (isOwnChange || !isNewer(operation, run.endedFor))) throw new FileFormatInvalid()
  }

  /** Notes the state in which a finished run left its operation, so that a file that is loaded later counts as another upload. */
  note (operation: Snapshot): void {
    const run = this.#runs.get(operation.id)
    // An operation whose file is loaded may be another upload already.
    if (run?.endedAt === undefined || operation.status === 'importer_file_loaded') return
    const isStale = (operation.updateTime ?? Infinity) < (run.startedFor.updateTime ?? 0)
    if (!isStale) run.endedFor ??= operation
  }

  /** Aborts the runs, and resolves when they have ended. */
  async close (): Promise<void> {
    this.#closing.abort()
    await Promise.all([...this.#runs.values()].map(({ end }) => end))
  }

  #start (startedFor: Snapshot, credentials: Credentials, log: FastifyBaseLogger): void {
    if (this.#closing.signal.aborted) return
    const previous = this.#runs.get(startedFor.id)
    const run: Run = { startedFor, isRepeat: previous !== undefined && previous.endedFor === undefined, end: Promise.resolve() }
    // Called in a promise, because it may throw instead of returning one.
    run.end = run.end.then(() => this.prepare(startedFor.original, { credentials, signal: this.#closing.signal, log }))
      .catch(failure => this.#fail(run, failure, log))
      .finally(() => { run.endedAt = Date.now() })
    this.#runs.delete(startedFor.id)
    this.#runs.set(startedFor.id, run)
    for (const [id, { endedAt }] of this.#runs) if (this.#runs.size > REMEMBERED && endedAt !== undefined) this.#runs.delete(id)
  }

  #fail (run: Run, failure: unknown, log: FastifyBaseLogger): void {
    run.hasFailed = true
    if (!this.#closing.signal.aborted) log.error({ err: failure, operation: run.startedFor.id }, 'The import could not be prepared')
  }
}

// False for an older version: reads of a replica set may alternate between a member that lags and one that does not.
function isNewer (operation: Snapshot, other: Snapshot): boolean {
  if (operation.updateTime !== undefined && other.updateTime !== undefined) return operation.updateTime > other.updateTime
  return operation.status !== other.status || operation.file !== other.file
}
