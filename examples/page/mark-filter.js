import { number } from './amounts.js'
import { element } from './elements.js'

/** The marks above a table, by which it is narrowed to the records that have them. */
export class MarkFilter {
  #group
  #chosen = []
  #changed

  /**
   * @param panel the element with the table; a press of a mark anywhere in it counts
   * @param changed called when other marks are chosen
   */
  constructor (panel, changed) {
    this.#group = panel.querySelector('.mark-filter')
    this.#changed = changed
    panel.addEventListener('click', ({ target }) => {
      const { mark } = target.closest('button')?.dataset ?? {}
      if (mark !== undefined) this.#toggle(mark)
    })
  }

  /** The marks that a record must have. */
  get chosen () {
    return this.#chosen
  }

  /** Shows other marks, each with how many records have it; those that are chosen remain so. @param {Map<string, number>} counts */
  show (counts) {
    this.#group.replaceChildren(...Array.from(counts, ([mark, count]) =>
      markButton(mark, {}, `${mark} `, element('span', {}, number(count)))))
    this.#choose(this.#chosen.filter(mark => counts.has(mark)))
  }

  clear () {
    this.#choose([])
  }

  #toggle (mark) {
    this.#choose(this.#chosen.includes(mark) ? this.#chosen.filter(other => other !== mark) : [...this.#chosen, mark])
    this.#changed()
    // The button in the row, if it was that one, is gone.
    this.#buttons.find(button => button.dataset.mark === mark).focus()
  }

  #choose (marks) {
    this.#chosen = marks
    for (const button of this.#buttons) button.setAttribute('aria-pressed', String(marks.includes(button.dataset.mark)))
  }

  get #buttons () {
    return [...this.#group.children]
  }
}

/** A mark as a button that filters by it. */
export function markButton (mark, properties, ...children) {
  const button = element('button', { type: 'button', className: `mark ${mark.replace(/\W/g, '')}`, ...properties }, ...children)
  button.dataset.mark = mark
  return button
}
