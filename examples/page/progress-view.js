import { megabytes, number, quantity, span } from './amounts.js'
import { announce, byId, element, setText } from './elements.js'

/** The labels of the counts of a waiting reply, in display order. For the total see `recordWords`. */
const COUNTS = {
  users: 'Users',
  channels: 'Channels',
  contacts: 'Contacts',
  messages: 'Messages',
  completed: 'Imported',
  error: 'Failed'
}

/** The minimum time between two announcements of the counts, in milliseconds, so that a screen reader does not talk all the time. */
const ANNOUNCED_EVERY = 20_000

/** Shows the progress of the import, and of the download of a long reply. */
export class ProgressView {
  /** How far this clock is ahead of the server's, in milliseconds. */
  #clockSkew = 0
  #updatedAt
  #recordWords = ''
  #announcedAt = 0

  /** Shows that the first reply is awaited. */
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

  /** Updates the time since the last change. */
  tick () {
    const time = byId('changed')
    if (time === null) return
    const seconds = Math.max((Date.now() - this.#clockSkew - Date.parse(this.#updatedAt)) / 1000, 0)
    const date = new Date(this.#updatedAt).toLocaleString('en', { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' })
    setText(time, `${span(seconds)} ago (${date})`)
  }

  /** Hides the bar, because there is no progress, and keeps the rest. */
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

/** The number of records read and in total, if the counts have them. */
function progressOf ({ total, completed, users = 0, channels = 0, contacts = 0, messages = 0 }) {
  return total > 0 ? { done: completed > 0 ? completed : users + channels + contacts + messages, total } : undefined
}

/** Whether the total is more than what has been read. Rocket.Chat's importers may raise the total as they read, so it means nothing then. */
function hasFinalTotal (progress) {
  return progress !== undefined && progress.done > 0 && progress.done < progress.total
}

function recordWords (progress) {
  if (progress === undefined) return ''
  const { done, total } = progress
  const words = `${number(done)} of ${quantity(total, 'record', 'records')}`
  // Rounded down, so that it is not 100% before the end.
  return hasFinalTotal(progress) ? `${words} (${Math.floor(100 * done / total)}%)` : `${words} so far`
}

function showBar (words, progress) {
  const bar = byId('bar')
  byId('progress').hidden = false
  bar.hidden = false
  setText(byId('bar-words'), words)
  if (hasFinalTotal(progress)) Object.assign(bar, { max: progress.total, value: progress.done })
  else bar.removeAttribute('value')
}

function replaceFacts (list, facts) {
  const known = facts.filter(Boolean)
  list.hidden = known.length === 0
  list.replaceChildren(...known.map(([label, value]) => element('div', {}, element('dt', {}, label), element('dd', {}, value))))
}
