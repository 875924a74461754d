import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Values } from './cases.js'
import { type Reply } from './client.js'
import { type Work } from './work.js'

/** Who replies: the plugin, an earlier version of it, or a baseline to compare it with. */
export type Side = 'ours' | 'earlier' | 'rocket-chat' | 'bare' | 'raw-drain'

/** What a server process is to serve. */
export interface Order {
  side: Side
  work: Work
  /** The URL of the folder with the compiled plugin, which ends with a slash. */
  plugin: string
  /** The URL of the database server, for a work from it. */
  mongoUrl: string | undefined
  /** Our reply, which a bare route repeats. */
  reply: Reply | undefined
}

/** What a server process does when asked: the methods of its meter. */
export type Question = 'settle' | 'count' | 'watch' | 'end'

/** Where every server has its work. */
export const WORK_PREFIX = '/api/v1'

/** Where every server has a small selection, to be warmed up with. */
export const WARM_UP_PREFIX = '/warm-up'

/** How many users that selection has. */
export const WARM_UP_USERS = 100

const COMPILED = new URL('../.cache/bench/', import.meta.url)

/** The folder of our plugin, as `compileServer` leaves it. */
export const ourPlugin = new URL('lib/', COMPILED).href

/**
 * Compiles the plugin and the program of the server processes, by the same options as the package. They are not run by tsx,
 * which adds a call for the name of every function and so takes up to a tenth more time.
 */
export async function compileServer (): Promise<void> {
  const compiler = fileURLToPath(import.meta.resolve('typescript/bin/tsc'))
  await promisify(execFile)(process.execPath, [compiler, '--project', fileURLToPath(new URL('.', import.meta.url))])
}

/** A server in a process of its own, on the Node.js that this process runs on. */
export class ServerProcess {
  /** The port of 127.0.0.1 that it listens on. */
  readonly port: number
  readonly #child: ChildProcess

  private constructor (child: ChildProcess, port: number) {
    this.#child = child
    this.port = port
  }

  /**
   * Starts a server; resolves once it listens.
   *
   * @param execArgv options for Node.js, such as `--cpu-prof`
   */
  static async start (order: Order, execArgv: readonly string[]): Promise<ServerProcess> {
    const program = fileURLToPath(new URL('bench/server.js', COMPILED))
    const child = fork(program, [JSON.stringify(order)], { execArgv: ['--expose-gc', ...execArgv] })
    const port: number = await messageOf(child)
    return new ServerProcess(child, port)
  }

  /** Takes its memory as it is now for the start. */
  async settle (): Promise<void> {
    await this.#ask('settle')
  }

  /** Does some work in this process, and measures the server process meanwhile. */
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
      once(child, 'exit', { signal }).then(([code, by]) => { throw new Error(`A server process ended: ${code ?? by}`) })
    ])
    return message
  } finally {
    ended.abort()
  }
}
