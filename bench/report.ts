import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { type Bound, type Case, type Figure, figures, sideTitles } from './cases.js'
import { boundsChart, growthChart } from './charts.js'
import { type Measured } from './measure.js'
import { type Side } from './server-process.js'

/** What a run of the benchmark has brought: its JSON. */
export interface Results {
  command: string
  date: string
  /** The machine and the versions of what ran on it, by name. */
  environment: Record<string, string>
  rounds: number
  cases: MeasuredCase[]
  verdicts: Verdict[]
}

/** A case, and what each side has reached in it. */
export interface MeasuredCase {
  case: Case
  measured: Measured[]
}

/** How a bound and what was measured compare. */
export interface Verdict {
  bound: Bound
  title: string
  ours: number
  /** What ours is held against, if that is a side or a case. */
  other?: number
  /** What the bound is on: a ratio, or the figure itself. */
  value: number
  isMet: boolean
}

const DOCS = new URL('../docs/', import.meta.url)

const RESULTS = new URL('./results/', import.meta.url)

const COLUMNS = {
  rate: ['requestsPerSecond', 'latencyP50', 'latencyP99', 'cpuSeconds', 'busy', 'peakMemory', 'longestDelay', 'delayP99', 'bytes'],
  once: ['firstByte', 'time', 'cpuSeconds', 'peakMemory', 'longestDelay', 'delayP99', 'bytes']
} as const satisfies Record<string, readonly Figure[]>

/** Holds the cases against the bounds; a bound on a case that was not measured is left out. */
export function judge (bounds: readonly Bound[], cases: readonly MeasuredCase[]): Verdict[] {
  return bounds.flatMap(bound => {
    const subject = cases.find(({ case: { id } }) => id === bound.case)
    const ours = valueOf(cases, bound.case, 'ours', bound.figure)
    const other = valueOf(cases, bound.over ?? bound.case, bound.against ?? 'ours', bound.figure)
    if (subject === undefined || ours === undefined || other === undefined) return []
    const isCompared = bound.against !== undefined || bound.over !== undefined
    const added = (ours - other) / (subject.case.callers - 1)
    const alone = bound.over === undefined ? ours : added
    const value = bound.against === undefined ? alone : ours / other
    return [{
      bound,
      title: `${figures[bound.figure].title}, ${titleOf(subject.case)}`,
      ours,
      ...(isCompared && { other }),
      value,
      isMet: value <= (bound.atMost ?? Infinity) && value >= (bound.atLeast ?? -Infinity)
    }]
  })
}

/** The tables, in Markdown that can be read as it is: the bounds, and every figure. */
export function tables ({ verdicts, cases }: Results): { bounds: string, figures: string } {
  const bounds = table(['figure', 'ours', 'against', 'ratio', 'bound', 'met'], verdicts.map(verdict => {
    const { bound: { figure, against, over, atLeast, atMost }, title, ours, other, value, isMet } = verdict
    const isRatio = against !== undefined
    const shown = (number: number) => isRatio ? round(number) : show(figure, number)
    const whom = isRatio ? sideTitles[against] : 'one caller'
    const each = over === undefined ? '' : `${shown(value)} a caller`
    return [
      title,
      show(figure, ours),
      other === undefined ? '' : `${show(figure, other)} (${whom})`,
      isRatio ? shown(value) : each,
      atLeast === undefined ? `≤ ${shown(atMost ?? NaN)}` : `≥ ${shown(atLeast)}`,
      isMet ? 'yes' : 'NO'
    ]
  }))
  const parts = Object.values(COLUMNS).map(columns => {
    const head = ['work', 'side', ...columns.map(figure => figures[figure].title)]
    const rows = cases.filter(({ case: { call } }) => COLUMNS[call === 'rate' ? 'rate' : 'once'] === columns)
    return rows.length === 0
      ? ''
      : table(head, rows.flatMap(({ case: subject, measured }) => measured.map(({ side, median }) =>
        [titleOf(subject), sideTitles[side], ...columns.map(figure => show(figure, median[figure]))])))
  })
  return { bounds, figures: parts.filter(part => part !== '').join('\n\n') }
}

/** Keeps the results as JSON, which git ignores. */
export async function saveResults (name: string, results: Results): Promise<void> {
  await mkdir(RESULTS, { recursive: true })
  await writeFile(new URL(`${name}.json`, RESULTS), JSON.stringify(results, null, 2))
}

/** Writes the section of `docs/performance.md` between the markers with its name, and its charts; adds it if there is none. */
export async function writeSection (name: string, results: Results): Promise<void> {
  const page = new URL('performance.md', DOCS)
  const [start, end] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`]
  const { bounds, figures } = tables(results)
  const section = [
    start,
    `Made by \`${results.command}\` on ${results.date}, each figure the median of ${results.rounds} rounds, the sides in turn.`,
    Object.entries(results.environment).map(([what, which]) => `- ${what}: ${which}`).join('\n'),
    bounds,
    `![How much of each bound is used](bench-${name}-bounds.svg)`,
    `![How each figure grows with the size of the selection](bench-${name}-growth.svg)`,
    `<details><summary>Every figure</summary>\n\n${figures}\n\n</details>`,
    end
  ].join('\n\n')

  await mkdir(DOCS, { recursive: true })
  const text = await readFile(page, 'utf8').catch(() => '# Performance\n')
  const [from, to] = [text.indexOf(start), text.indexOf(end)]
  await writeFile(page, from < 0 || to < from
    ? `${text}\n${section}\n`
    : text.slice(0, from) + section + text.slice(to + end.length))
  await writeFile(new URL(`bench-${name}-bounds.svg`, DOCS), await boundsChart(results.verdicts))
  await writeFile(new URL(`bench-${name}-growth.svg`, DOCS), await growthChart(results.cases))
}

function titleOf ({ work: { store, users, waiting }, call, callers, isKnown }: Case): string {
  const what = { 'made-up': 'made-up users', dump: 'users from a dump', mongodb: 'users from MongoDB' }[store]
  const selection = isKnown ? '304' : `${users.toLocaleString('en')} ${what}`
  return [
    waiting ? 'waiting' : selection,
    ...(callers > 1 ? [`${callers} callers`] : []),
    ...(call === 'crowd' ? ['one at a trickle'] : [])
  ].join(', ')
}

function valueOf (cases: readonly MeasuredCase[], id: string, side: Side, figure: Figure): number | undefined {
  const found = cases.find(({ case: subject }) => subject.id === id)
  return found?.measured.find(measured => measured.side === side)?.median[figure]
}

function show (figure: Figure, value: number | undefined): string {
  const { unit, scale } = figures[figure]
  return value === undefined ? '' : `${round(value * scale)} ${unit}`.trim()
}

function round (value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 })
}

function table (head: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const widths = head.map((title, column) => Math.max(...[title, ...rows.map(row => row[column] ?? '')].map(({ length }) => length)))
  const line = (cells: readonly string[]) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  return [line(head), line(widths.map(width => '-'.repeat(width))), ...rows.map(line)].join('\n')
}
