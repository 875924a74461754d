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

/** The server with the entered credentials; undefined without credentials. */
let server
/** Stops the running watch; undefined if none is running. */
let stopWatch
/** The last reply, if it was a waiting reply. */
let waitingReply
/** The time of the next call after an error, in milliseconds since 1970. */
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

/** Shows an outcome, see `watch`. */
function showOutcome (outcome, seconds) {
  const { kind, status, error } = outcome
  const isTransient = kind === 'busy' || kind === 'away'
  if (seconds === undefined) endWatch()
  nextCall = isTransient ? Date.now() + seconds * 1000 : undefined
  if (!isTransient) waitingReply = kind === 'waiting' ? outcome.reply : undefined

  say({ ...wordsFor(outcome), serverWords: error })
  if (kind === 'waiting') progress.show(outcome)
  else if (isTransient) progress.pause()
  else progress.hide()

  if (kind === 'selection') selection.show(outcome.reply)
  else if (!isTransient) selection.clear()

  showState(outcome.reply?.stalled ? 'stalled' : kind)
  // The form stays visible while the credentials may be wrong.
  const wantsOthers = status === 401 || status === 403
  form.show(wantsOthers)
  // The form may fill a small screen.
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
  // The form has its own button.
  byId('again').hidden = wantsOthers
}

// If the focused element is hidden, the focus would move to the top of the page.
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
