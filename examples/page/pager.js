import { number } from './amounts.js'
import { setText } from './elements.js'

/** The buttons, and the box for a page number, by which one goes through the pages of a table. */
export class Pager {
  #nav
  #input
  #page = 1
  #pages = 1
  #go

  /**
   * @param nav the element
   * @param go called with the number of the page that is wanted; the first is 1
   */
  constructor (nav, go) {
    this.#nav = nav
    this.#go = go
    this.#input = nav.querySelector('input')
    this.#input.addEventListener('change', () => this.#enter())
    nav.addEventListener('click', ({ target }) => this.#press(target.dataset.go))
  }

  /** @param {string} range what the page shows, in words */
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
      // Not `disabled`, which would take the focus away from whoever has just pressed it.
      button.setAttribute('aria-disabled', String(isAtEnd))
    }
  }

  #press (where) {
    const wanted = { first: 1, previous: this.#page - 1, next: this.#page + 1, last: this.#pages }[where]
    if (wanted !== undefined) this.#turnTo(wanted)
  }

  #enter () {
    // Anything but a number is NaN.
    this.#turnTo(Math.round(this.#input.valueAsNumber) || this.#page)
  }

  #turnTo (wanted) {
    const page = Math.min(Math.max(wanted, 1), this.#pages)
    this.#input.value = page
    if (page !== this.#page) this.#go(page)
  }
}
