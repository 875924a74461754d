import { element } from './elements.js'
import { linesOf } from './kinds.js'
import { markButton } from './mark-filter.js'

/** Creates the table row of a record. */
export function tableRow (kind, item) {
  const { id, name, fields, marks } = kind
  const hasLines = Object.keys(fields).length > 0
  return element('tr', {},
    element('th', { scope: 'row' },
      name(item) ? element('bdi', {}, name(item)) : element('span', { className: 'nameless' }, 'no name'),
      // Text browsers and screen readers need the space.
      ' ', element('bdi', { className: 'id' }, id(item))),
    ...(hasLines ? [element('td', {}, ...linesOf(kind, item).map(line => element('div', {}, element('bdi', {}, ...breakable(line)))))] : []),
    element('td', {}, element('ul', { className: 'marks' }, ...marks(item).map(mark => element('li', {}, rowMark(mark)))))
  )
}

// Not in the tab order: the keyboard reaches the same marks above the table.
function rowMark (mark) {
  return markButton(mark, { tabIndex: -1, title: `Filter by “${mark}”` }, mark)
}

// On narrow screens an e-mail address is wrapped before its @.
function breakable (line) {
  return line.split(/(?=@)/).flatMap((part, index) => index === 0 ? [part] : [element('wbr'), part])
}
