import { once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import { ObjectId } from 'bson'
import t from 'tap'
import type { ImportOperation, Prepare, PrepareContext } from '../lib/index.js'
import { NOTHING_STAGED, build, call, caller, captureLog, levels, matchEach, operation, storeOf } from './fixtures/build.js'
import { statuses, FILE_FORMAT_INVALID, preparing, loaded, ago, storeWith, replyTo, stopClock, headerOf, malformed, send } from './fixtures/progress.js'
import { deferred, listen } from './fixtures/streaming.js'

t.test('prepare is called once for many callers, and each gets a waiting reply immediately', async t => {
  const end = deferred()
  const of = loaded()
  const prepare = t.captureFn(() => end.promise)
  const app = await build(t, { store: storeWith(() => of), prepare })
  const replies = await Promise.all(Array.from({ length: 20 }, () => call(app)))
  for (const reply of replies) t.match(reply.body, '{"waiting":true,"step":"importer_file_loaded","updated_at":')
  for (let calls = 0; calls < 20; calls++) t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 1)
  end.resolve()
})

t.test('prepare gets the operation, the caller\'s credentials, a signal and the request\'s logger', async t => {
  const log = captureLog()
  const of = loaded({ importerKey: 'slack' })
  const calls: Array<[ImportOperation, PrepareContext]> = []
  const prepare: Prepare = async (...args) => { calls.push(args) }
  const server = { ...log.server, genReqId: () => 'request-of-the-first' }
  const app = await build(t, { store: storeWith(() => of), prepare }, server)
  await call(app)
  const [prepared, context] = calls[0] ?? []
  t.equal(prepared, of)
  t.strictSame(context?.credentials, { userId: caller['x-user-id'], authToken: caller['x-auth-token'] })
  t.equal(context?.signal.aborted, false)
  context?.log.warn('said by prepare')
  t.match(log.records().find(({ msg }) => msg === 'said by prepare'), { reqId: 'request-of-the-first' })
})

t.test('an unauthorized caller does not start a preparation', async t => {
  const prepare = t.captureFn(async () => {})
  const store = storeWith(() => loaded())
  t.equal((await call(await build(t, { store, prepare, lookupUser: () => null }))).statusCode, 401)
  t.equal((await call(await build(t, { store, prepare, hasPermission: () => false }))).statusCode, 403)
  t.equal(prepare.calls.length, 0)
})

t.test('the waiting reply during a preparation has Retry-After, ETag, 304 and stalled like any other', async t => {
  const clock = stopClock(t)
  const end = deferred()
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare: () => end.promise, stalledAfter: 60_000 })
  const first = await call(app)
  t.equal(first.headers['retry-after'], '1')
  const headers = { 'if-none-match': headerOf(first.headers, 'etag') }
  t.equal((await call(app, { headers })).statusCode, 304)
  clock.now += 60_000
  const stalled = await call(app, { headers })
  t.equal(stalled.json().stalled, true)
  t.equal(stalled.headers['retry-after'], '6')
  end.resolve()
})

t.test('after a preparation that changes the status, the reply is that of the new status', async t => {
  const end = deferred()
  let current = loaded()
  const prepare = t.captureFn(() => end.promise)
  const app = await build(t, { store: storeWith(() => current), prepare })
  t.equal((await call(app)).json().waiting, true)
  current = preparing({ updatedAt: ago(0) })
  t.equal((await call(app)).json().step, 'importer_preparing_messages')
  current = operation({ updatedAt: ago(0) })
  end.resolve()
  t.equal((await call(app)).body, NOTHING_STAGED)
  t.equal(prepare.calls.length, 1)
})

t.test('after a failed preparation the reply is error-import-file-format-invalid until the operation changes', async t => {
  const updatedAt = ago(5000)
  const changes: Array<Partial<ImportOperation>> = [{ updatedAt: ago(0) }, { status: 'importer_user_selection' }]
  for (const change of changes) {
    let current = loaded({ updatedAt })
    const prepare = t.captureFn(async () => { throw new Error('no such format') })
    const app = await build(t, { store: storeWith(() => current), prepare })
    t.equal((await call(app)).json().waiting, true)
    for (let calls = 0; calls < 3; calls++) {
      const reply = await call(app, { headers: { 'if-none-match': '*' } })
      t.equal(reply.statusCode, 400)
      t.equal(reply.body, FILE_FORMAT_INVALID)
      t.notOk('retry-after' in reply.headers || 'etag' in reply.headers)
    }
    t.equal(prepare.calls.length, 1)
    current = loaded({ updatedAt, ...change })
    const reply = await call(app)
    t.equal(reply.statusCode, 200)
    if (change.status) t.equal(reply.body, NOTHING_STAGED)
    else t.equal(reply.json().waiting, true)
    t.equal(prepare.calls.length, change.status ? 1 : 2, 'prepared again if the file still has to be read')
  }
})

t.test('without updatedAt, a failed preparation is reported until the operation has another status', async t => {
  const { updatedAt: _, ...without } = loaded()
  let current: ImportOperation = without
  const app = await build(t, { store: storeWith(() => current), prepare: async () => { throw new Error('no such format') } })
  t.equal((await call(app)).json().waiting, true)
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
  current = { ...without, status: 'importer_preparing_users' }
  t.equal((await call(app)).json().step, 'importer_preparing_users')
})

t.test('the cause of a failed preparation is in the log, and not in the reply', async t => {
  const log = captureLog()
  const prepare: Prepare = async () => { throw new Error('no such format: tar.xz') }
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare }, log.server)
  await call(app)
  t.notMatch((await call(app)).body, 'tar.xz')
  matchEach(t, log.problems(), [{ level: levels.error, operation: 'operation-1', err: { message: 'no such format: tar.xz' } }])
  t.notMatch(log.lines.join(), caller['x-auth-token'])
})

t.test('a preparation that throws synchronously fails like any other', async t => {
  const log = captureLog()
  const prepare = t.captureFn(() => { throw new Error('thrown synchronously') })
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare }, log.server)
  t.equal((await call(app)).json().waiting, true)
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
  t.equal(prepare.calls.length, 1)
  matchEach(t, log.problems(), [{ level: levels.error, err: { message: 'thrown synchronously' } }])
})

t.test('a preparation that rejects without a reason fails like any other', async t => {
  const prepare: Prepare = () => Promise.reject() // eslint-disable-line prefer-promise-reject-errors
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare })
  t.equal((await call(app)).json().waiting, true)
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
})

t.test('after a successful preparation that did not change the operation, replies are still waiting and the preparation is not repeated', async t => {
  let current = loaded({ updatedAt: ago(1000) })
  const prepare = t.captureFn(async () => {})
  const app = await build(t, { store: storeWith(() => current), prepare })
  for (let calls = 0; calls < 5; calls++) t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 1)
  current = loaded({ updatedAt: ago(0) })
  t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 2, 'prepared again when it has changed and still has to be read')
})

t.test('a preparation that changes the operation but not its status is repeated only once', async t => {
  for (const fails of [false, true]) {
    const clock = stopClock(t)
    let current = loaded({ updatedAt: ago(1000) })
    const prepare = t.captureFn(async () => {
      current = loaded({ updatedAt: new Date(++clock.now) })
      if (fails) throw new Error('no such format')
    })
    const app = await build(t, { store: storeWith(() => current), prepare })
    for (let calls = 0; calls < 6; calls++) await call(app)
    t.equal(prepare.calls.length, 2)
    t.equal((await call(app)).statusCode, fails ? 400 : 200)
  }
})

t.test('a file that is uploaded during the preparation of another does not inherit its failure, and is prepared', async t => {
  for (const upload of [{ updatedAt: ago(0) }, { file: 'another.zip', updatedAt: undefined }]) {
    for (const fails of [true, false]) {
      const { updatedAt } = upload
      let current = loaded({ ...(updatedAt ? { updatedAt: ago(5000) } : {}) })
      if (!updatedAt) delete current.updatedAt
      const ends: Array<ReturnType<typeof deferred<void>>> = []
      const prepare = t.captureFn((_operation: ImportOperation) => { ends.push(deferred()); return ends.at(-1)!.promise })
      const app = await build(t, { store: storeWith(() => current), prepare })
      await call(app)
      current = { ...current, ...(upload.file && { file: upload.file }), ...(updatedAt && { updatedAt }) }
      t.equal((await call(app)).json().waiting, true)
      if (fails) ends[0]?.reject(new Error('no such format'))
      else ends[0]?.resolve()
      await turn()
      t.equal((await call(app)).json().waiting, true)
      t.strictSame(prepare.calls.map(({ args: [{ file, updatedAt }] }) => [file, updatedAt]).at(-1), [current.file, current.updatedAt])
      t.equal(prepare.calls.length, 2)
      ends[1]?.reject(new Error('no such format'))
      await turn()
      t.equal((await call(app)).body, FILE_FORMAT_INVALID, 'the failure is that of the second file')
    }
  }
})

t.test('each of several files that are uploaded during the preparation of the previous one is prepared', async t => {
  const names = ['first.zip', 'second.zip', 'third.zip', 'fourth.zip']
  const start = Date.now() - 10_000
  let current = loaded()
  const ends: Array<ReturnType<typeof deferred<void>>> = []
  const prepare = t.captureFn((_operation: ImportOperation) => { ends.push(deferred()); return ends.at(-1)!.promise })
  const app = await build(t, { store: storeWith(() => current), prepare })
  for (const [index, file] of names.entries()) {
    current = loaded({ file, updatedAt: new Date(start + index * 1000) })
    t.equal((await call(app)).json().waiting, true)
    ends[index - 1]?.reject(new Error('no such format'))
    await turn()
    t.equal((await call(app)).json().waiting, true, `${file} does not inherit the failure of the previous one`)
  }
  t.strictSame(prepare.calls.map(({ args: [{ file }] }) => file), names)
  ends.at(-1)?.reject(new Error('no such format'))
  await turn()
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
})

for (const [what, status] of [['succeeds', 'importer_user_selection'], ['fails', 'importer_import_failed']] as const) {
  t.test(`each file that is uploaded to the same path of the same operation is prepared, if each preparation ${what}`, async t => {
    const clock = stopClock(t)
    let current = loaded()
    // In a store with a resolution of seconds, the time may be that of the upload.
    const prepare = t.captureFn(async () => { current = { ...current, status } })
    const app = await build(t, { store: storeWith(() => current), prepare })
    for (let upload = 1; upload <= 4; upload++) {
      clock.now += 1000
      current = loaded({ updatedAt: new Date(clock.now) })
      t.equal((await call(app)).json().waiting, true)
      t.equal((await call(app)).body, what === 'fails' ? FILE_FORMAT_INVALID : NOTHING_STAGED)
      t.equal(prepare.calls.length, upload)
    }
  })
}

for (const [what, members] of Object.entries({ 'is invalid': { valid: false }, 'has an unknown importer': { importerKey: 'unknown' } })) {
  t.test(`an upload after an operation that ${what} is prepared like any other`, async t => {
    const clock = stopClock(t)
    let current = loaded()
    const change = (next: (changes: Partial<ImportOperation>) => ImportOperation, changes = {}) => {
      clock.now += 1000
      current = next({ updatedAt: new Date(clock.now), ...changes })
    }
    const ends: Array<ReturnType<typeof deferred<void>>> = []
    const prepare = t.captureFn(() => { ends.push(deferred()); return ends.at(-1)!.promise })
    const app = await build(t, { store: storeWith(() => current), prepare })
    await call(app)
    ends[0]?.resolve()
    await turn()
    change(preparing, members)
    t.equal((await call(app)).statusCode, 400)
    change(loaded)
    t.equal((await call(app)).json().waiting, true)
    t.equal(prepare.calls.length, 2)
    clock.now += 1000
    ends[1]?.reject(new Error('no such format'))
    await turn()
    change(loaded)
    t.equal((await call(app)).json().waiting, true, 'this upload came after the failure')
    t.equal(prepare.calls.length, 3)
    ends[2]?.resolve()
  })
}

t.test('a loaded file of an unknown importer is not prepared', async t => {
  const prepare = t.captureFn(async () => {})
  const app = await build(t, { store: storeWith(() => loaded({ importerKey: 'unknown' })), prepare })
  for (let calls = 0; calls < 2; calls++) t.equal((await call(app)).json().errorType, 'error-importer-not-defined')
  t.equal(prepare.calls.length, 0)
})

t.test('a store that changes the operation that it has returned gets another preparation after a failed one', async t => {
  const current = loaded({ updatedAt: ago(5000) })
  const prepare = t.captureFn(async () => { throw new Error('no such format') })
  const app = await build(t, { store: storeWith(() => current), prepare })
  await call(app)
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
  Object.assign(current, { file: 'other.zip', updatedAt: ago(-1000) })
  t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 2)
})

t.test('an operation whose id is an object is prepared once, even if each read returns another object', async t => {
  const updatedAt = ago(0)
  const prepare = t.captureFn(async () => {})
  const app = await build(t, { store: storeWith(() => malformed(loaded({ updatedAt }), { id: new ObjectId('0a'.repeat(12)) })), prepare })
  for (let calls = 0; calls < 3; calls++) t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 1)
})

t.test('a preparation that changes the status and then fails is reported until the operation changes again', async t => {
  const clock = stopClock(t)
  const log = captureLog()
  let current = loaded({ updatedAt: ago(5000) })
  const prepare: Prepare = async () => {
    current = preparing({ updatedAt: ago(0) })
    throw new Error('no such format')
  }
  const app = await build(t, { store: storeWith(() => current), prepare }, log.server)
  await call(app)
  const last = current
  for (const updatedAt of [new Date(last.updatedAt!.getTime() - 1000), last.updatedAt!]) {
    current = { ...last, updatedAt }
    t.equal((await call(app)).body, FILE_FORMAT_INVALID, 'its last changes may be visible only after its end')
  }
  t.equal(log.problems().length, 1)
  clock.now += 1000
  current = preparing({ updatedAt: new Date(clock.now) })
  t.equal((await call(app)).json().waiting, true, 'it is being prepared by another process')
  current = operation({ updatedAt: new Date(clock.now) })
  t.equal((await call(app)).body, NOTHING_STAGED)
})

t.test('a successful preparation that does not change the operation counts as failed after stalledAfter, and is logged once', async t => {
  for (const changes of [{}, { updatedAt: undefined }]) {
    const clock = stopClock(t)
    const log = captureLog()
    const current = loaded({ updatedAt: ago(0) })
    if ('updatedAt' in changes) delete current.updatedAt
    const prepare = t.captureFn(async () => {})
    const app = await build(t, { store: storeWith(() => current), prepare, stalledAfter: 5000 }, log.server)
    await call(app)
    await turn()
    clock.now += 4999
    t.equal((await call(app)).json().waiting, true)
    clock.now += 1
    for (let calls = 0; calls < 3; calls++) t.equal((await call(app)).body, FILE_FORMAT_INVALID)
    matchEach(t, log.problems(), [{ level: levels.error, err: { code: 'FST_IMPORT_FILE_DATA_PREPARATION_WITHOUT_EFFECT' } }])
    t.equal(prepare.calls.length, 1)
  }
})

t.test('a stale read after a successful preparation does not make it count as failed', async t => {
  const clock = stopClock(t)
  const log = captureLog()
  const stale = loaded({ updatedAt: ago(0) })
  let current = stale
  const app = await build(t, { store: storeWith(() => current), prepare: async () => {}, stalledAfter: 5000 }, log.server)
  await call(app)
  await turn()
  clock.now += 1000
  const prepared = operation({ updatedAt: new Date(clock.now) })
  current = prepared
  t.equal((await call(app)).body, NOTHING_STAGED)
  clock.now += 5000
  current = stale
  t.equal((await call(app)).json().waiting, true)
  current = prepared
  t.equal((await call(app)).body, NOTHING_STAGED)
  t.strictSame(log.problems(), [])
})

t.test('after a preparation that changes the status and then fails, a stale read does not hide the failure', async t => {
  const clock = stopClock(t)
  const started = loaded({ updatedAt: ago(0) })
  const older = operation({ status: 'importer_uploading', updatedAt: ago(5000) })
  let current = started
  const app = await build(t, { store: storeWith(() => current), prepare: async () => { throw new Error('no such format') } })
  await call(app)
  await turn()
  current = older
  t.equal((await call(app)).body, NOTHING_STAGED)
  // The clock of the database is ahead, so this change seems to be later than the end of the preparation.
  current = preparing({ updatedAt: new Date(clock.now + 1000) })
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
})

t.test('reads that alternate between a stale and a current state do not start further preparations', async t => {
  const fresh: Array<[name: string, state: ImportOperation]> = [
    ['a later change', loaded({ updatedAt: ago(0) })],
    ['ready', operation({ updatedAt: ago(0) })],
    ['another operation', loaded({ id: 'operation-2', updatedAt: ago(0) })]
  ]
  for (const [name, state] of fresh) {
    for (const fails of [false, true]) {
      const stale = loaded({ updatedAt: ago(5000) })
      let calls = 0
      const prepare = t.captureFn(async (_operation: ImportOperation) => { if (fails) throw new Error('no such format') })
      const app = await build(t, { store: storeWith(() => calls++ % 2 === 0 ? stale : state), prepare })
      for (let polls = 0; polls < 20; polls++) await call(app)
      t.equal(prepare.calls.length, name === 'ready' ? 1 : 2, `${name}: once for the stale state and once for the current state`)
    }
  }
})

t.test('of many operations, the state of those whose preparation ended first is dropped', async t => {
  const updatedAt = ago(0)
  let current = loaded()
  const prepare = t.captureFn(async ({ id }: ImportOperation) => { if (id === 'operation-0') throw new Error('no such format') })
  const app = await build(t, { store: storeWith(() => current), prepare })
  for (let number = 0; number < 102; number++) {
    current = loaded({ id: `operation-${number}`, updatedAt })
    await call(app)
    await turn()
  }
  t.equal(prepare.calls.length, 102)
  current = loaded({ id: 'operation-101', updatedAt })
  await call(app)
  t.equal(prepare.calls.length, 102)
  current = loaded({ id: 'operation-0', updatedAt })
  t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 103)
})

t.test('a preparation that still runs is not repeated, however many others have ended', async t => {
  const end = deferred()
  let current = loaded({ id: 'long' })
  const prepare = t.captureFn(({ id }: ImportOperation) => id === 'long' ? end.promise : Promise.resolve())
  const app = await build(t, { store: storeWith(() => current), prepare })
  for (const id of ['long', ...Array.from({ length: 101 }, (_, number) => `operation-${number}`), 'long']) {
    current = loaded({ id })
    t.equal((await call(app)).json().waiting, true)
  }
  t.equal(prepare.calls.filter(({ args: [{ id }] }) => id === 'long').length, 1)
  end.resolve()
})

t.test('another operation is prepared during the preparation of the first', async t => {
  const ends = new Map<string, ReturnType<typeof deferred<void>>>()
  let current = loaded({ id: 'first' })
  const prepare = t.captureFn(({ id }: ImportOperation) => {
    const end = deferred()
    ends.set(id, end)
    return end.promise
  })
  const app = await build(t, { store: storeWith(() => current), prepare })
  await call(app)
  current = loaded({ id: 'second' })
  t.equal((await call(app)).json().waiting, true)
  t.strictSame([...ends.keys()], ['first', 'second'])
  ends.get('first')?.reject(new Error('no such format'))
  t.equal((await call(app)).json().waiting, true, 'the failure of the first is not the second\'s')
  ends.get('second')?.resolve()
  t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 2)
})

t.test('closing the server aborts the signals of all preparations, and waits until they have ended', async t => {
  const log = captureLog()
  const runs: Array<{ end: ReturnType<typeof deferred<void>>, signal: AbortSignal }> = []
  let current = loaded({ id: 'first' })
  const prepare: Prepare = (_, { signal }) => {
    const end = deferred()
    runs.push({ end, signal })
    return end.promise
  }
  const app = await build(t, { store: storeWith(() => current), prepare }, log.server)
  await call(app)
  current = loaded({ id: 'second' })
  await call(app)

  let isClosed = false
  const aborted = Promise.all(runs.map(({ signal }) => once(signal, 'abort')))
  const closing = app.close().then(() => { isClosed = true })
  await aborted
  runs[0]?.end.resolve()
  await turn()
  t.equal(isClosed, false, 'one is still running')
  runs[1]?.end.reject(new Error('aborted'))
  await closing
  t.strictSame(log.problems(), [], 'the abort is not logged as an error')
})

t.test('closing the server after the preparation has ended does not wait', async t => {
  const of = loaded()
  for (const prepare of [async () => {}, async () => { throw new Error('no such format') }]) {
    const app = await build(t, { store: storeWith(() => of), prepare })
    await call(app)
    await app.close()
  }
  t.pass()
})

/** A store that returns an operation to be prepared when `answer` is called. `asked` resolves when the store is called. */
function heldStore () {
  const asked = deferred()
  const answer = deferred()
  const store = storeOf({
    async latestOperation () {
      asked.resolve()
      await answer.promise
      return loaded()
    }
  })
  return { asked, answer, store }
}

t.test('a call in progress when the server closes does not start a preparation that outlives the server', async t => {
  const { asked, answer, store } = heldStore()
  const signals: AbortSignal[] = []
  let ended = 0
  const app = await build(t, {
    store,
    async prepare (_, { signal }) {
      signals.push(signal)
      if (!signal.aborted) await Promise.race([once(signal, 'abort'), turn().then(turn)])
      ended++
    }
  })
  const port = await listen(app)
  const reply = send(port).catch(() => undefined)
  await asked.promise
  const closing = app.close()
  await turn()
  answer.resolve()
  await Promise.all([reply, closing])
  t.equal(ended, signals.length, 'none is still running')
  t.ok(signals.every(({ aborted }) => aborted), 'all signals are aborted')
})

t.test('a call that continues after the server has closed does not start a preparation', async t => {
  const { asked, answer, store } = heldStore()
  const prepare = t.captureFn(async () => {})
  const app = await build(t, {
    store,
    prepare
  }, { forceCloseConnections: true })
  const port = await listen(app)
  const reply = send(port).catch(() => undefined)
  await asked.promise
  await app.close()
  t.equal(await reply, undefined, 'the connection was closed')
  answer.resolve()
  await turn()
  t.equal(prepare.calls.length, 0)
})

t.test('without prepare, an operation with a loaded file gets the selection of the staged records', async t => {
  const reply = await replyTo(t, loaded())
  t.equal(reply.body, NOTHING_STAGED)
  t.notOk('etag' in reply.headers || 'retry-after' in reply.headers)
})

t.test('an operation without a file gets the selection of the staged records, and prepare is not called', async t => {
  const prepare = t.captureFn(async () => {})
  for (const file of [null, '', undefined]) {
    const { file: _, ...of } = loaded()
    const reply = await replyTo(t, file === undefined ? of : { ...of, file }, { prepare })
    t.equal(reply.body, NOTHING_STAGED, String(file))
    t.notOk('etag' in reply.headers || 'retry-after' in reply.headers)
  }
  t.equal(prepare.calls.length, 0)
})

t.test('only the status importer_file_loaded is prepared, even if there is a file', async t => {
  const prepare = t.captureFn(async () => {})
  for (const status of statuses) {
    if (status !== 'importer_file_loaded') await replyTo(t, loaded({ status }), { prepare })
  }
  t.equal(prepare.calls.length, 0)
})
