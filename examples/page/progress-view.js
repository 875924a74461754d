import { megabytes, number, quantity, span } from './amounts.js'
import { announce, byId, element, setText } from './elements.js'

/** What each count of a waiting reply is called, in the order in which they are shown. Of the total see `recordWords`. */
const COUNTS = {
  users: 'Users',
  channels: 'Channels',
  contacts: 'Contacts',
  messages: 'Messages',
  completed: 'Imported',
  error: 'Failed'
}

/** The shortest time between two announcements of the counts, in milliseconds: a screen reader is not to talk all the time. */
const ANNOUNCED_EVERY = 20_000

/** Shows a waiting reply: how far it is, what is being read, and when that last changed; and how much of a long reply has come. */
export class ProgressView {
  /** What to take from this clock to have the server's, in milliseconds. */
  #clockSkew = 0
  #updatedAt
  /** The words for how many records have been read. */
  #recordWords = ''
  #announcedAt = 0

  /** Shows that the server is being asked, of which nothing is known yet. */
  showAsking () {
    this.hide()
    showBar('', undefined)
  }

  /** Shows how many bytes of a long reply have been received. */
  showReceived (bytes) {
    showBar(`${megabytes(bytes)} received`, undefined)
    this.#announce(byId('bar-words').textContent)
  }

  /** @param outcome a `waiting` outcome of `Server` */
  show ({ reply, serverTime }) {
    const { count = {}, reading, updated_at: updatedAt, stalled } = reply
    this.#clockSkew = Date.now() - serverTime
    this.#updatedAt = updatedAt
    const progress = progressOf(count)
    this.#recordWords = recordWords(progress)
    showBar(this.#recordWords, stalled ? undefined : progress)

    const counts = Object.entries(COUNTS).map(([kind, label]) => count[kind] !== undefined && [label, number(count[kind])])
    replaceFacts(byId('facts'), [
      reading !== undefined && ['Reading', element('bdi', {}, reading)],
      updatedAt !== undefined && ['Last change', element('time', { id: 'changed', dateTime: updatedAt })]
    ])
    replaceFacts(byId('counts'), counts)
    this.tick()
    this.#announce([this.#recordWords, ...counts.filter(Boolean).map(([label, value]) => `${label}: ${value}`)].filter(Boolean).join(', '))
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
    byId('bar').hidden = true
    setText(byId('bar-words'), this.#recordWords)
  }

  hide () {
    this.#recordWords = ''
    this.#announcedAt = Date.now()
    for (const id of ['progress', 'facts', 'counts']) byId(id).hidden = true
    for (const id of ['facts', 'counts']) byId(id).replaceChildren()
  }

  #announce (text) {
    const now = Date.now()
    if (text === '' || now - this.#announcedAt < ANNOUNCED_EVERY) return
    this.#announcedAt = now
    announce(text)
  }
}

/** How many records of how many have been read, where the counts tell. */
function progressOf ({ total, completed, users = 0, channels = 0, contacts = 0, messages = 0 }) {
  return total > 0 ? { done: completed > 0 ? completed : users + channels + contacts + messages, total } : undefined
}

/** The importers of Rocket.Chat let the total grow with what they have read: then it says nothing of what is still to come. */
function isTelling (progress) {
  return progress !== undefined && progress.done > 0 && progress.done < progress.total
}

function recordWords (progress) {
  if (progress === undefined) return ''
  const { done, total } = progress
  const words = `${number(done)} of ${quantity(total, 'record', 'records')}`
  // Rounded down: it is not 100% before it is all.
  return isTelling(progress) ? `${words} (${Math.floor(100 * done / total)}%)` : `${words} so far`
}

function showBar (words, progress) {
  const bar = byId('bar')
  byId('progress').hidden = false
  bar.hidden = false
  setText(byId('bar-words'), words)
  if (isTelling(progress)) Object.assign(bar, { max: progress.total, value: progress.done })
  else bar.removeAttribute('value')
}

function replaceFacts (list, facts) {
  const known = facts.filter(Boolean)
  list.hidden = known.length === 0
  list.replaceChildren(...known.map(([label, value]) => element('div', {}, element('dt', {}, label), element('dd', {}, value))))
}
