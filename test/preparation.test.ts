import { once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { type ImportOperation, type Prepare, type PrepareContext } from '../lib/index.js'
import { NOTHING_STAGED, build, call, caller, operation, storeOf } from './fixtures/build.js'
import { statuses, FILE_FORMAT_INVALID, preparing, loaded, ago, storeWith, replyTo, stopClock, logInto, headerOf, send } from './fixtures/progress.js'
import { deferred, listen } from './fixtures/streaming.js'

t.test('prepare is called once, however many callers come, and every one of them is told to wait at once', async t => {
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

t.test('prepare is told the operation, the caller\'s credentials, a signal and the request\'s logger', async t => {
  const lines: Array<Record<string, unknown>> = []
  const of = loaded({ importerKey: 'slack' })
  const told: Array<[ImportOperation, PrepareContext]> = []
  const prepare: Prepare = async (...args) => { told.push(args) }
  const server = { ...logInto(lines), genReqId: () => 'request-of-the-first' }
  const app = await build(t, { store: storeWith(() => of), prepare }, server)
  await call(app)
  const [prepared, context] = told[0] ?? []
  t.equal(prepared, of)
  t.strictSame(context?.credentials, { userId: caller['x-user-id'], authToken: caller['x-auth-token'] })
  t.equal(context?.signal.aborted, false)
  context?.log.warn('said by prepare')
  t.match(lines.find(line => line['msg'] === 'said by prepare'), { reqId: 'request-of-the-first' })
})

t.test('who is not let in starts no preparation', async t => {
  const prepare = t.captureFn(async () => {})
  const store = storeWith(() => loaded())
  t.equal((await call(await build(t, { store, prepare, lookupUser: () => null }))).statusCode, 401)
  t.equal((await call(await build(t, { store, prepare, hasPermission: () => false }))).statusCode, 403)
  t.equal(prepare.calls.length, 0)
})

t.test('an operation that is being prepared has Retry-After, ETag, 304 and stalled as any that waits', async t => {
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

t.test('a preparation that ends with another status of the operation gives that status\'s reply', async t => {
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

t.test('a preparation that has failed is error-import-file-format-invalid until the operation changes', async t => {
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
    t.equal(prepare.calls.length, change.status ? 1 : 2, 'prepared anew where it is still to be read')
  }
})

t.test('the log says why a preparation failed, and the reply does not', async t => {
  const lines: Array<Record<string, unknown>> = []
  const prepare: Prepare = async () => { throw new Error('no such format: tar.xz') }
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare }, logInto(lines))
  await call(app)
  t.notMatch((await call(app)).body, 'tar.xz')
  const errors = lines.filter(line => Number(line['level']) >= 50)
  t.match(errors, [{ level: 50, operation: 'operation-1', err: { message: 'no such format: tar.xz' } }])
  t.equal(errors.length, 1)
  t.notMatch(JSON.stringify(lines), caller['x-auth-token'])
})

t.test('a preparation that throws at once fails as any other', async t => {
  const lines: Array<Record<string, unknown>> = []
  const prepare = t.captureFn(() => { throw new Error('thrown at once') })
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare }, logInto(lines))
  t.equal((await call(app)).json().waiting, true)
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
  t.equal(prepare.calls.length, 1)
  t.match(lines.filter(line => Number(line['level']) >= 50), [{ err: { message: 'thrown at once' } }])
})

t.test('a preparation that rejects with nothing fails as any other', async t => {
  const prepare: Prepare = () => Promise.reject() // eslint-disable-line prefer-promise-reject-errors
  const of = loaded()
  const app = await build(t, { store: storeWith(() => of), prepare })
  t.equal((await call(app)).json().waiting, true)
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
})

t.test('a preparation that is done, of an operation that has not changed, goes on waiting and is not repeated', async t => {
  let current = loaded({ updatedAt: ago(1000) })
  const prepare = t.captureFn(async () => {})
  const app = await build(t, { store: storeWith(() => current), prepare })
  for (let calls = 0; calls < 5; calls++) t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 1)
  current = loaded({ updatedAt: ago(0) })
  t.equal((await call(app)).json().waiting, true)
  t.equal(prepare.calls.length, 2, 'prepared anew when it has changed, and is still to be read')
})

t.test('a preparation that changes the operation and leaves it loaded is repeated once, and no more', async t => {
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

t.test('a file that is uploaded while an earlier one is prepared does not inherit its failure, and is prepared itself', async t => {
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
      t.equal((await call(app)).body, FILE_FORMAT_INVALID, 'its own failure is its own')
    }
  }
})

t.test('each of several files that are uploaded during the preparation of the one before is prepared itself', async t => {
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
    t.equal((await call(app)).json().waiting, true, `${file} does not inherit the failure of the one before`)
  }
  t.strictSame(prepare.calls.map(({ args: [{ file }] }) => file), names)
  ends.at(-1)?.reject(new Error('no such format'))
  await turn()
  t.equal((await call(app)).body, FILE_FORMAT_INVALID)
})

t.test('a preparation that moves the status on and then fails is reported, until the operation changes again', async t => {
  const clock = stopClock(t)
  const log: Array<Record<string, unknown>> = []
  let current = loaded({ updatedAt: ago(5000) })
  const prepare: Prepare = async () => {
    current = preparing({ updatedAt: ago(0) })
    throw new Error('no such format')
  }
  const app = await build(t, { store: storeWith(() => current), prepare }, logInto(log))
  await call(app)
  const last = current
  for (const updatedAt of [new Date(last.updatedAt!.getTime() - 1000), last.updatedAt!]) {
    current = { ...last, updatedAt }
    t.equal((await call(app)).body, FILE_FORMAT_INVALID, 'its last changes may be read after its end')
  }
  t.equal(log.filter(({ level }) => Number(level) >= 50).length, 1)
  clock.now += 1000
  current = preparing({ updatedAt: new Date(clock.now) })
  t.equal((await call(app)).json().waiting, true, 'somebody else prepares it')
  current = operation({ updatedAt: new Date(clock.now) })
  t.equal((await call(app)).body, NOTHING_STAGED)
})

t.test('a preparation that ends well and leaves the operation as it was is a failure after stalledAfter, and logged once', async t => {
  for (const changes of [{}, { updatedAt: undefined }]) {
    const clock = stopClock(t)
    const log: Array<Record<string, unknown>> = []
    const current = loaded({ updatedAt: ago(0) })
    if ('updatedAt' in changes) delete current.updatedAt
    const prepare = t.captureFn(async () => {})
    const app = await build(t, { store: storeWith(() => current), prepare, stalledAfter: 5000 }, logInto(log))
    await call(app)
    await turn()
    clock.now += 4999
    t.equal((await call(app)).json().waiting, true)
    clock.now += 1
    for (let calls = 0; calls < 3; calls++) t.equal((await call(app)).body, FILE_FORMAT_INVALID)
    t.match(log.filter(({ level }) => Number(level) >= 50), [{ err: { code: 'FST_IMPORT_FILE_DATA_PREPARATION_WITHOUT_EFFECT' } }])
    t.equal(prepare.calls.length, 1)
  }
})

t.test('reads that alternate between a stale and a fresh state start no further preparation', async t => {
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
      t.equal(prepare.calls.length, name === 'ready' ? 1 : 2, `${name}: the stale state and the fresh one, each once`)
    }
  }
})

t.test('of many operations, those whose preparation ended first are forgotten', async t => {
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

t.test('another operation is prepared while the first still is', async t => {
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

t.test('closing the server aborts the signal of every preparation, and waits for all of them to end', async t => {
  const lines: Array<Record<string, unknown>> = []
  const runs: Array<{ end: ReturnType<typeof deferred<void>>, signal: AbortSignal }> = []
  let current = loaded({ id: 'first' })
  const prepare: Prepare = (_, { signal }) => {
    const end = deferred()
    runs.push({ end, signal })
    return end.promise
  }
  const app = await build(t, { store: storeWith(() => current), prepare }, logInto(lines))
  await call(app)
  current = loaded({ id: 'second' })
  await call(app)

  let isClosed = false
  const aborted = Promise.all(runs.map(({ signal }) => once(signal, 'abort')))
  const closing = app.close().then(() => { isClosed = true })
  await aborted
  runs[0]?.end.resolve()
  await turn()
  t.equal(isClosed, false, 'one still runs')
  runs[1]?.end.reject(new Error('aborted'))
  await closing
  t.strictSame(lines.filter(line => Number(line['level']) >= 50), [], 'that it ended so is no fault')
})

t.test('closing the server after the preparation has ended waits for nothing', async t => {
  const of = loaded()
  for (const prepare of [async () => {}, async () => { throw new Error('no such format') }]) {
    const app = await build(t, { store: storeWith(() => of), prepare })
    await call(app)
    await app.close()
  }
  t.pass()
})

/** A store with a loaded operation, which it returns when `answer` is resolved; `asked` settles when it is asked. */
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

t.test('a call that is under way when the server closes starts no preparation that outlives it', async t => {
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
  t.equal(ended, signals.length, 'none is still at work')
  t.ok(signals.every(({ aborted }) => aborted), 'each has been told to stop')
})

t.test('a call that goes on after the server has closed starts no preparation', async t => {
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
  t.equal(await reply, undefined, 'the connection has been dropped')
  answer.resolve()
  await turn()
  t.equal(prepare.calls.length, 0)
})

t.test('an operation with a file that is loaded gives the selection of what is staged where there is no prepare', async t => {
  const reply = await replyTo(t, loaded())
  t.equal(reply.body, NOTHING_STAGED)
  t.notOk('etag' in reply.headers || 'retry-after' in reply.headers)
})

t.test('an operation that has no file gives the selection of what is staged, and prepare is not called', async t => {
  const prepare = t.captureFn(async () => {})
  for (const file of [null, '', undefined]) {
    const { file: _, ...of } = loaded()
    const reply = await replyTo(t, file === undefined ? of : { ...of, file }, { prepare })
    t.equal(reply.body, NOTHING_STAGED, String(file))
    t.notOk('etag' in reply.headers || 'retry-after' in reply.headers)
  }
  t.equal(prepare.calls.length, 0)
})

t.test('no other status than importer_file_loaded is prepared, even with a file', async t => {
  const prepare = t.captureFn(async () => {})
  for (const status of statuses) {
    if (status !== 'importer_file_loaded') await replyTo(t, loaded({ status }), { prepare })
  }
  t.equal(prepare.calls.length, 0)
})
