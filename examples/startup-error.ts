import { type Settings } from './settings.js'

/** What keeps the server from starting and is for whoever starts it to put right: the message is one line that says how. */
export class StartupError extends Error {}

/** What it means that the server cannot listen: a `StartupError`, or the failure itself when it has another reason. */
export function listenFailure (failure: unknown, { host, port }: Pick<Settings, 'host' | 'port'>): unknown {
  if (!(failure instanceof Error && 'code' in failure && 'syscall' in failure)) return failure
  switch (failure.code) {
    case 'EADDRINUSE':
      return new StartupError(`Port ${port} of ${host} is in use already: set PORT to another one, or to 0 for any that is free.`)
    case 'EACCES':
      return new StartupError(`You may not use port ${port} of ${host}: set PORT to one above 1023.`)
    default:
      return new StartupError(`HOST is "${host}", which is no address of this machine (${failure.code}): ` +
        'set it to 127.0.0.1 to be heard by this machine alone, or to 0.0.0.0 to be heard by others.')
  }
}
