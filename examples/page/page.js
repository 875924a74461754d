import { span } from './amounts.js'
import { CredentialsForm } from './credentials-form.js'
import { announce, byId, setText } from './elements.js'
import { ProgressView } from './progress-view.js'
import { SelectionView } from './selection-view.js'
import { Server } from './server.js'
import { watch } from './watch.js'
import { ASKING, RECEIVING, stoppedWords, wordsFor } from './words.js'

const TITLE = document.title

const progress = new ProgressView()
const selection = new SelectionView()
const form = new CredentialsForm(credentials => {
  server = new Server(credentials)
  waitingReply = undefined
  start()
})

/** The server, with the credentials that were entered; undefined while there are none. */
let server
/** Ends the watch that is going on; undefined when there is none. */
let stopWatch
/** The last reply, while it is one that the import is being read. */
let waitingReply
/** When the server is asked again after an error, in milliseconds since 1970. */
let nextCall

byId('again').addEventListener('click', () => stopWatch ? stop() : start())
byId('forget').addEventListener('click', forget)
setInterval(tick, 1000)

async function start () {
  stopWatch?.()
  const controller = new AbortController()
  stopWatch = () => controller.abort()
  form.hideToken()
  showState('asking')
  if (byId('selection').hidden) progress.showAsking()
  say(ASKING)
  showControls({ watching: true })
  try {
    await watch(server, controller.signal, showOutcome, showReceived)
  } catch (error) {
    if (!controller.signal.aborted) throw error
  }
}

function stop () {
  endWatch()
  progress.pause()
  showState(waitingReply?.stalled ? 'stalled' : 'stopped')
  say(stoppedWords(waitingReply))
  showControls({ watching: false })
  tick()
}

function forget () {
  endWatch()
  server = undefined
  waitingReply = undefined
  form.clear()
  selection.clear()
  progress.hide()
  say({ headline: '', advice: '' })
  byId('state').hidden = true
  form.show(true)
  announce('The user id, the token and everything that was shown have been removed from this page.')
  byId('user-id').focus()
}

function endWatch () {
  stopWatch?.()
  stopWatch = undefined
  nextCall = undefined
}

function showReceived (bytes) {
  say(RECEIVING)
  progress.showReceived(bytes)
}

/** Shows what came of asking; see `watch`. */
function showOutcome (outcome, seconds) {
  const { kind, status, error } = outcome
  const isPassing = kind === 'busy' || kind === 'away'
  if (seconds === undefined) endWatch()
  nextCall = isPassing ? Date.now() + seconds * 1000 : undefined
  if (!isPassing) waitingReply = kind === 'waiting' ? outcome.reply : undefined

  say({ ...wordsFor(outcome), serverWords: error })
  if (kind === 'waiting') progress.show(outcome)
  else if (isPassing) progress.pause()
  else progress.hide()

  if (kind === 'selection') selection.show(outcome.reply)
  else if (!isPassing) selection.clear()

  showState(outcome.reply?.stalled ? 'stalled' : kind)
  // While the credentials may be what is wrong, they stay at hand.
  const wantsOthers = status === 401 || status === 403
  form.show(wantsOthers)
  // On a small screen the form fills it.
  if (wantsOthers) byId('state').scrollIntoView({ block: 'nearest' })
  showControls({ watching: seconds !== undefined, wantsOthers })
  keepFocus()
  tick()
}

function showState (state) {
  byId('state').hidden = false
  byId('state').className = `card ${state}`
}

function showControls ({ watching, wantsOthers = false }) {
  setText(byId('again'), watching ? 'Stop' : 'Ask again')
  // The form's own button does it.
  byId('again').hidden = wantsOthers
}

// Someone whose focus is on something that disappears would have to start again at the top of the page.
function keepFocus () {
  if (document.activeElement?.closest('[hidden]')) byId('headline').focus()
}

function say ({ headline, advice, serverWords }) {
  setText(byId('headline'), headline)
  setText(byId('advice'), advice)
  setText(byId('server-words'), serverWords === undefined ? '' : `The server’s message: ${serverWords}`)
  byId('server-words').hidden = serverWords === undefined
  document.title = headline === '' ? TITLE : `${headline} – ${TITLE}`
}

function tick () {
  progress.tick()
  const seconds = nextCall === undefined ? 0 : Math.ceil((nextCall - Date.now()) / 1000)
  setText(byId('next'), seconds > 0 ? `Asks again in ${span(seconds)}.` : '')
}
