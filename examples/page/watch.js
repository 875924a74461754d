/** The longest time between two calls after failures, in seconds. */
const LONGEST_PAUSE = 30

/**
 * Calls the server repeatedly until the reply is final. Honours `Retry-After`, and does not call while the tab is hidden.
 *
 * @param server a `Server`
 * @param {AbortSignal} signal stops it
 * @param show called with each outcome (see `Server`), and with the seconds until the next call, or undefined if there is none
 * @param received called with the number of bytes received while a long reply arrives
 */
export async function watch (server, signal, show, received) {
  let failures = 0
  while (!signal.aborted) {
    const outcome = await server.ask(signal, bytes => { if (!signal.aborted) received(bytes) })
    if (signal.aborted) return
    failures = outcome.kind === 'away' || outcome.kind === 'busy' ? failures + 1 : 0
    const seconds = pauseAfter(outcome, failures)
    show(outcome, seconds)
    if (seconds === undefined) return
    await pause(seconds, signal)
    await untilVisible(signal)
  }
}

function pauseAfter ({ kind, retryAfter }, failures) {
  if (kind === 'waiting') return retryAfter ?? 1
  if (kind === 'away' || kind === 'busy') return retryAfter ?? Math.min(2 ** failures, LONGEST_PAUSE)
  return undefined
}

function pause (seconds, signal) {
  return new Promise(resolve => {
    const timer = setTimeout(end, seconds * 1000)
    signal.addEventListener('abort', end)
    function end () {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
  })
}

function untilVisible (signal) {
  return new Promise(resolve => {
    const look = () => {
      if (document.hidden && !signal.aborted) return
      document.removeEventListener('visibilitychange', look)
      signal.removeEventListener('abort', look)
      resolve()
    }
    document.addEventListener('visibilitychange', look)
    signal.addEventListener('abort', look)
    look()
  })
}
