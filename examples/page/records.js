import { linesOf, sortText } from './kinds.js'

// Without `numeric`, which takes twice as long.
const collator = new Intl.Collator('en')

/**
 * The records of one kind, sorted and filtered. There may be a million of them, so only their positions are sorted and filtered.
 */
export class Records {
  #kind
  #items = []
  /** The text of each item that the filter searches. Made for the first filter. */
  #searchTexts
  /** The sorted positions of the items. */
  #order = new Uint32Array()
  /** The sorted positions of the items that match the filter. */
  #matches = this.#order
  #filter = { words: [], marks: [] }
  #sorting = {}

  /** @param kind one of `kinds` */
  constructor (kind) {
    this.#kind = kind
  }

  /** The number of all items. */
  get total () {
    return this.#items.length
  }

  /** The number of items that match the filter. */
  get matchCount () {
    return this.#matches.length
  }

  /** Replaces the items, and keeps the filter and the order. */
  setItems (items) {
    this.#items = items
    this.#searchTexts = undefined
    this.sort(this.#sorting)
  }

  /** A range of the items that match the filter. */
  slice (start, end) {
    return Array.from(this.#matches.subarray(start, end), position => this.#items[position])
  }

  /** The number of items with each mark. @returns {Map<string, number>} */
  countMarks () {
    const counts = new Map()
    for (const item of this.#items) {
      for (const mark of this.#kind.marks(item)) counts.set(mark, (counts.get(mark) ?? 0) + 1)
    }
    return counts
  }

  /** Keeps the items that contain all the words (see `searchText`) and have all the marks. */
  filter ({ words = this.#filter.words, marks = this.#filter.marks }) {
    this.#filter = { words, marks }
    this.#matches = words.length + marks.length === 0 ? this.#order : this.#order.filter(position => this.#isMatch(position))
  }

  /** Sorts by a column, or by the order of the import if `column` is undefined. */
  sort ({ column, descending = false }) {
    this.#sorting = { column, descending }
    this.#order = Uint32Array.from(this.#items.keys())
    if (column !== undefined) {
      const texts = this.#items.map(sortText(this.#kind, column))
      this.#order.sort((one, other) => compare(texts[one], texts[other]) * (descending ? -1 : 1) || one - other)
    }
    this.filter({})
  }

  #isMatch (position) {
    const { words, marks } = this.#filter
    const item = this.#items[position]
    if (marks.length > 0) {
      const itsMarks = this.#kind.marks(item)
      if (!marks.every(mark => itsMarks.includes(mark))) return false
    }
    if (words.length === 0) return true
    this.#searchTexts ??= this.#items.map(item => this.#searchTextOf(item))
    return words.every(word => this.#searchTexts[position].includes(word))
  }

  #searchTextOf (item) {
    const { id, name, marks } = this.#kind
    return searchText([id(item), name(item), ...linesOf(this.#kind, item), ...marks(item)].join('\n'))
  }
}

/** Normalizes a text for the filter: case and equivalent Unicode characters make no difference. */
export function searchText (text) {
  return text.normalize('NFKC').toLowerCase()
}

// Empty texts come last.
function compare (one, other) {
  if (one === '' || other === '') return Number(one === '') - Number(other === '')
  return collator.compare(one, other)
}
