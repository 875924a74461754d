import { caller, operation, URL as API } from './fixtures/build.js'
import { inBrowser, rows, sample, TOKEN, waiting, type World } from './fixtures/page.js'

inBrowser('an unchanged selection is neither read nor sent again', () => sample, async (t, { page, ask, reads }, world) => {
  await ask()
  await reads('The import has been read')
  t.strictSame(world.statuses, [200])
  await page.getByRole('button', { name: 'Ask again' }).click()
  await reads('The import has been read')
  t.strictSame(world.statuses, [200, 304])
  t.equal(world.reads, 1)
  t.equal((await rows(page, 'users')).length, 4)

  world.operation = waiting()
  await page.getByRole('button', { name: 'Ask again' }).click()
  await reads('The users are being read')
  await page.waitForResponse(response => response.status() === 304)
  await reads('The users are being read')
  t.strictSame(world.statuses.slice(0, 4), [200, 304, 200, 304])
})

inBrowser('a browser makes requests conditional by itself, as Rocket.Chat\'s own page needs', () => sample, async (t, { page }, world) => {
  const script = `fetch('${API}', { headers: ${JSON.stringify(caller)} }).then(async reply => [reply.status, (await reply.json()).users.length])`
  t.strictSame(await page.evaluate(script), [200, 4])
  t.strictSame(await page.evaluate(script), [200, 4])
  t.strictSame(world.statuses, [200, 304])
  t.equal(world.reads, 1)
})

const refusals: Array<[headline: string, advice: RegExp, changes: Partial<World>]> = [
  ['The user id or the token is wrong', /^Check both/, {}],
  ['This user is not allowed to see imports', /“run-import”/, { mayImport: false }],
  ['There is no import yet', /^Start one in Rocket\.Chat/, { operation: null }],
  ['The server does not know this kind of import', /^The administrator of the server/, { operation: operation({ importerKey: 'discord' }) }],
  ['This import is no longer valid', /^It will never be ready/, { operation: waiting({ valid: false }) }],
  ['The file could not be read', /^Check that it is the kind/, { operation: operation({ status: 'importer_import_failed' }) }],
  ['The server refused the request', /^Its message is below/, { failure: Object.assign(new Error('Not today'), { statusCode: 418 }) }],
  ['There is no import data at this address', /getImportFileData/, { instead: 'no API' }],
  ['Something went wrong in the server', /^The reason is in its log/, { instead: 'a fault' }],
  ['The server’s reply cannot be understood', /getImportFileData/, { instead: 'a page' }]
]
for (const [headline, advice, changes] of refusals) {
  inBrowser(`the page stops, and shows what to do: ${headline}`, () => changes, async (t, { page, ask, reads, calls }, world) => {
    const isUnauthorized = Object.keys(changes).length === 0
    await ask(isUnauthorized ? 'wrong' : TOKEN)
    await reads(headline)
    t.match(await page.locator('#advice').textContent(), advice)
    const wantsOthers = isUnauthorized || world.mayImport === false
    t.equal(await page.getByRole('button', { name: 'Show the import' }).isVisible(), wantsOthers)
    t.equal(await page.getByRole('button', { name: 'Ask again' }).isVisible(), !wantsOthers)

    await page.clock.runFor(600_000)
    t.equal(calls(), 1, 'the page does not call the server again')
  })
}

inBrowser('the server\'s message is shown', () => ({ operation: operation({ importerKey: 'discord' }) }), async (_t, { page, ask }) => {
  await ask()
  await page.getByText('The server’s message: The importer (discord) has no import class defined. [error-importer-not-defined]').waitFor()
})

inBrowser('after a 401 the user can correct the token and continue', () => sample, async (t, { page, ask, reads }, world) => {
  await ask('wrong')
  await reads('The user id or the token is wrong')
  await ask()
  await reads('The import has been read')
  t.notOk(await page.locator('#server-words').isVisible())
  t.strictSame(world.statuses, [401, 200])
})

inBrowser('the page stops when it has the selection', () => sample, async (t, { page, ask, reads, calls }) => {
  await ask()
  await reads('The import has been read')
  await page.clock.runFor(600_000)
  t.equal(calls(), 1)
})

inBrowser('the page honours Retry-After', () => ({
  operation: waiting({ updatedAt: new Date(Date.now() - 80_000) })
}), async (t, { page, ask, reads, calls, holdClock }) => {
  await holdClock()
  await ask()
  await reads('The users are being read')
  await page.clock.runFor(7000)
  t.equal(calls(), 1)
  const second = page.waitForResponse(`**${API}`)
  await page.clock.runFor(3000)
  await second
  t.equal(calls(), 2)
})

const obstacles: Array<[name: string, headline: string, seconds: number, changes: Partial<World>]> = [
  ['the database is down', 'The import data is currently unavailable', 5, { failure: new Error('no server') }],
  ['there were too many calls', 'Too many requests', 45, { failure: Object.assign(new Error('slow down'), { statusCode: 429 }), retryAfter: () => '45' }],
  ['the server is down', 'The server cannot be reached', 2, { instead: 'nothing' }],
  ['a proxy does not reach the server', 'The server cannot be reached', 2, { instead: 'a proxy\'s error' }],
  ['the reply is cut off', 'The reply was cut off', 2, { instead: 'half a reply' }],
  ['Retry-After is a date', 'The server cannot be reached', 20, { instead: 'a proxy\'s error', retryAfter: () => new Date(Date.now() + 20_000).toUTCString() }],
  ['Retry-After is invalid', 'The server cannot be reached', 2, { instead: 'a proxy\'s error', retryAfter: () => 'soon' }]
]
for (const [name, headline, seconds, changes] of obstacles) {
  inBrowser(`the page waits and continues by itself when ${name}`, () => ({ ...sample, ...changes }), async (t, { page, ask, reads, calls, holdClock }, world) => {
    await holdClock()
    await ask()
    await reads(headline)
    t.match(await page.locator('#next').textContent(), /^Asks again in \d+ seconds?\.$/)
    const before = calls()
    Object.assign(world, { failure: undefined, instead: undefined, retryAfter: undefined })
    if (seconds > 2) {
      await page.clock.runFor(seconds * 1000 - 4000)
      t.equal(calls(), before, 'not yet')
    }
    await page.clock.runFor(15_000)
    await reads('The import has been read')
    t.equal(calls(), before + 1)
    t.equal(await page.locator('#next').textContent(), '')
  })
}

inBrowser('a server that stays down is called less and less often', () => ({ instead: 'nothing' }), async (t, { page, ask, reads, calls, holdClock }) => {
  await holdClock()
  await ask()
  for (const seconds of [2, 4, 8, 16, 30, 30]) {
    await page.getByText(`Asks again in ${seconds} seconds.`).waitFor()
    await page.clock.runFor(seconds * 1000)
  }
  await reads('The server cannot be reached')
  t.equal(calls(), 7)
})

inBrowser('the server is not called while the tab is hidden', () => ({ operation: waiting() }), async (t, { page, ask, reads, calls }, world) => {
  const turn = (hidden: boolean) => page.evaluate(`
    Object.defineProperty(document, 'hidden', { configurable: true, value: ${hidden} })
    document.dispatchEvent(new Event('visibilitychange'))`)
  await ask()
  await reads('The users are being read')
  await turn(true)
  await page.clock.runFor(5000)
  const before = calls()
  await page.clock.runFor(60_000)
  t.equal(calls(), before)

  world.operation = waiting({ status: 'importer_preparing_channels' })
  await turn(false)
  await reads('The channels are being read')
})

inBrowser('the user can stop the page and continue', () => ({ operation: waiting() }), async (t, { page, ask, reads, calls }) => {
  await ask()
  await reads('The users are being read')
  await page.getByRole('button', { name: 'Stop' }).click()
  await reads('Stopped')
  t.notOk(await page.getByRole('progressbar').isVisible())
  const before = calls()
  await page.clock.runFor(60_000)
  t.equal(calls(), before)
  await page.getByRole('button', { name: 'Ask again' }).click()
  await reads('The users are being read')
  t.ok(calls() > before)
})
