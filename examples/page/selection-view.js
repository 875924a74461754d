import { byId, element, setText } from './elements.js'
import { kinds } from './kinds.js'
import { PagedTable, searchText } from './paged-table.js'
import { number } from './words.js'

/** How long, in milliseconds, the filter waits for the next key. */
const DEBOUNCE = 120

/** Shows a selection: how many there are of each kind, and a table for each, all filtered by one box. */
export class SelectionView {
  #tables = kinds.map(kind => ({ kind, table: new PagedTable(kind, byId('tables')) }))
  #timer
  #shown

  constructor () {
    byId('filter').addEventListener('input', () => {
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => this.#filter(), DEBOUNCE)
    })
  }

  /** @param selection a reply of the server; the filter that is in the box stays in force */
  show (selection) {
    if (selection === this.#shown) return
    this.#shown = selection
    for (const { kind, table } of this.#tables) table.setItems(selection[kind.key] ?? [])
    byId('totals').replaceChildren(
      ...kinds.map(({ key, title }) => element('li', {}, element('a', { href: `#${key}` }, ...figure(selection[key]?.length ?? 0, title)))),
      element('li', {}, element('div', {}, ...figure(selection.message_count, 'Messages')))
    )
    this.#filter()
    byId('selection').hidden = false
  }

  /** Takes everything of it out of the page. */
  clear () {
    clearTimeout(this.#timer)
    this.#shown = undefined
    byId('selection').hidden = true
    byId('filter').value = ''
    byId('totals').replaceChildren()
    setText(byId('matches'), '')
    for (const { table } of this.#tables) table.setItems([])
  }

  #filter () {
    const words = searchText(byId('filter').value).split(/\s+/).filter(Boolean)
    for (const { table } of this.#tables) table.filter(words)
    const found = this.#tables.map(({ kind, table }) => `${number(table.matchCount)} ${table.matchCount === 1 ? kind.one : kind.many}`)
    // The box sticks to the top, so one may type while the first matches are far above.
    if (byId('tables').getBoundingClientRect().top < 0) byId('tables').scrollIntoView()
    setText(byId('matches'), words.length > 0 ? `Found: ${found.join(', ')}` : '')
  }
}

function figure (value, label) {
  return [element('strong', {}, number(value)), ' ', element('span', {}, label)]
}
