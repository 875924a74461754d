import { existsSync, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { limitClosing } from './closing.js'
import { type Settings, readSettings, usage } from './settings.js'
import { StartupError, listenFailure } from './startup-error.js'

/** Where the log and the messages go: readable text for a terminal, JSON otherwise. */
export type Output = NodeJS.WritableStream & { isTTY?: boolean }

/** How an example is run: its environment variables and arguments, and where it writes. */
export interface Launch {
  env: NodeJS.ProcessEnv
  args: readonly string[]
  output: Output
  /** Gets one line that says what to fix when the server cannot start. */
  errors: Output
}

/** A listening server, its URL and its settings. */
export interface Launched {
  app: FastifyInstance
  url: string
  settings: Settings
}

/**
 * Builds a server with the settings in the environment, and listens until the process is asked to end. With `--help` it prints the
 * usage instead.
 *
 * @returns undefined if the usage was printed or the server cannot start. Then the reason is in `errors`, and the exit code is 1
 */
export async function launch (
  build: (settings: Settings) => Promise<FastifyInstance>,
  { env, args, output, errors }: Launch
): Promise<Launched | undefined> {
  try {
    if (asksForHelp(args)) {
      output.write(usage())
      return undefined
    }
    const settings = readSettings(env)
    const app = await build(settings)
    return { app, url: await listen(app, settings, output), settings }
  } catch (failure) {
    if (!(failure instanceof StartupError)) throw failure
    errors.write(`${failure.message}\n`)
    process.exitCode = 1
    return undefined
  }
}

/**
 * Whether a command's arguments ask for its usage.
 *
 * @throws StartupError if there is any other argument
 */
export function asksForHelp (args: readonly string[]): boolean {
  const options = { help: { type: 'boolean', short: 'h' } } as const
  const { values, tokens } = parseArgs({ args: [...args], options, strict: false, tokens: true })
  const unknown = tokens.find(token => token.kind !== 'option' || token.name !== 'help')
  if (unknown === undefined) return values.help !== undefined
  throw new StartupError(`Unknown argument ${JSON.stringify(args[unknown.index])}: the settings are environment variables, --help lists them.`)
}

/**
 * Signals of a fault in the process itself. They are left to the system: a handler would return to the faulty instruction, and so
 * run forever. Node.js 20 raises such a signal if it ends after its terminal was closed.
 */
const FAULTS = ['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV'] as const

async function listen (app: FastifyInstance, settings: Settings, output: Output): Promise<string> {
  limitClosing(app)
  // No `delay`, which would cut replies in progress after that time. A second signal ends the process at once.
  // Its own messages belong to the log, except in a terminal, where the log is not written before the process ends.
  const grace = closeWithGrace({ delay: false, skip: [...FAULTS], logger: output.isTTY ? console : app.log }, closer(app))
  app.addHook('onClose', async () => grace.uninstall())
  try {
    return await app.listen({ host: settings.host, port: settings.port })
  } catch (failure) {
    await app.close()
    throw listenFailure(failure, settings)
  }
}

/** Returns the function that closes the server when the process is asked to end. Replies in progress are completed. */
export function closer (app: FastifyInstance) {
  return async ({ signal, err }: { signal?: string, err?: Error }): Promise<void> => {
    if (err) app.log.fatal({ err }, 'Closing because of an uncaught error')
    else app.log.info(`Closing because of ${signal}`)
    await app.close()
  }
}

/** Whether a module (`import.meta.url`) is the script that Node.js runs (`process.argv[1]`). */
export function isScript (script: string | undefined, moduleUrl: string): boolean {
  return script !== undefined && existsSync(script) && realpathSync(script) === fileURLToPath(moduleUrl)
}
