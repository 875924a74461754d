import { type Bound, type Figure, bounds, figures, sideTitles } from './cases.js'
import type { Measured } from './measure.js'
import type { Side } from './server-process.js'

/** The results of a run of the benchmark on one version of Node.js, as written to JSON. */
export interface Results {
  node: string
  /** Whether the run used `--quick`. */
  quick: boolean
  date: string
  rounds: number
  /** The machine and the versions of the software, by name. */
  environment: Record<string, string>
  cases: MeasuredCase[]
}

/** A case and the figures of its sides. */
export interface MeasuredCase {
  id: string
  title: string
  measured: Measured[]
}

const sides = Object.keys(sideTitles) as Side[]

const figureNames = Object.keys(figures) as Figure[]

/** Reports runs on one or more versions of Node.js as Markdown: their environments, the bounds, and all figures. */
export function report (runs: readonly Results[]): string {
  return [
    runs.map(describe).join('\n'),
    boundsTable(runs),
    `<details><summary>Every figure</summary>\n\n${figuresTable(runs)}\n\n</details>`
  ].join('\n\n')
}

function describe ({ node, quick, date, rounds, environment }: Results): string {
  const where = Object.entries(environment).map(([name, value]) => `${name} ${value}`).join('; ')
  return `- Node.js ${node}, ${date}, ${quick ? 'a quick run, ' : ''}medians of ${rounds} rounds; ${where}`
}

function boundsTable (runs: readonly Results[]): string {
  const measured = new Set(runs.flatMap(({ cases }) => cases.map(({ id }) => id)))
  const rows = bounds.filter(bound => measured.has(bound.case)).map(bound => {
    const { case: id, figure, against, atLeast, atMost } = bound
    const limit = `${round(atLeast ?? atMost ?? NaN)}${against === undefined ? ` ${figures[figure].unit}` : ''}`
    return [
      `${titleOf(runs, id)}: ${figures[figure].title}`,
      against === undefined ? '' : against.case === undefined ? sideTitles[against.side] : titleOf(runs, against.case),
      `${atLeast === undefined ? 'at most' : 'at least'} ${limit}`,
      ...runs.map(run => verdict(run, bound))
    ]
  })
  return table(['figure', 'against', 'bound', ...runs.map(columnTitle)], rows)
}

function verdict (run: Results, { case: id, figure, against, atLeast = -Infinity, atMost = Infinity }: Bound): string {
  const ours = valueOf(run, id, 'ours', figure)
  const other = against === undefined ? 1 : valueOf(run, against.case ?? id, against.side, figure)
  if (ours === undefined || other === undefined) return 'not measured'
  const value = ours / other
  return value >= atLeast && value <= atMost ? `${round(value)}, met` : `**${round(value)}, not met**`
}

function figuresTable (runs: readonly Results[]): string {
  const ids = new Set(runs.flatMap(({ cases }) => cases.map(({ id }) => id)))
  const rows = [...ids].flatMap(id => sides.flatMap(side => figureNames.flatMap(figure => {
    const values = runs.map(run => valueOf(run, id, side, figure))
    const { title, unit } = figures[figure]
    return values.every(value => value === undefined) ? [] : [[titleOf(runs, id), sideTitles[side], `${title} (${unit})`, ...values.map(round)]]
  })))
  return table(['case', 'side', 'figure', ...runs.map(columnTitle)], rows)
}

function columnTitle ({ node }: Results): string {
  return `Node ${node.split('.')[0]}`
}

function titleOf (runs: readonly Results[], id: string): string {
  return runs.flatMap(({ cases }) => cases).find(measured => measured.id === id)?.title ?? id
}

function valueOf ({ cases }: Results, id: string, side: Side, figure: Figure): number | undefined {
  return cases.find(measured => measured.id === id)?.measured.find(measured => measured.side === side)?.median[figure]
}

function round (value: number | undefined): string {
  return value === undefined ? '' : value.toLocaleString('en', { maximumSignificantDigits: 3 })
}

function table (head: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
