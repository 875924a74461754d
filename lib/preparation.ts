import { type FastifyBaseLogger } from 'fastify'
import { FileFormatInvalid } from './errors.js'
import { changedAt } from './operation.js'
import { type Credentials, type Prepare } from './options.js'
import { type ImportOperation } from './store.js'

interface Run {
  readonly controller: AbortController
  /** Settles when it has ended, in whatever way. */
  readonly end: Promise<void>
  state: 'running' | 'done' | 'failed'
  /** The operation as it was first seen after the end: until it changes, the end stands. */
  seen?: string
}

/** Runs the host's `prepare` in the background: once for each operation, however many callers wait for it. */
export class Preparation {
  readonly #prepare: Prepare
  readonly #runs = new Map<string, Run>()
  #isClosed = false

  constructor (prepare: Prepare) {
    this.#prepare = prepare
  }

  /**
   * Sees to it that an operation is being prepared, or has been.
   *
   * @param credentials those of the caller, in whose name it is done if it has to be started
   * @throws FileFormatInvalid when it has failed, until the operation changes
   */
  require (operation: ImportOperation, credentials: Credentials, log: FastifyBaseLogger): void {
    const run = this.#runs.get(operation.id)
    if (run === undefined) return this.#start(operation, credentials, log)
    if (run.state === 'running') return
    const state = JSON.stringify([operation.status, changedAt(operation)])
    run.seen ??= state
    if (run.seen !== state) return this.#start(operation, credentials, log)
    if (run.state === 'failed') throw new FileFormatInvalid()
  }

  /** Ends what is running, and settles when it has ended. */
  async close (): Promise<void> {
    this.#isClosed = true
    for (const { controller } of this.#runs.values()) controller.abort()
    await Promise.all([...this.#runs.values()].map(({ end }) => end))
  }

  #start (operation: ImportOperation, credentials: Credentials, log: FastifyBaseLogger): void {
    if (this.#isClosed) return
    for (const [id, { state }] of this.#runs) if (state !== 'running') this.#runs.delete(id)
    const controller = new AbortController()
    const { signal } = controller
    const run: Run = {
      controller,
      state: 'running',
      end: this.#call(operation, { credentials, signal, log }).then(() => { run.state = 'done' }, failure => {
        run.state = 'failed'
        if (!signal.aborted) log.error({ err: failure, operation: operation.id }, 'The import could not be prepared')
      })
    }
    this.#runs.set(operation.id, run)
  }

  // Async, so that one which throws at once fails as any other.
  async #call (...args: Parameters<Prepare>): Promise<void> {
    await this.#prepare(...args)
  }
}
