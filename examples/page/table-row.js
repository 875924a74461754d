import { element } from './elements.js'
import { linesOf } from './kinds.js'
import { markButton } from './mark-filter.js'

/** A row of the table of a kind of records, for one of them. */
export function tableRow (kind, item) {
  const { id, name, fields, marks } = kind
  const hasLines = Object.keys(fields).length > 0
  return element('tr', {},
    element('th', { scope: 'row' },
      name(item) ? element('bdi', {}, name(item)) : element('span', { className: 'nameless' }, 'no name'),
      // A text browser and a screen reader need the space between the two.
      ' ', element('bdi', { className: 'id' }, id(item))),
    ...(hasLines ? [element('td', {}, ...linesOf(kind, item).map(line => element('div', {}, element('bdi', {}, ...breakable(line)))))] : []),
    element('td', {}, element('ul', { className: 'marks' }, ...marks(item).map(mark => element('li', {}, rowMark(mark)))))
  )
}

// The same marks are above the table, where the keyboard gets to them without going through every row.
function rowMark (mark) {
  return markButton(mark, { tabIndex: -1, title: `Filter by “${mark}”` }, mark)
}

// Where there is little room an e-mail address is best broken before its @.
function breakable (line) {
  return line.split(/(?=@)/).flatMap((part, index) => index === 0 ? [part] : [element('wbr'), part])
}
