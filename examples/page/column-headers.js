import { element } from './elements.js'

/** The headers of a table's columns, each a button that sorts by its column: up, then down, then in the order of the import again. */
export class ColumnHeaders {
  #columns
  #cells
  #sorting = {}

  /**
   * @param row the row to put them into
   * @param {string[]} columns their titles
   * @param sort called with the order that is wanted, as `Records` takes it
   */
  constructor (row, columns, sort) {
    this.#columns = columns
    this.#cells = columns.map((title, column) => {
      const button = element('button', { type: 'button', className: 'sort' }, title)
      button.addEventListener('click', () => {
        this.#show(this.#after(column))
        sort(this.#sorting)
      })
      return element('th', { scope: 'col' }, button)
    })
    row.append(...this.#cells)
  }

  /** The order in words, as they follow on what is sorted; empty for that of the import. */
  get words () {
    const { column, descending } = this.#sorting
    return column === undefined ? '' : `, sorted by ${this.#columns[column]}, ${descending ? 'descending' : 'ascending'}`
  }

  clear () {
    this.#show({})
  }

  #after (column) {
    if (this.#sorting.column !== column) return { column, descending: false }
    return this.#sorting.descending ? {} : { column, descending: true }
  }

  #show (sorting) {
    this.#sorting = sorting
    for (const [column, cell] of this.#cells.entries()) {
      if (column === sorting.column) cell.setAttribute('aria-sort', sorting.descending ? 'descending' : 'ascending')
      else cell.removeAttribute('aria-sort')
    }
  }
}
