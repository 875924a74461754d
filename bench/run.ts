import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { cpus, totalmem, type } from 'node:os'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { casesOf } from './cases.js'
import { prepareDatabase } from './database.js'
import { measure } from './measure.js'
import { type MeasuredCase, type Results, report } from './report.js'
import { compileServer } from './server-process.js'

// Runs the benchmark on the current version of Node.js, and prints which bounds are met. See docs/performance.md.
//
//   --quick            about a minute: smaller selections, fewer and shorter rounds
//   --against FOLDER   also measure an earlier version: a checkout of it with node_modules and dist
//   --only PATTERN     only the cases whose id matches
//   --cpu-prof         write CPU profiles of the servers to bench/results/

const { values: { quick, against, only, 'cpu-prof': isProfiled } } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    against: { type: 'string' },
    only: { type: 'string', default: '' },
    'cpu-prof': { type: 'boolean', default: false }
  }
})
const { rounds, seconds, scale } = quick ? { rounds: 3, seconds: 0.5, scale: 0.1 } : { rounds: 5, seconds: 1, scale: 1 }
const { MONGODB_URL: mongoUrl } = process.env

const cases = casesOf(scale).filter(({ id, work }) => new RegExp(only).test(id) && (mongoUrl || work.store !== 'mongodb'))
const fromDatabase = cases.find(({ work }) => work.store === 'mongodb')
await compileServer()
const database = fromDatabase && mongoUrl ? await prepareDatabase(mongoUrl, fromDatabase.work.users) : undefined
const measured: MeasuredCase[] = []
try {
  for (const subject of cases) {
    const sides = await measure(subject, {
      rounds,
      seconds,
      earlierPlugin: against && pathToFileURL(`${resolve(against)}/dist/`).href,
      mongoUrl,
      isProfiled,
      onRound: round => console.error(`${subject.id}: round ${round} of ${rounds}`)
    })
    measured.push({ id: subject.id, title: subject.title, measured: sides })
  }
} finally {
  await database?.stop()
}

const require = createRequire(import.meta.url)
const results: Results = {
  node: process.versions.node,
  quick,
  date: new Date().toISOString().slice(0, 10),
  rounds,
  environment: {
    machine: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()}`,
    Fastify: require('fastify/package.json').version,
    ...(database && { 'MongoDB driver': require('mongodb/package.json').version, 'database server': database.version }),
    ...(against && { 'earlier version': execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: against, encoding: 'utf8' }).trim() })
  },
  cases: measured
}
const folder = new URL('./results/', import.meta.url)
const name = [`node-${results.node.split('.')[0]}`, ...(quick ? ['quick'] : []), ...(only ? ['part'] : [])].join('-')
await mkdir(folder, { recursive: true })
await writeFile(new URL(`${name}.json`, folder), JSON.stringify(results, null, 2))
console.log(report([results]))
