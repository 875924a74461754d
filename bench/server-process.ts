import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Values } from './cases.js'
import type { Reply } from './client.js'
import type { Work } from './work.js'

/** What is measured: the plugin, an earlier version of it, or a baseline. */
export type Side = 'ours' | 'earlier' | 'rocket-chat' | 'bare' | 'raw-drain'

/** What a server process serves. */
export interface Order {
  side: Side
  work: Work
  /** The URL of the folder with the compiled plugin, with a trailing slash. */
  plugin: string
  /** The URL of the database server, if the work reads from it. */
  mongoUrl: string | undefined
  /** Our reply, for the bare route. */
  reply: Reply | undefined
}

/** A request to a server process: a method of its meter. */
export type Question = 'settle' | 'count' | 'watch' | 'end'

/** The prefix of the route that is measured. */
export const WORK_PREFIX = '/api/v1'

/** The prefix of the route for the warm-up. */
export const WARM_UP_PREFIX = '/warm-up'

/** The number of users in the selection for the warm-up. */
export const WARM_UP_USERS = 100

const COMPILED = new URL('../.cache/bench/', import.meta.url)

/** The URL of our plugin's folder, as compiled by `compileServer`. */
export const ourPlugin = new URL('lib/', COMPILED).href

/**
 * Compiles the plugin and the server program with the options of the package. They are not run with tsx, which adds a call for the
 * name of every function, and so takes up to 10% more time.
 */
export async function compileServer (): Promise<void> {
  const compiler = fileURLToPath(import.meta.resolve('typescript/bin/tsc'))
  await promisify(execFile)(process.execPath, [compiler, '--project', fileURLToPath(new URL('.', import.meta.url))])
}

/** A server in a separate process, on the current version of Node.js. */
export class ServerProcess {
  /** The port on 127.0.0.1. */
  readonly port: number
  readonly #child: ChildProcess

  private constructor (child: ChildProcess, port: number) {
    this.#child = child
    this.port = port
  }

  /**
   * Starts a server. Resolves when it listens.
   *
   * @param execArgv options for Node.js, such as `--cpu-prof`
   */
  static async start (order: Order, execArgv: readonly string[]): Promise<ServerProcess> {
    const program = fileURLToPath(new URL('bench/server.js', COMPILED))
    const child = fork(program, [JSON.stringify(order)], { execArgv: ['--expose-gc', ...execArgv] })
    const port: number = await messageOf(child)
    return new ServerProcess(child, port)
  }

  /** Takes the process's current memory as the baseline of the peak. */
  async settle (): Promise<void> {
    await this.#ask('settle')
  }

  /** Measures the server process while `work` runs in this process. */
  async during<T> (work: () => Promise<T>, { isWatched }: { isWatched: boolean }): Promise<[result: T, values: Values]> {
    await this.#ask(isWatched ? 'watch' : 'count')
    const result = await work()
    const values: Values = await this.#ask('end')
    return [result, values]
  }

  /** Ends the process. */
  async stop (): Promise<void> {
    if (!this.#child.connected) return
    const exit = once(this.#child, 'exit')
    this.#child.disconnect()
    await exit
  }

  #ask (question: Question) {
    this.#child.send(question)
    return messageOf(this.#child)
  }
}

async function messageOf (child: ChildProcess) {
  const ended = new AbortController()
  const { signal } = ended
  try {
    const [message] = await Promise.race([
      once(child, 'message', { signal }),
      once(child, 'exit', { signal }).then(([code, by]) => { throw new Error(`A server process exited: ${code ?? by}`) })
    ])
    return message
  } finally {
    ended.abort()
  }
}
