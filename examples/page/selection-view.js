import { number } from './amounts.js'
import { byId, element, setText } from './elements.js'
import { kinds } from './kinds.js'
import { PagedTable } from './paged-table.js'
import { searchText } from './records.js'
import { Tabs } from './tabs.js'

/** Milliseconds that the filter waits for more input. */
const DEBOUNCE = 120

/** Shows a selection: a tab with a table for each kind of records, and a filter for all tables. */
export class SelectionView {
  #tables = kinds.map(kind => {
    byId('tabs').append(tab(kind))
    return { kind, table: new PagedTable(kind, byId('tables'), () => this.#showCounts()) }
  })

  #tabs = new Tabs(byId('tabs'))
  #words = []
  #timer
  #shown

  constructor () {
    byId('filter').addEventListener('input', () => {
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => this.#filter(), DEBOUNCE)
    })
    for (const [event, isPrinting] of [['beforeprint', true], ['afterprint', false]]) {
      window.addEventListener(event, () => this.#tables.forEach(({ table }) => table.print(isPrinting)))
    }
  }

  /** @param selection a reply of the server. The filter is kept */
  show (selection) {
    if (selection === this.#shown) return
    this.#shown = selection
    for (const { kind, table } of this.#tables) table.setItems(selection[kind.key] ?? [])
    setText(byId('message-count'), number(selection.message_count))
    this.#filter()
    byId('selection').hidden = false
  }

  /** Removes the selection from the page. */
  clear () {
    clearTimeout(this.#timer)
    this.#shown = undefined
    this.#words = []
    byId('selection').hidden = true
    byId('filter').value = ''
    setText(byId('message-count'), '')
    for (const { table } of this.#tables) table.clear()
    this.#tabs.chooseFirst()
    this.#showCounts()
  }

  #filter () {
    this.#words = searchText(byId('filter').value).split(/\s+/).filter(Boolean)
    for (const { table } of this.#tables) table.filter(this.#words)
    // The filter is sticky, so the first matches may be above the visible part of the page.
    if (byId('tables').getBoundingClientRect().top < 0) byId('tabs').scrollIntoView()
    this.#showCounts()
  }

  #showCounts () {
    for (const { kind, table } of this.#tables) {
      const { matches, total } = table.counts
      setText(byId(`${kind.key}-tab`).querySelector('strong'), number(matches))
      setText(byId(`${kind.key}-tab`).querySelector('.of'), matches === total ? '' : ` of ${number(total)}`)
    }
    const found = this.#tables.map(({ kind, table: { counts: { matches } } }) => `${number(matches)} ${matches === 1 ? kind.one : kind.many}`)
    setText(byId('matches'), this.#words.length > 0 ? `Found: ${found.join(', ')}` : '')
  }
}

function tab ({ key, title }) {
  const made = element('button', { type: 'button', id: `${key}-tab`, className: 'figure' },
    element('span', {}, element('strong'), element('span', { className: 'of' })), ' ', element('span', { className: 'title' }, title))
  made.setAttribute('role', 'tab')
  made.setAttribute('aria-controls', key)
  return made
}
