import { element } from './elements.js'

/** How many rows are turned into text at a time: one text of a million rows would have no room. */
const ROWS_A_PART = 10_000

/** By this mark Excel knows that a file is UTF-8. */
const BYTE_ORDER_MARK = '\uFEFF'

/**
 * Where a spreadsheet may take text for a formula: at the beginning of a cell, and after what some take for the end of a cell, such
 * as the semicolon where the comma is the decimal sign.
 */
const FORMULA = /(^|[;\t\r\n])(?=[\s"]*[=+\-@＝＋－＠\t\r\n])/g

/**
 * A CSV file (RFC 4180) of records that spreadsheets read as text: none of its cells is a formula, whatever is in the records.
 *
 * @param kind one of `kinds`
 * @param {object[]} items the records, in order
 * @returns {Blob}
 */
export function csvOf (kind, items) {
  const { id, name, fields, marks } = kind
  const cells = item => [id(item), name(item), ...Object.values(fields).map(lines => lines(item).join(', ')), marks(item).join(', ')]
  const parts = [BYTE_ORDER_MARK, line(['Id', 'Name', ...Object.keys(fields), 'Marks'])]
  for (let start = 0; start < items.length; start += ROWS_A_PART) {
    parts.push(items.slice(start, start + ROWS_A_PART).map(item => line(cells(item))).join(''))
  }
  return new Blob(parts, { type: 'text/csv;charset=utf-8' })
}

/** Has the browser save a file. @param {Blob} file */
export function save (file, fileName) {
  const address = URL.createObjectURL(file)
  element('a', { href: address, download: fileName }).click()
  // Not at once: the browser may not have begun to read it.
  setTimeout(() => URL.revokeObjectURL(address), 60_000)
}

function line (cells) {
  return `${cells.map(cell).join(',')}\r\n`
}

// A leading apostrophe is what spreadsheets know text by.
function cell (text) {
  return `"${text.replace(FORMULA, "$1'").replaceAll('"', '""')}"`
}
