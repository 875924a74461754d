import { readFile, writeFile } from 'node:fs/promises'
import { type Results, report } from './report.js'

// Writes the report of the given result files, one per version of Node.js, into docs/performance.md.

const PAGE = new URL('../docs/performance.md', import.meta.url)

const [START, END] = ['<!-- bench -->', '<!-- /bench -->']

const files = process.argv.slice(2)
if (files.length === 0) throw new Error('Pass one or more result files, such as bench/results/node-24.json')
const runs: Results[] = []
for (const file of files) runs.push(JSON.parse(await readFile(file, 'utf8')))

const page = await readFile(PAGE, 'utf8')
const [from, to] = [page.indexOf(START), page.indexOf(END)]
if (from < 0 || to < from) throw new Error(`docs/performance.md has no ${START} followed by ${END}`)
await writeFile(PAGE, `${page.slice(0, from)}${START}\n\n${report(runs)}\n\n${page.slice(to)}`)
