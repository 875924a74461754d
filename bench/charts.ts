import { View, parse } from 'vega'
import { type TopLevelSpec, compile } from 'vega-lite'
import { type Figure, figures, sideTitles } from './cases.js'
import { type MeasuredCase, type Verdict } from './report.js'

/** The figures that may grow with the size of the selection. */
const GROWING = ['time', 'firstByte', 'cpuSeconds', 'peakMemory', 'longestDelay'] as const satisfies readonly Figure[]

const CONFIG = { background: 'white', font: 'sans-serif' }

/** Grid lines at the powers of ten only. */
const AXIS = { values: Array.from({ length: 11 }, (_, index) => 10 ** (index - 3)) }

const STORES = { 'made-up': 'made up', dump: 'from a dump', mongodb: 'from MongoDB' }

/** A chart of how much of each bound is used, as SVG: what goes beyond the line has not met it. */
export function boundsChart (verdicts: readonly Verdict[]): Promise<string> {
  const rows = verdicts.map(({ bound: { against, atLeast, atMost, over }, title, value, isMet }) => ({
    title: against ? `${title} / ${sideTitles[against]}` : over ? `${title}, each` : title,
    used: atLeast === undefined ? value / (atMost ?? NaN) : atLeast / value,
    met: isMet ? 'met' : 'not met'
  }))
  const y = { field: 'title', type: 'nominal', sort: null, title: null, axis: { labelLimit: 0 } } as const
  return toSvg({
    config: CONFIG,
    data: { values: rows },
    width: 420,
    layer: [
      {
        mark: 'bar',
        encoding: {
          y,
          x: { field: 'used', type: 'quantitative', title: 'share of the bound that is used' },
          color: {
            field: 'met',
            type: 'nominal',
            title: null,
            scale: { domain: ['met', 'not met'], range: ['#4c78a8', '#e45756'] }
          }
        }
      },
      { mark: { type: 'text', align: 'left', dx: 3 }, encoding: { y, x: { field: 'used', type: 'quantitative' }, text: { field: 'used', format: '.2f' } } },
      { mark: { type: 'rule', strokeDash: [4, 4] }, encoding: { x: { datum: 1 } } }
    ]
  })
}

/** A chart of how each figure grows with the size of the selection, as SVG: logarithmic, so that what grows with it is a slope. */
export function growthChart (cases: readonly MeasuredCase[]): Promise<string> {
  const rows = cases.filter(({ case: { call } }) => call === 'once').flatMap(({ case: { work }, measured }) =>
    measured.map(({ side, median }) => ({
      store: STORES[work.store],
      side: sideTitles[side],
      users: work.users,
      ...Object.fromEntries(GROWING.map(figure => [figure, (median[figure] ?? 0) * figures[figure].scale || undefined]))
    })))
  return toSvg({
    config: CONFIG,
    data: { values: rows },
    vconcat: GROWING.map((figure, index) => ({
      title: { text: `${figures[figure].title} (${figures[figure].unit})`, anchor: 'start' },
      transform: [{ filter: `datum.${figure} > 0` }],
      facet: { column: { field: 'store', title: null, sort: Object.values(STORES), header: { labels: index === 0 } } },
      spec: {
        width: 220,
        height: 130,
        mark: { type: 'line', point: true },
        encoding: {
          x: { field: 'users', type: 'quantitative', scale: { type: 'log' }, axis: { ...AXIS, format: '~s' }, title: 'users' },
          y: { field: figure, type: 'quantitative', scale: { type: 'log' }, axis: { ...AXIS, format: ',~r' }, title: null },
          color: {
            field: 'side',
            type: 'nominal',
            title: null,
            sort: Object.values(sideTitles),
            legend: { orient: 'top', labelLimit: 0 }
          }
        }
      }
    }))
  })
}

function toSvg (spec: TopLevelSpec): Promise<string> {
  return new View(parse(compile(spec).spec), { renderer: 'none' }).toSVG()
}
