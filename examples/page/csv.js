import { element } from './elements.js'

/** Rows per part of the file: a single string of a million rows could exceed the maximum string length. */
const ROWS_A_PART = 10_000

/** Makes Excel read the file as UTF-8. */
const BYTE_ORDER_MARK = '\uFEFF'

/**
 * Where a spreadsheet may read a formula: at the beginning of a cell, and after a character that it may read as a cell separator, such
 * as the semicolon in locales with a decimal comma.
 */
const FORMULA = /(^|[;\t\r\n])(?=[\s"]*[=+\-@＝＋－＠\t\r\n])/g

/**
 * Writes records as a CSV file (RFC 4180). No cell is read as a formula, whatever the records contain.
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

/** Downloads a file. @param {Blob} file */
export function save (file, fileName) {
  const address = URL.createObjectURL(file)
  element('a', { href: address, download: fileName }).click()
  // Later, because the browser may not have started to read it yet.
  setTimeout(() => URL.revokeObjectURL(address), 60_000)
}

function line (cells) {
  return `${cells.map(cell).join(',')}\r\n`
}

// Spreadsheets read a cell with a leading apostrophe as text.
function cell (text) {
  return `"${text.replace(FORMULA, "$1'").replaceAll('"', '""')}"`
}
