import { number } from './amounts.js'
import { element } from './elements.js'

/** The mark buttons above a table. They filter it by mark. */
export class MarkFilter {
  #group
  #chosen = []
  #changed

  /**
   * @param panel the element with the table. A press of a mark anywhere in it sets the filter
   * @param changed called when the chosen marks change
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

  /** Replaces the marks, and keeps the chosen ones. @param {Map<string, number>} counts the number of records with each mark */
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
    // If the button was in a row, the row has been removed.
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

/** Creates a button that filters by a mark. */
export function markButton (mark, properties, ...children) {
  const button = element('button', { type: 'button', className: `mark ${mark.replace(/\W/g, '')}`, ...properties }, ...children)
  button.dataset.mark = mark
  return button
}
