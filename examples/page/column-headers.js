import { element } from './elements.js'

/** The column headers of a table. A press of one sorts by its column: ascending, then descending, then in the order of the import. */
export class ColumnHeaders {
  #columns
  #cells
  #sorting = {}

  /**
   * @param row the row to append the headers to
   * @param {string[]} columns the titles
   * @param sort called with the new order, see `Records.sort`
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

  /** A text for the current order, to be appended to the table's caption. Empty for the order of the import. */
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
