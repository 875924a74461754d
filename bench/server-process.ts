import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Health, type Usage } from './meter.js'
import { type Work } from './work.js'

/** Who replies: the plugin, or a baseline to hold it against. */
export type Side = 'ours' | 'rocket-chat' | 'bare' | 'ready-made' | 'drain' | 'raw-drain'

/** What a server process is to serve. */
export interface Order {
  side: Side
  work: Work
  /** The database server, for work from MongoDB. */
  mongoUrl: string | undefined
}

/** What a server process does when asked: the methods of its meter. */
export type Question = 'settle' | 'collect' | 'startCount' | 'endCount' | 'startWatch' | 'endWatch'

/** Where every server has a small selection besides its work, so that it can be warmed up. */
export const WARM_UP = { prefix: '/warm-up', users: 100 }

/** Where every server has its work. */
export const WORK = { prefix: '/api/v1' }

/**
 * Compiles what the servers run, as the package is compiled: what tsx makes of the same code (a call for the name of every
 * function that has one) takes up to a tenth more time.
 */
export async function compileServer (): Promise<void> {
  const compiler = fileURLToPath(import.meta.resolve('typescript/bin/tsc'))
  await promisify(execFile)(process.execPath, [compiler, '--project', fileURLToPath(new URL('.', import.meta.url))])
}

/** A server in a process of its own. */
export class ServerProcess {
  /** Listens on this port of 127.0.0.1. */
  readonly port: number
  readonly #child: ChildProcess

  private constructor (child: ChildProcess, port: number) {
    this.#child = child
    this.port = port
  }

  /**
   * Starts a server, and settles once it listens.
   *
   * @param execArgv options for Node.js, such as `--cpu-prof`
   */
  static async start (order: Order, execArgv: readonly string[]): Promise<ServerProcess> {
    const program = fileURLToPath(new URL('../.cache/bench/bench/server.js', import.meta.url))
    const child = fork(program, [JSON.stringify(order)], { execArgv: ['--expose-gc', ...execArgv] })
    const port: number = await messageOf(child)
    return new ServerProcess(child, port)
  }

  /** Takes the memory as it is now for the start. */
  async settle (): Promise<void> {
    await this.#ask('settle')
  }

  /** Frees what is no longer needed. */
  async collect (): Promise<void> {
    await this.#ask('collect')
  }

  /** Does some work of this process, and counts what the server process uses meanwhile. */
  async count<T> (work: () => Promise<T>): Promise<[result: T, usage: Usage]> {
    await this.#ask('startCount')
    const result = await work()
    const usage: Usage = await this.#ask('endCount')
    return [result, usage]
  }

  /** Does some work of this process, and watches how the server process fares meanwhile. */
  async watch<T> (work: () => Promise<T>): Promise<[result: T, health: Health]> {
    await this.#ask('startWatch')
    const result = await work()
    const health: Health = await this.#ask('endWatch')
    return [result, health]
  }

  /** Ends the process. */
  async stop (): Promise<void> {
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
