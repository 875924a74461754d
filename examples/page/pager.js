import { number } from './amounts.js'
import { setText } from './elements.js'

/** The buttons and the page number input of a paginated table. */
export class Pager {
  #nav
  #input
  #page = 1
  #pages = 1
  #go

  /**
   * @param nav the element
   * @param go called with the number of the page to show, from 1
   */
  constructor (nav, go) {
    this.#nav = nav
    this.#go = go
    this.#input = nav.querySelector('input')
    this.#input.addEventListener('change', () => this.#enter())
    nav.addEventListener('click', ({ target }) => this.#press(target.dataset.go))
  }

  /** @param {string} range a text for the rows of the page */
  show (page, pages, range) {
    this.#page = page
    this.#pages = pages
    this.#nav.hidden = pages <= 1
    this.#input.value = page
    this.#input.max = pages
    setText(this.#nav.querySelector('.pages'), number(pages))
    setText(this.#nav.querySelector('.range'), range)
    for (const button of this.#nav.querySelectorAll('button')) {
      const isAtEnd = ['first', 'previous'].includes(button.dataset.go) ? page === 1 : page === pages
      // Not `disabled`, because the button would lose the focus.
      button.setAttribute('aria-disabled', String(isAtEnd))
    }
  }

  #press (where) {
    const wanted = { first: 1, previous: this.#page - 1, next: this.#page + 1, last: this.#pages }[where]
    if (wanted !== undefined) this.#turnTo(wanted)
  }

  #enter () {
    // NaN if the input is not a number.
    this.#turnTo(Math.round(this.#input.valueAsNumber) || this.#page)
  }

  #turnTo (wanted) {
    const page = Math.min(Math.max(wanted, 1), this.#pages)
    this.#input.value = page
    if (page !== this.#page) this.#go(page)
  }
}
