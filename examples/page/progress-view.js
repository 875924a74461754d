import { byId, element, setText } from './elements.js'
import { number, quantity, span } from './words.js'

/** How each count of a waiting reply is called, in the order in which they are shown. */
const COUNTS = {
  users: 'Users',
  channels: 'Channels',
  contacts: 'Contacts',
  messages: 'Messages',
  total: 'In all',
  completed: 'Taken in',
  error: 'Failed'
}

/** Shows a waiting reply: how far it is, what is being read, and when that last changed. */
export class ProgressView {
  /** What to take from this clock to have the server's, in milliseconds. */
  #clockSkew = 0
  #updatedAt

  /** Shows that the server is being asked, of which nothing is known yet. */
  showAsking () {
    this.hide()
    byId('progress').hidden = false
    setBar(undefined)
  }

  /** @param outcome a `waiting` outcome of `Server` */
  show ({ reply, serverTime }) {
    const { count = {}, reading, updated_at: updatedAt, stalled } = reply
    this.#clockSkew = Date.now() - serverTime
    this.#updatedAt = updatedAt
    byId('progress').hidden = false
    setBar(stalled ? undefined : progressOf(count))

    replaceFacts(byId('facts'), [
      reading !== undefined && ['Being read', element('bdi', {}, reading)],
      updatedAt !== undefined && ['Last change', element('time', { id: 'changed', dateTime: updatedAt })]
    ])
    replaceFacts(byId('counts'), Object.entries(COUNTS).map(([kind, label]) => count[kind] !== undefined && [label, number(count[kind])]))
    this.tick()
  }

  /** Moves the words for the time since the last change on. */
  tick () {
    const time = byId('changed')
    if (time === null) return
    const seconds = Math.max((Date.now() - this.#clockSkew - Date.parse(this.#updatedAt)) / 1000, 0)
    const date = new Date(this.#updatedAt).toLocaleString('en', { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' })
    setText(time, `${span(seconds)} ago (${date})`)
  }

  /** Takes the bar away, which would tell of progress where there is none; what is known stays. */
  pause () {
    byId('progress').hidden = true
  }

  hide () {
    for (const id of ['progress', 'facts', 'counts']) byId(id).hidden = true
    for (const id of ['facts', 'counts']) byId(id).replaceChildren()
  }
}

/**
 * How far an import is, where its counts tell: the importers of Rocket.Chat let the total grow with what they have read, and then
 * it says nothing of what is still to come.
 */
function progressOf ({ total, completed, users = 0, channels = 0, contacts = 0, messages = 0 }) {
  const done = completed > 0 ? completed : users + channels + contacts + messages
  return total > 0 && done > 0 && done < total ? { done, total } : undefined
}

function setBar (progress) {
  const bar = byId('bar')
  if (progress === undefined) {
    bar.removeAttribute('value')
    setText(byId('bar-words'), '')
    return
  }
  bar.max = progress.total
  bar.value = progress.done
  // Rounded down: it is not 100 % before it is all.
  const percent = Math.floor(100 * progress.done / progress.total)
  setText(byId('bar-words'), `${number(progress.done)} of ${quantity(progress.total, 'record', 'records')} (${percent} %)`)
}

function replaceFacts (list, facts) {
  const known = facts.filter(Boolean)
  list.hidden = known.length === 0
  list.replaceChildren(...known.map(([label, value]) => element('div', {}, element('dt', {}, label), element('dd', {}, value))))
}
