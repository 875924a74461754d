import { fork } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { callerLines, requestText } from './fixtures/build.js'

const CALLERS = 50

/** Selections: the number of users, and the minimum length of their names in characters. */
const SELECTIONS = [[200_000, 0], [10_000, 500]] as const

/**
 * The maximum memory of fifty large replies together, in MiB. They take about 50 on Node.js 20 and 22, and up to 160 on newer versions,
 * which let the heap grow further. If the memory per caller doubled, they would exceed this limit.
 */
const LIMIT = Number(process.versions.node.split('.')[0]) < 24 ? 95 : 220

/** The path of the route in the fixture's server, without a prefix. */
const start = 'GET /getImportFileData HTTP/1.1'

/** Makes a call and discards the body. Returns its length and its end. */
async function drain (port: number): Promise<{ length: number, end: string }> {
  const socket = connect(port, '127.0.0.1')
  socket.write(requestText([...callerLines, 'Connection: close'], { start }))
  let length = 0
  let end = ''
  for await (const chunk of socket) {
    length += chunk.length
    end = (end + chunk.toString('latin1').slice(-50)).slice(-50)
  }
  return { length, end }
}

for (const [users, nameLength] of SELECTIONS) {
  const name = `${CALLERS} callers of ${users} users each, with names of at least ${nameLength} characters, together take at most ${LIMIT} MiB of memory`
  t.test(name, { timeout: 300_000 }, async t => {
    const server = fork(fileURLToPath(new URL('fixtures/memory-server.ts', import.meta.url)), [String(users), String(nameLength)], {
      execArgv: ['--import', import.meta.resolve('tsx')],
      // Its coverage would refer to differently compiled files, and cannot be merged.
      env: { PATH: process.env.PATH, _TAPJS_PROCESSINFO_COVERAGE_: '0' }
    })
    t.teardown(() => server.kill())
    const [{ port }] = await once(server, 'message')
    const replies = await Promise.all(Array.from({ length: CALLERS }, () => drain(port)))
    for (const { length, end } of replies) {
      t.ok(length > users * (nameLength + 100))
      t.match(end, /"success":true\}\r\n0\r\n\r\n$/)
    }
    server.send('peak')
    const [{ peak }] = await once(server, 'message')
    t.comment(`${peak.toFixed(0)} MiB`)
    t.ok(peak < LIMIT, `${peak.toFixed(0)} MiB`)
  })
}
