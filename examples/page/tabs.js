/**
 * Tabs as in the ARIA Authoring Practices Guide: the Tab key moves the focus to the chosen tab; the arrow keys, Home and End choose
 * another. Only the panel (`aria-controls`) of the chosen tab is shown.
 */
export class Tabs {
  #tabs

  /** @param list the element with the role `tablist` */
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
