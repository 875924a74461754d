import { number, quantity } from './amounts.js'
import { ColumnHeaders } from './column-headers.js'
import { csvOf, save } from './csv.js'
import { announce, byId, setText } from './elements.js'
import { MarkFilter } from './mark-filter.js'
import { Pager } from './pager.js'
import { Records } from './records.js'
import { tableRow } from './table-row.js'

/** Rows per page. With 100,000 rows in the document the page would not respond for seconds. */
const PAGE_SIZE = 100

/** The longest table that is printed completely. Of a longer one only the current page is printed. */
const PRINTED_ROWS = 3000

/** A paginated table of one kind of records, in a tab panel. */
export class PagedTable {
  #kind
  #panel
  #records
  #pager
  #marks
  #headers
  #page = 1
  #isPrinting = false
  /** The words to filter by. */
  #words = []

  /**
   * @param kind one of `kinds`
   * @param parent the element to append it to
   * @param narrowed called when the chosen marks change
   */
  constructor (kind, parent, narrowed) {
    this.#kind = kind
    this.#records = new Records(kind)
    parent.append(byId('table-template').content.cloneNode(true))
    this.#panel = parent.lastElementChild
    this.#panel.id = kind.key
    this.#panel.setAttribute('aria-labelledby', `${kind.key}-tab`)
    setText(this.#find('.title'), kind.title)
    this.#find('.pager').setAttribute('aria-label', `Pages of ${kind.many}`)
    this.#find('.mark-filter').setAttribute('aria-label', `Show only ${kind.many} with the mark`)
    this.#pager = new Pager(this.#find('.pager'), page => this.#turnTo(page))
    this.#marks = new MarkFilter(this.#panel, () => {
      this.filter(this.#words)
      narrowed()
    })
    this.#headers = new ColumnHeaders(this.#find('thead tr'), kind.columns, sorting => this.#sort(sorting))
    this.#find('.export').addEventListener('click', () => this.#export())
  }

  /** The number of records that match the filter, and of all records. */
  get counts () {
    return { matches: this.#records.matchCount, total: this.#records.total }
  }

  /** Replaces the records, and keeps the order and the chosen marks. */
  setItems (items) {
    this.#records.setItems(items)
    this.#marks.show(this.#records.countMarks())
    this.filter(this.#words)
  }

  /** Removes the records, and resets the filter and the order. */
  clear () {
    this.#marks.clear()
    this.#headers.clear()
    this.#records.sort({})
    this.#words = []
    this.setItems([])
  }

  /** Shows the records that contain all the words. @param {string[]} words see `searchText` */
  filter (words) {
    this.#words = words
    this.#records.filter({ words, marks: this.#marks.chosen })
    this.#page = 1
    this.#render()
  }

  /** Before printing, puts all rows into the document if there are not too many. After it, removes them again. */
  print (isPrinting) {
    this.#isPrinting = isPrinting
    this.#render()
  }

  #sort (sorting) {
    this.#records.sort(sorting)
    this.#page = 1
    this.#render()
    announce(this.#find('caption').textContent)
  }

  #turnTo (page) {
    this.#page = page
    this.#render()
    this.#panel.scrollIntoView()
    announce(`${this.#kind.title} ${this.#range}`)
  }

  #export () {
    const { key, one, many } = this.#kind
    const { matchCount } = this.#records
    save(csvOf(this.#kind, this.#records.slice(0, matchCount)), `import-${key}.csv`)
    announce(`Exported ${quantity(matchCount, one, many)}`)
  }

  #render () {
    const { one, many } = this.#kind
    const { matchCount, total } = this.#records
    const filter = [...this.#words, ...this.#marks.chosen]
    const isFiltered = filter.length > 0
    setText(this.#find('.shown'), isFiltered ? `${number(matchCount)} of ${number(total)}` : number(total))
    setText(this.#find('caption'), `${isFiltered ? `The ${many} that match the filter` : `All ${many}`}${this.#headers.words}`)
    setText(this.#find('.none'), isFiltered ? `No ${one} matches the filter.` : `The import contains no ${many}.`)
    this.#find('.none').hidden = matchCount > 0
    for (const part of ['table', '.export', '.printed']) this.#find(part).hidden = matchCount === 0
    const { start, end } = this.#shown
    this.#find('tbody').replaceChildren(...this.#records.slice(start, end).map(item => tableRow(this.#kind, item)))
    this.#pager.show(this.#page, Math.max(Math.ceil(matchCount / PAGE_SIZE), 1), this.#range)
    setText(this.#find('.printed'), `${this.#range}${isFiltered ? `, filtered by: ${filter.join(', ')}` : ''}`)
  }

  get #shown () {
    const { matchCount } = this.#records
    if (this.#isPrinting && matchCount <= PRINTED_ROWS) return { start: 0, end: matchCount }
    const start = (this.#page - 1) * PAGE_SIZE
    return { start, end: Math.min(start + PAGE_SIZE, matchCount) }
  }

  get #range () {
    const { start, end } = this.#shown
    return `${number(start + 1)} to ${number(end)} of ${number(this.#records.matchCount)}`
  }

  #find (selector) {
    return this.#panel.querySelector(selector)
  }
}
