import type { Settings } from './settings.js'

/** An error that prevents the start of the server, and that its user can fix. The message is one line that says how. */
export class StartupError extends Error {}

/**
 * Turns a failure to listen into a `StartupError`, if the settings are its cause. Otherwise returns the failure itself.
 *
 * @param variable the environment variable of the port
 */
export function listenFailure (failure: unknown, { host, port }: Pick<Settings, 'host' | 'port'>, variable: 'PORT' | 'METRICS_PORT' = 'PORT'): unknown {
  if (!(failure instanceof Error && 'code' in failure && 'syscall' in failure)) return failure
  switch (failure.code) {
    case 'EADDRINUSE':
      return new StartupError(`Port ${port} on ${host} is already in use: set ${variable} to another port, or to 0 for any free port.`)
    case 'EACCES':
      return new StartupError(`This user may not listen on port ${port} of ${host}: set ${variable} to 1024 or higher.`)
    default:
      return new StartupError(`HOST is ${JSON.stringify(host)}, which is not an address of this machine (${failure.code}): ` +
        'set it to 127.0.0.1 to accept connections from this machine only, or to 0.0.0.0 to accept them from other machines.')
  }
}
