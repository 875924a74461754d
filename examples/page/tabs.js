/**
 * Tabs as the ARIA Authoring Practices describe them: one of them can be reached by Tab, the arrow keys, Home and End go to the
 * others, and the panel (`aria-controls`) of the one that is chosen is shown.
 */
export class Tabs {
  #tabs

  /** @param list the element with the role `tablist`, with its tabs */
  constructor (list) {
    this.#tabs = [...list.querySelectorAll('[role=tab]')]
    list.addEventListener('click', ({ target }) => this.#choose(target.closest('[role=tab]')))
    list.addEventListener('keydown', event => this.#press(event))
    this.chooseFirst()
  }

  chooseFirst () {
    this.#choose(this.#tabs[0])
  }

  #press (event) {
    const place = this.#tabs.indexOf(event.target)
    const { length } = this.#tabs
    const wanted = { ArrowLeft: place - 1 + length, ArrowRight: place + 1, Home: 0, End: length - 1 }[event.key]
    if (wanted === undefined || event.ctrlKey || event.altKey || event.metaKey) return
    event.preventDefault()
    const tab = this.#tabs[wanted % length]
    this.#choose(tab)
    tab.focus()
  }

  #choose (chosen) {
    if (chosen === null) return
    for (const tab of this.#tabs) {
      const isChosen = tab === chosen
      tab.setAttribute('aria-selected', String(isChosen))
      tab.tabIndex = isChosen ? 0 : -1
      document.getElementById(tab.getAttribute('aria-controls')).hidden = !isChosen
    }
  }
}
