import { type FastifyBaseLogger } from 'fastify'
import { FileFormatInvalid, PreparationWithoutEffect } from '../errors.js'
import { changedAt } from '../operation.js'
import { type Credentials, type Prepare } from '../options.js'
import { type ImportOperation } from '../store.js'

/** How many operations are remembered after their preparation. A replica that lags may return an operation that is not the newest. */
const REMEMBERED = 100

/** One call of `prepare`. */
interface Run {
  readonly controller: AbortController
  /** Settles when it has ended, in whatever way. */
  readonly end: Promise<void>
  /** The operation as it was when the run started. */
  readonly startedFor: ImportOperation
  /** Whether it was started because the operation had changed during the run before. */
  readonly isRepeat: boolean
  /** When it ended, in milliseconds since 1970, and the newest state of the operation that was known when it was first read after that. */
  endedAt?: number
  endedFor?: ImportOperation
  hasFailed?: boolean
}

/** Runs the host's `prepare` in the background: once for each uploaded file, however many callers wait for it. */
export class Preparation {
  readonly #prepare: Prepare
  readonly #patience: number
  readonly #runs = new Map<string, Run>()
  #isClosed = false

  /** @param patience milliseconds after the end of `prepare` in which the operation has to change; else it counts as failed */
  constructor (prepare: Prepare, patience: number) {
    this.#prepare = prepare
    this.#patience = patience
  }

  /**
   * Starts `prepare` for an operation whose file is loaded, unless that was done.
   *
   * @param credentials those of the caller, in whose name it is done
   * @throws FileFormatInvalid as `check` does
   */
  require (operation: ImportOperation, credentials: Credentials, log: FastifyBaseLogger): void {
    const run = this.#runs.get(operation.id)
    const isRepeat = run !== undefined && isChangedDuring(run, operation)
    if (run === undefined || isRepeat || isChangedSince(run, operation)) this.#start(operation, isRepeat, credentials, log)
    else if (run.endedAt !== undefined && !run.hasFailed && Date.now() - run.endedAt >= this.#patience) {
      fail(run, new PreparationWithoutEffect(), log)
    }
    this.check(operation)
  }

  /** Throws FileFormatInvalid when the last preparation of an operation failed and the operation has not changed since. */
  check (operation: ImportOperation): void {
    const run = this.#runs.get(operation.id)
    if (run?.endedAt === undefined) return
    run.endedFor ??= isNewer(operation, run.startedFor) ? operation : run.startedFor
    // The last changes that the run made may be read after its end.
    const isOwnChange = (changedAt(operation) ?? Infinity) <= run.endedAt
    if (run.hasFailed && (isOwnChange || !isNewer(operation, run.endedFor))) throw new FileFormatInvalid()
  }

  /** Aborts what is running, and settles when it has ended. */
  async close (): Promise<void> {
    this.#isClosed = true
    for (const { controller } of this.#runs.values()) controller.abort()
    await Promise.all([...this.#runs.values()].map(({ end }) => end))
  }

  #start (startedFor: ImportOperation, isRepeat: boolean, credentials: Credentials, log: FastifyBaseLogger): void {
    if (this.#isClosed) return
    const controller = new AbortController()
    const { signal } = controller
    const end = this.#call(startedFor, { credentials, signal, log }).catch(failure => fail(run, failure, log)).finally(() => {
      run.endedAt = Date.now()
    })
    const run: Run = { controller, startedFor, isRepeat, end }
    this.#runs.delete(startedFor.id)
    this.#runs.set(startedFor.id, run)
    for (const [id, { endedAt }] of this.#runs) if (this.#runs.size > REMEMBERED && endedAt !== undefined) this.#runs.delete(id)
  }

  // Async, so that one that throws at once fails like any other.
  async #call (...args: Parameters<Prepare>): Promise<void> {
    await this.#prepare(...args)
  }
}

function fail (run: Run, failure: unknown, log: FastifyBaseLogger): void {
  run.hasFailed = true
  if (!run.controller.signal.aborted) log.error({ err: failure, operation: run.startedFor.id }, 'The import could not be prepared')
}

// A file that was uploaded during a run is prepared by a run of its own. A run that changes the operation itself looks the same, unless the
// file is another: so without another file this is done once.
function isChangedDuring ({ startedFor, isRepeat, endedAt, endedFor }: Run, operation: ImportOperation): boolean {
  const mayRepeat = !isRepeat || operation.file !== startedFor.file
  return endedAt !== undefined && endedFor === undefined && mayRepeat && isNewer(operation, startedFor)
}

function isChangedSince ({ endedFor }: Run, operation: ImportOperation): boolean {
  return endedFor !== undefined && isNewer(operation, endedFor)
}

// Never true for an older state: reads of a replica set may alternate between a member that lags and one that does not.
function isNewer (operation: ImportOperation, other: ImportOperation): boolean {
  const time = changedAt(operation)
  const otherTime = changedAt(other)
  if (time !== undefined && otherTime !== undefined) return time > otherTime
  return operation.status !== other.status || operation.file !== other.file
}
