import { linesOf, sortText } from './kinds.js'

// Without options: with `numeric` it takes twice as long.
const collator = new Intl.Collator('en')

/**
 * The records of one kind, sorted and filtered. There may be a million of them, so that what is sorted and filtered are their
 * positions only.
 */
export class Records {
  #kind
  #items = []
  /** What the filter looks through, for each item; made when there is first a filter. */
  #searchTexts
  /** The positions of the items, sorted. */
  #order = new Uint32Array()
  /** Those of the items that match the filter. */
  #matches = this.#order
  #filter = { words: [], marks: [] }
  #sorting = {}

  /** @param kind one of `kinds` */
  constructor (kind) {
    this.#kind = kind
  }

  /** How many there are in all. */
  get total () {
    return this.#items.length
  }

  /** How many match the filter. */
  get matchCount () {
    return this.#matches.length
  }

  /** Replaces the items. The filter and the order stay in force. */
  setItems (items) {
    this.#items = items
    this.#searchTexts = undefined
    this.sort(this.#sorting)
  }

  /** The items that match, from one place to another. */
  slice (start, end) {
    return Array.from(this.#matches.subarray(start, end), position => this.#items[position])
  }

  /** How many items have each mark. @returns {Map<string, number>} */
  countMarks () {
    const counts = new Map()
    for (const item of this.#items) {
      for (const mark of this.#kind.marks(item)) counts.set(mark, (counts.get(mark) ?? 0) + 1)
    }
    return counts
  }

  /** Keeps the items that hold every one of the words (see `searchText`) and have every one of the marks. */
  filter ({ words = this.#filter.words, marks = this.#filter.marks }) {
    this.#filter = { words, marks }
    this.#matches = words.length + marks.length === 0 ? this.#order : this.#order.filter(position => this.#isMatch(position))
  }

  /** Sorts by a column; in the order of the import when it is undefined. */
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

/** A text as the filter compares it: without case, and in one form for characters that Unicode has several of. */
export function searchText (text) {
  return text.normalize('NFKC').toLowerCase()
}

// Without a text there is nothing to sort by: such an item comes after the others.
function compare (one, other) {
  if (one === '' || other === '') return Number(one === '') - Number(other === '')
  return collator.compare(one, other)
}
