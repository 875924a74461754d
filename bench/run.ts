import { createRequire } from 'node:module'
import { cpus, totalmem, type } from 'node:os'
import { parseArgs } from 'node:util'
import { boundsOf, casesOf } from './cases.js'
import { type Database, startDatabase } from './database.js'
import { measure } from './measure.js'
import { type MeasuredCase, type Results, judge, saveResults, tables, writeSection } from './report.js'
import { compileServer } from './server-process.js'

// The benchmark: measures the plugin and what it is held against, and says which bounds are met.
//
//   --quick          in under a minute: only what there is a bound on, with fewer users and rounds; writes no documentation
//   --users N        how many users the larger selection from MongoDB has
//   --only PATTERN   only cases whose id matches; writes no documentation unless a section is named
//   --section NAME   which section of docs/performance.md to write
//   --cpu-prof       lets the servers leave their profiles in bench/results/

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    users: { type: 'string' },
    only: { type: 'string', default: '' },
    section: { type: 'string' },
    'cpu-prof': { type: 'boolean', default: false }
  }
})
const { quick, only, section = quick || only !== '' ? undefined : 'all' } = options
const { rounds, seconds, ...sizes } = quick
  ? { rounds: 3, seconds: 0.5, largest: 200_000, crowd: 10_000, mongodb: Number(options.users ?? 500) }
  : { rounds: 5, seconds: 1, largest: 1_000_000, crowd: 200_000, mongodb: Number(options.users ?? 20_000) }

const bounds = boundsOf(sizes)
const bounded = new Set(bounds.flatMap(bound => [bound.case, bound.over]))
const wanted = casesOf(sizes).filter(({ id }) => new RegExp(only).test(id) && (!quick || bounded.has(id)))
const isMongo = wanted.map(({ work }) => work.store === 'mongodb')
const database = isMongo.includes(true) ? await startDatabase() : undefined
const cases = wanted.filter((_case, index) => database !== undefined || !isMongo[index])

await compileServer()
const measured: MeasuredCase[] = []
try {
  for (const [index, subject] of cases.entries()) {
    const progress = (state: string) => tell(`[${index + 1}/${cases.length}] ${subject.id}: ${state}`)
    progress('getting ready')
    if (subject.work.store === 'mongodb') await database?.provide(subject.work.users)
    const onRound = (round: number) => progress(`round ${round} of ${rounds}`)
    const sides = await measure(subject, { rounds, seconds, mongoUrl: database?.url, profiled: options['cpu-prof'], onRound })
    measured.push({ case: subject, measured: sides })
  }
} finally {
  tell('')
  await database?.stop()
}

const command = `npm run bench${process.argv.length > 2 ? ` -- ${process.argv.slice(2).join(' ')}` : ''}`
const results: Results = {
  command,
  date: new Date().toISOString().slice(0, 10),
  environment: environmentOf(database),
  rounds,
  cases: measured,
  verdicts: judge(bounds, measured)
}
const { bounds: boundsTable, figures: figuresTable } = tables(results)
console.log(`${figuresTable}\n\n${boundsTable}`)
await saveResults(section ?? (quick ? 'quick' : 'part'), results)
if (section !== undefined) await writeSection(section, results)

function environmentOf (database: Database | undefined): Record<string, string> {
  const require = createRequire(import.meta.url)
  const versionOf = (name: string): string => require(`${name}/package.json`).version
  return {
    machine: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()}`,
    'Node.js': process.versions.node,
    Fastify: versionOf('fastify'),
    ...(database && { 'MongoDB driver': versionOf('mongodb'), 'database server': database.version })
  }
}

function tell (progress: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${progress}`)
  else if (progress !== '') console.error(progress)
}
