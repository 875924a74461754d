import { byId, element, setText } from './elements.js'
import { number } from './words.js'

/** How many rows are in the document at a time: with 100,000 it would answer to nothing for seconds. */
const PAGE_SIZE = 100

/** A table of one kind of records, a page of it at a time, in a section of its own. */
export class PagedTable {
  #kind
  #section
  #items = []
  /** What the filter looks through, for each item; made when there is first a filter. */
  #searchTexts
  #matches = []
  #start = 0

  /**
   * @param kind one of `kinds`
   * @param parent the element to put it into
   */
  constructor (kind, parent) {
    this.#kind = kind
    parent.append(byId('table-template').content.cloneNode(true))
    this.#section = parent.lastElementChild
    this.#section.id = kind.key
    this.#section.setAttribute('aria-labelledby', `${kind.key}-title`)
    this.#find('h2').id = `${kind.key}-title`
    this.#find('.title').textContent = kind.title
    this.#find('thead tr').append(...kind.columns.map(column => element('th', { scope: 'col' }, column)))
    this.#find('.pager').setAttribute('aria-label', `Pages of ${kind.many}`)
    this.#find('.pager').addEventListener('click', event => this.#go(event.target.dataset.go))
  }

  /** How many items match the filter. */
  get matchCount () {
    return this.#matches.length
  }

  /** Shows other items, all of them. */
  setItems (items) {
    this.#items = items
    this.#searchTexts = undefined
    this.filter([])
  }

  /** Shows the items that hold every one of the words. @param {string[]} words see `searchText` */
  filter (words) {
    if (words.length === 0) {
      this.#matches = this.#items
    } else {
      this.#searchTexts ??= this.#items.map(item => this.#searchTextOf(item))
      this.#matches = this.#items.filter((_, index) => words.every(word => this.#searchTexts[index].includes(word)))
    }
    this.#start = 0
    this.#render()
  }

  #go (where) {
    const last = Math.max(Math.ceil(this.#matches.length / PAGE_SIZE) - 1, 0) * PAGE_SIZE
    const starts = { first: 0, previous: this.#start - PAGE_SIZE, next: this.#start + PAGE_SIZE, last }
    const start = Math.min(Math.max(starts[where] ?? this.#start, 0), last)
    if (start === this.#start) return
    this.#start = start
    this.#render()
    this.#section.scrollIntoView()
    setText(byId('announcement'), `${this.#kind.title} ${this.#range}`)
  }

  #render () {
    const { one, many } = this.#kind
    const matches = this.#matches.length
    const isFiltered = this.#matches !== this.#items
    setText(this.#find('.shown'), isFiltered ? `${number(matches)} of ${number(this.#items.length)}` : number(matches))
    setText(this.#find('caption'), isFiltered ? `The ${many} that match the filter` : `All ${many}`)
    setText(this.#find('.none'), isFiltered ? `No ${one} matches the filter.` : `The import holds no ${many}.`)
    this.#find('.none').hidden = matches > 0
    this.#find('table').hidden = matches === 0
    this.#find('tbody').replaceChildren(...this.#matches.slice(this.#start, this.#start + PAGE_SIZE).map(item => this.#row(item)))

    this.#find('.pager').hidden = matches <= PAGE_SIZE
    setText(this.#find('.range'), this.#range)
    const isEnd = { first: this.#start === 0, last: this.#start + PAGE_SIZE >= matches }
    for (const button of this.#section.querySelectorAll('.pager button')) {
      const disabled = button.dataset.go === 'first' || button.dataset.go === 'previous' ? isEnd.first : isEnd.last
      // Not `disabled`, which would take the focus away from whoever has just pressed it.
      button.setAttribute('aria-disabled', String(disabled))
    }
  }

  #row (item) {
    const { id, name, details } = this.#kind
    return element('tr', {},
      element('th', { scope: 'row' },
        name(item) ? element('bdi', {}, name(item)) : element('span', { className: 'nameless' }, 'no name'),
        // In a text browser and for a screen reader, too, the two are to be apart.
        ' ', element('bdi', { className: 'id' }, id(item))),
      ...(details ? [element('td', {}, ...details(item).map(line => element('div', {}, element('bdi', {}, ...breakable(line)))))] : []),
      element('td', {}, element('ul', { className: 'marks' },
        ...this.#marksOf(item).map(mark => element('li', { className: `mark ${mark.replace(/\W/g, '')}` }, mark))))
    )
  }

  get #range () {
    const end = Math.min(this.#start + PAGE_SIZE, this.#matches.length)
    return `${number(this.#start + 1)} to ${number(end)} of ${number(this.#matches.length)}`
  }

  #marksOf (item) {
    return this.#kind.marks(item).filter(Boolean)
  }

  #searchTextOf (item) {
    const { id, name, details } = this.#kind
    return searchText([id(item), name(item), ...(details?.(item) ?? []), ...this.#marksOf(item)].join('\n'))
  }

  #find (selector) {
    return this.#section.querySelector(selector)
  }
}

// Where there is little room an e-mail address is best broken before its @.
function breakable (line) {
  return line.split(/(?=@)/).flatMap((part, index) => index === 0 ? [part] : [element('wbr'), part])
}

/** A text as the filter compares it: small letters and capitals alike, and one form for letters that Unicode has two of. */
export function searchText (text) {
  return text.normalize('NFKC').toLowerCase()
}
