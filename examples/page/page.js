import { byId, setText } from './elements.js'
import { ProgressView } from './progress-view.js'
import { SelectionView } from './selection-view.js'
import { Server } from './server.js'
import { watch } from './watch.js'
import { span, wordsFor } from './words.js'

const TITLE = document.title

const progress = new ProgressView()
const selection = new SelectionView()

/** The server, with the credentials of who is looking; undefined while nobody is. */
let server
/** Ends the watch that is going on; undefined when there is none. */
let stopWatch
/** When the server is asked again after an error, in milliseconds since 1970. */
let nextCall

byId('credentials').addEventListener('submit', event => {
  event.preventDefault()
  server = new Server({ userId: byId('user-id').value.trim(), token: byId('token').value.trim() })
  start()
})
byId('again').addEventListener('click', () => stopWatch ? stop() : start())
byId('forget').addEventListener('click', forget)
byId('reveal').addEventListener('click', () => reveal(byId('token').type === 'password'))
for (const id of ['user-id', 'token']) {
  byId(id).addEventListener('input', ({ target }) => {
    target.setCustomValidity('')
    if (target.validity.patternMismatch) target.setCustomValidity('Only letters, digits and signs as on an English keyboard, and no space inside.')
  })
}
setInterval(tick, 1000)

async function start () {
  stopWatch?.()
  const controller = new AbortController()
  stopWatch = () => controller.abort()
  reveal(false)
  byId('state').hidden = false
  byId('state').className = 'card'
  if (byId('selection').hidden) progress.showAsking()
  say({ headline: 'The server is being asked', advice: '' })
  showControls({ watching: true })
  try {
    await watch(server, controller.signal, showOutcome)
  } catch (error) {
    if (!controller.signal.aborted) throw error
  }
}

function stop () {
  endWatch()
  progress.pause()
  byId('state').className = 'card'
  say({ headline: 'Stopped', advice: 'This page no longer asks the server.' })
  showControls({ watching: false })
  tick()
}

function forget () {
  endWatch()
  server = undefined
  for (const id of ['user-id', 'token']) byId(id).value = ''
  reveal(false)
  selection.clear()
  progress.hide()
  say({ headline: '', advice: '' })
  byId('state').hidden = true
  byId('credentials').hidden = false
  setText(byId('announcement'), 'The user id, the token and all that was shown are forgotten.')
  byId('user-id').focus()
}

function endWatch () {
  stopWatch?.()
  stopWatch = undefined
  nextCall = undefined
}

/** Shows what came of asking; see `watch`. */
function showOutcome (outcome, seconds) {
  const { kind, status, error } = outcome
  const isPassing = kind === 'busy' || kind === 'away'
  if (seconds === undefined) endWatch()
  nextCall = isPassing ? Date.now() + seconds * 1000 : undefined

  say({ ...wordsFor(outcome), serverWords: error })
  if (kind === 'waiting') progress.show(outcome)
  else if (isPassing) progress.pause()
  else progress.hide()

  if (kind === 'selection') selection.show(outcome.reply)
  else if (!isPassing) selection.clear()

  byId('state').className = `card ${outcome.reply?.stalled ? 'stalled' : kind}`
  // For as long as it may be the credentials that are wrong, they stay at hand.
  const wantsOthers = status === 401 || status === 403
  byId('credentials').hidden = !wantsOthers
  // On a small screen the form fills it.
  if (wantsOthers) byId('state').scrollIntoView({ block: 'nearest' })
  showControls({ watching: seconds !== undefined, wantsOthers })
  keepFocus()
  tick()
}

function showControls ({ watching, wantsOthers = false }) {
  setText(byId('again'), watching ? 'Stop' : 'Ask again')
  // The form's own button does it.
  byId('again').hidden = wantsOthers
}

// Whoever has the focus on something that goes would have to begin anew at the top of the page.
function keepFocus () {
  if (document.activeElement?.closest('[hidden]')) byId('headline').focus()
}

function say ({ headline, advice, serverWords }) {
  setText(byId('headline'), headline)
  setText(byId('advice'), advice)
  setText(byId('server-words'), serverWords === undefined ? '' : `In the server’s words: ${serverWords}`)
  byId('server-words').hidden = serverWords === undefined
  document.title = headline === '' ? TITLE : `${headline} – ${TITLE}`
}

function reveal (shown) {
  byId('token').type = shown ? 'text' : 'password'
  setText(byId('reveal').firstElementChild, shown ? 'Hide' : 'Show')
}

function tick () {
  progress.tick()
  const seconds = nextCall === undefined ? 0 : Math.ceil((nextCall - Date.now()) / 1000)
  setText(byId('next'), seconds > 0 ? `Asks again in ${span(seconds)}.` : '')
}
