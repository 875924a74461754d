import Fastify, { type FastifyInstance } from 'fastify'
import { type Browser, type BrowserContext, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { page as pagePlugin } from '../examples/page.js'
import { type ImportOperation, importFileData, type StagedChannel, type StagedContact, type StagedUser } from '../lib/index.js'
import { launchBrowser, skipWithoutBrowser } from './fixtures/browser.js'
import { caller, operation, optionsOf, URL as API } from './fixtures/build.js'

const USER_ID = caller['x-user-id']
const TOKEN = caller['x-auth-token']
const CHANGED = new Date('2026-03-02T09:14:05.120Z')

/** What the server is to answer: a test changes it as it goes along. */
interface World {
  operation: ImportOperation | null
  users: StagedUser[]
  channels: StagedChannel[]
  contacts: StagedContact[]
  messages: number
  /** Thrown in place of looking for the operation. */
  failure: Error | undefined
  mayImport: boolean
  /** What comes in place of the API, if anything. */
  instead: 'nothing' | 'half a reply' | 'a page' | 'a proxy\'s error' | 'no API' | 'a fault' | undefined
  /** What the header `Retry-After` is to say, if anything else than what the plugin says. */
  retryAfter: (() => string) | undefined
  /** The status of every reply of the API, in order. */
  statuses: number[]
  /** How often the staged users were read. */
  reads: number
}

function worldOf (changes: Partial<World> = {}): World {
  return {
    operation: operation({ importerKey: 'slack', updatedAt: CHANGED }),
    users: [],
    channels: [],
    contacts: [],
    messages: 0,
    failure: undefined,
    mayImport: true,
    instead: undefined,
    retryAfter: undefined,
    statuses: [],
    reads: 0,
    ...changes
  }
}

async function serve (t: Test, world: World): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  app.addHook('onRequest', async ({ url, raw }, reply) => {
    if (!url.startsWith(API)) return undefined
    if (world.retryAfter !== undefined) reply.header('Retry-After', world.retryAfter())
    switch (world.instead) {
      case 'nothing': return raw.socket.destroy()
      case 'half a reply':
        reply.hijack()
        reply.raw.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' })
        return reply.raw.write('{"users":[', () => raw.socket.destroy())
      case 'a page': return reply.type('text/html').send('<h1>Welcome</h1>')
      case 'a proxy\'s error': return reply.code(502).type('text/html').send('<h1>Bad Gateway</h1>')
      case 'no API': return reply.code(404).type('application/json').send('{"message":"Route not found"}')
      case 'a fault': return reply.code(500).type('text/plain').send('Internal Server Error')
      case undefined: return undefined
    }
  })
  app.addHook('onResponse', async ({ url }, { statusCode }) => { if (url.startsWith(API)) world.statuses.push(statusCode) })
  await app.register(pagePlugin)
  await app.register(importFileData, {
    prefix: '/api/v1',
    ...optionsOf({
      hasPermission: () => world.mayImport,
      store: {
        latestOperation: async () => {
          if (world.failure) throw world.failure
          return world.operation
        },
        users: () => {
          world.reads++
          return Array.from({ length: Math.ceil(world.users.length / 1000) }, (_, batch) => world.users.slice(batch * 1000, batch * 1000 + 1000))
        },
        channels: () => [world.channels],
        contacts: () => [world.contacts],
        countMessages: async () => world.messages
      }
    })
  })
  return app
}

let browser: Promise<Browser> | undefined
t.teardown(async () => (await browser)?.close())

/** Somebody in front of the page. */
interface Visitor {
  page: Page
  context: BrowserContext
  /** Fills the form and sends it. */
  ask (token?: string): Promise<void>
  /** How often the page has called the API. */
  calls (): number
  /** Holds the page's clock: from now on it moves only when the test says so. */
  holdClock (): Promise<void>
  /** Waits for the words above all else. */
  reads (headline: string): Promise<void>
}

/** A test in the browser, which fails, too, when a script fails or the page does what its policy forbids. */
function inBrowser (name: string, changes: () => Partial<World>, run: (t: Test, visitor: Visitor, world: World) => Promise<void>): void {
  t.test(name, { skip: skipWithoutBrowser }, async t => {
    const world = worldOf(changes())
    const app = await serve(t, world)
    const address = await app.listen({ host: '127.0.0.1', port: 0 })
    browser ??= launchBrowser()
    const context = await (await browser).newContext({ baseURL: address })
    t.teardown(() => context.close())
    const page = await context.newPage()
    page.setDefaultTimeout(20_000)

    const problems: string[] = []
    page.on('pageerror', error => problems.push(String(error)))
    page.on('dialog', dialog => { problems.push(`dialog: ${dialog.message()}`); return dialog.dismiss() })
    page.on('console', message => {
      // The browser itself notes every reply that is an error.
      if (!message.text().startsWith('Failed to load resource')) problems.push(message.text())
    })

    let calls = 0
    page.on('request', request => { if (request.url().endsWith(API)) calls++ })

    await page.clock.install()
    await page.goto('/')
    await run(t, {
      page,
      context,
      async ask (token = TOKEN) {
        await page.getByLabel('User id').fill(USER_ID)
        await page.getByLabel('Token', { exact: true }).fill(token)
        await page.getByRole('button', { name: 'Show the import' }).click()
      },
      calls: () => calls,
      holdClock: () => page.clock.pauseAt(Date.now() + 1000),
      reads: headline => page.getByRole('heading', { name: headline, exact: true }).waitFor()
    }, world)
    t.strictSame(problems, [], 'no script failed and nothing against the policy was tried')
  })
}

function waiting (changes: Partial<ImportOperation> = {}): ImportOperation {
  return operation({ status: 'importer_preparing_users', importerKey: 'slack', updatedAt: new Date(), ...changes })
}

const ADA: StagedUser = { importIds: ['U1'], username: 'ada', emails: ['ada@example.com'], type: 'user' }
const sample: Partial<World> = {
  users: [
    ADA,
    { importIds: ['U2'], username: 'linus', emails: ['linus@example.com'], type: 'user', deleted: true },
    { importIds: ['U3'], username: 'helper', emails: [], type: 'bot' },
    { importIds: ['U4'], emails: ['nameless@example.com'], type: 'user' }
  ],
  channels: [
    { importIds: ['C1'], name: 'general', t: 'c' },
    { importIds: ['C2'], name: 'board', t: 'p' },
    { importIds: ['C3'], name: 'old-website', t: 'c', archived: true },
    { importIds: ['D1'], t: 'd' }
  ],
  contacts: [
    { importIds: ['c-1'], name: 'Grace', emails: ['grace@example.com'], phones: ['+1 555 0100'] },
    { importIds: ['c-2'], name: 'Radia' }
  ],
  messages: 12_034
}

/** The texts of a table's rows. */
function rows (page: Page, table: string): Promise<string[]> {
  return page.locator(`#${table} tbody tr`).evaluateAll(elements =>
    elements.map(({ textContent }) => String(textContent).replace(/\s+/g, ' ').trim()))
}

function manyUsers (length: number, changes: Partial<StagedUser> = {}): StagedUser[] {
  return Array.from({ length }, (_, index) =>
    ({ importIds: [`U${index}`], username: `person.${index}`, emails: [`person.${index}@example.com`], ...changes }))
}

t.test('the page has a strict policy, and nothing else of the server has it', async t => {
  const app = await serve(t, worldOf())
  for (const [path, type] of [['/', 'text/html'], ['/page.js', 'application/javascript'], ['/style.css', 'text/css']] as const) {
    const { statusCode, headers } = await app.inject(path)
    t.equal(statusCode, 200)
    t.match(headers, {
      'content-type': new RegExp(type),
      'content-security-policy': /^default-src 'none'; script-src 'self'; .*form-action 'none'; frame-ancestors 'none'/,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer'
    })
  }
  for (const path of [API, '/nothing', '/../page.ts']) {
    const { statusCode, headers } = await app.inject({ url: path, headers: caller })
    t.equal(statusCode, path === API ? 200 : 404)
    t.notOk('content-security-policy' in headers)
  }
})

inBrowser('the page shows the step and the counts while the import is read, and then what it holds', () => ({
  ...sample,
  operation: waiting({ status: 'importer_preparing_messages', reading: 'general/2023-05-04', count: { total: 12_034, users: 320, channels: 41 } })
}), async (t, { page, ask, reads }, world) => {
  await ask()
  await reads('The messages are being read')
  t.equal(await page.getByRole('progressbar', { name: 'How far the import has been read' }).getAttribute('value'), '361')
  t.equal(await page.locator('#bar-words').textContent(), '361 of 12,034 records (2 %)')
  t.match(await page.locator('#facts').textContent(), /^Being readgeneral\/2023-05-04Last change\d+ seconds? ago \(/)
  t.equal(await page.locator('#counts').textContent(), 'Users320Channels41In all12,034')
  t.equal(await page.title(), 'The messages are being read – Import preview')
  t.notOk(await page.getByLabel('User id').isVisible(), 'the form is out of the way')

  // The total of Rocket.Chat's importers is what they have read so far.
  world.operation = waiting({ status: 'importer_preparing_channels', count: { total: 361, users: 320, channels: 41 } })
  await reads('The channels are being read')
  t.equal(await page.getByRole('progressbar').getAttribute('value'), null, 'how much is to come is not known')

  world.operation = waiting({ status: 'importer_downloading_file' })
  await reads('The file is being fetched')
  t.notOk(await page.locator('#counts').isVisible())

  world.operation = operation({ importerKey: 'slack', updatedAt: new Date() })
  await reads('The import has been read')
  t.notOk(await page.getByRole('progressbar').isVisible())
  t.match(await page.locator('#advice').textContent(), 'the importer “Slack”')
  t.strictSame(await page.locator('#totals li').allInnerTexts(), ['4\nUsers', '4\nChannels', '2\nContacts', '12,034\nMessages'])
  t.strictSame(await rows(page, 'users'), [
    'ada U1ada@example.com',
    'linus U2linus@example.comdeleted',
    'helper U3botno e-mail',
    'no name U4nameless@example.com'
  ])
  t.strictSame(await rows(page, 'channels'), [
    'general C1',
    'board C2private',
    'old-website C3archived',
    'Direct Messages __directMessages__directprivate'
  ])
  t.strictSame(await rows(page, 'contacts'), ['Grace c-1grace@example.com+1 555 0100', 'Radia c-2no e-mail'])
})

inBrowser('the page says so when the import has stalled', () => ({
  operation: waiting({ updatedAt: new Date(Date.now() - 3 * 3_600_000), count: { total: 100, users: 10 } })
}), async (t, { page, ask, reads }) => {
  await ask()
  await reads('Stalled: nothing has changed for a long time')
  t.match(await page.locator('#advice').textContent(), '“The users are being read”')
  t.match(await page.locator('#facts').textContent(), '3 hours ago')
  t.equal(await page.getByRole('progressbar').getAttribute('value'), null)
})

inBrowser('a step that the page has no words for is a step all the same', () => ({
  operation: waiting({ status: 'importer_file_loaded' })
}), async (t, { page, ask, reads }, world) => {
  await page.route(`**${API}`, route => route.fulfill({ json: { waiting: true, step: 'importer_preparing_emoji', success: true } }))
  await ask()
  await reads('The import is being read')
  t.notOk(await page.locator('#facts').isVisible())
  t.strictSame(world.statuses, [])
})

inBrowser('an empty import is said to be empty', () => ({}), async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import is empty')
  t.equal(await page.locator('#users .none').textContent(), 'The import holds no users.')
  t.notOk(await page.locator('#users table').isVisible())
})

inBrowser('what has not changed is not sent again, nor read', () => sample, async (t, { page, ask, reads }, world) => {
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

inBrowser('a browser makes a request conditional by itself, as Rocket.Chat\'s own page profits from', () => sample, async (t, { page }, world) => {
  const script = `fetch('${API}', { headers: ${JSON.stringify(caller)} }).then(async reply => [reply.status, (await reply.json()).users.length])`
  t.strictSame(await page.evaluate(script), [200, 4])
  t.strictSame(await page.evaluate(script), [200, 4])
  t.strictSame(world.statuses, [200, 304])
  t.equal(world.reads, 1)
})

const refusals: Array<[headline: string, advice: RegExp, changes: Partial<World>]> = [
  ['The server does not let this user in', /^Check the user id and the token/, {}],
  ['This user may not look at imports', /“run-import”/, { mayImport: false }],
  ['There is no import yet', /^Start one in Rocket\.Chat/, { operation: null }],
  ['The server does not know this kind of import', /^Whoever runs the server/, { operation: operation({ importerKey: 'discord' }) }],
  ['This import is void and will never be ready', /^Another import/, { operation: waiting({ valid: false }) }],
  ['The file could not be read', /^Check that it is of the kind/, { operation: operation({ status: 'importer_import_failed' }) }],
  ['The server refuses', /^Its own words are below/, { failure: Object.assign(new Error('Not today'), { statusCode: 418 }) }],
  ['There is no import data at this address', /getImportFileData/, { instead: 'no API' }],
  ['Something is wrong in the server', /^Its log says what/, { instead: 'a fault' }],
  ['The server’s reply makes no sense', /getImportFileData/, { instead: 'a page' }]
]
for (const [headline, advice, changes] of refusals) {
  inBrowser(`the page stops for good, and says what to do: ${headline}`, () => changes, async (t, { page, ask, reads, calls }, world) => {
    const isUnauthorized = Object.keys(changes).length === 0
    await ask(isUnauthorized ? 'wrong' : TOKEN)
    await reads(headline)
    t.match(await page.locator('#advice').textContent(), advice)
    const wantsOthers = isUnauthorized || world.mayImport === false
    t.equal(await page.getByRole('button', { name: 'Show the import' }).isVisible(), wantsOthers)
    t.equal(await page.getByRole('button', { name: 'Ask again' }).isVisible(), !wantsOthers)

    await page.clock.runFor(600_000)
    t.equal(calls(), 1, 'the server is asked no more')
  })
}

inBrowser('the server\'s own words are shown, for whoever runs it', () => ({ operation: operation({ importerKey: 'discord' }) }), async (_t, { page, ask }) => {
  await ask()
  await page.getByText('In the server’s words: The importer (discord) has no import class defined. [error-importer-not-defined]').waitFor()
})

inBrowser('who was not let in corrects the token and gets on', () => sample, async (t, { page, ask, reads }, world) => {
  await ask('wrong')
  await reads('The server does not let this user in')
  await ask()
  await reads('The import has been read')
  t.notOk(await page.locator('#server-words').isVisible())
  t.strictSame(world.statuses, [401, 200])
})

inBrowser('the page stops when the selection is there', () => sample, async (t, { page, ask, reads, calls }) => {
  await ask()
  await reads('The import has been read')
  await page.clock.runFor(600_000)
  t.equal(calls(), 1)
})

inBrowser('the page asks again no sooner than the server says', () => ({
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
  ['the database is away', 'The import data cannot be read at the moment', 5, { failure: new Error('no server') }],
  ['there were too many calls', 'Too many calls', 45, { failure: Object.assign(new Error('slow down'), { statusCode: 429 }), retryAfter: () => '45' }],
  ['the server is away', 'The server cannot be reached', 2, { instead: 'nothing' }],
  ['a proxy finds no server', 'The server cannot be reached', 2, { instead: 'a proxy\'s error' }],
  ['the reply breaks off', 'The reply broke off', 2, { instead: 'half a reply' }],
  ['a date says when', 'The server cannot be reached', 20, { instead: 'a proxy\'s error', retryAfter: () => new Date(Date.now() + 20_000).toUTCString() }],
  ['nobody can tell when', 'The server cannot be reached', 2, { instead: 'a proxy\'s error', retryAfter: () => 'soon' }]
]
for (const [name, headline, seconds, changes] of obstacles) {
  inBrowser(`the page waits and goes on by itself when ${name}`, () => ({ ...sample, ...changes }), async (t, { page, ask, reads, calls, holdClock }, world) => {
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

inBrowser('a server that stays away is asked more and more seldom', () => ({ instead: 'nothing' }), async (t, { page, ask, reads, calls, holdClock }) => {
  await holdClock()
  await ask()
  for (const seconds of [2, 4, 8, 16, 30, 30]) {
    await page.getByText(`Asks again in ${seconds} seconds.`).waitFor()
    await page.clock.runFor(seconds * 1000)
  }
  await reads('The server cannot be reached')
  t.equal(calls(), 7)
})

inBrowser('nobody is asked while the tab is hidden', () => ({ operation: waiting() }), async (t, { page, ask, reads, calls }, world) => {
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

inBrowser('one may stop the page, and let it go on', () => ({ operation: waiting() }), async (t, { page, ask, reads, calls }) => {
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

inBrowser('the credentials are in no storage and no address, and gone once they are forgotten', () => sample, async (t, { page, context, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  t.equal(await page.evaluate('JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])'), '[{},{},""]')
  t.strictSame(await page.evaluate('Promise.all([indexedDB.databases(), caches.keys()])'), [[], []])
  t.strictSame(await context.cookies(), [])
  t.notMatch(page.url(), USER_ID)
  t.notMatch(page.url(), TOKEN)

  await page.getByRole('button', { name: 'Forget me' }).click()
  t.equal(await page.getByLabel('User id').inputValue(), '')
  t.equal(await page.getByLabel('Token', { exact: true }).inputValue(), '')
  t.equal(await page.evaluate('document.activeElement.id'), 'user-id')
  const left = await page.content()
  for (const gone of [USER_ID, TOKEN, 'ada@example.com', 'general']) t.notMatch(left, gone)
  t.equal(await page.title(), 'Import preview')
  t.equal(await page.getByText('are forgotten').textContent(), 'The user id, the token and all that was shown are forgotten.')
})

inBrowser('the credentials do not come back when the tab is loaded anew', () => sample, async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  await page.reload()
  t.equal(await page.getByLabel('User id').inputValue(), '')
  t.equal(await page.getByLabel('Token', { exact: true }).inputValue(), '')
})

inBrowser('the browser\'s cache holds nothing of it', () => sample, async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  const cached = `fetch('${API}', { cache: 'only-if-cached', mode: 'same-origin', headers: ${JSON.stringify(caller)} })`
  t.equal(await page.evaluate(`${cached}.then(({ status }) => status, () => 'nothing')`), 'nothing')
})

inBrowser('the token is hidden until one wants to see it, and credentials that cannot be right are not sent', () => ({}), async (t, { page, ask }, world) => {
  const token = page.getByLabel('Token', { exact: true })
  t.equal(await token.getAttribute('type'), 'password')
  await page.getByRole('button', { name: 'Show the token' }).click()
  t.equal(await token.getAttribute('type'), 'text')
  await page.getByRole('button', { name: 'Hide the token' }).click()
  t.equal(await token.getAttribute('type'), 'password')

  for (const wrong of ['', 'two words', 'tökén']) {
    await ask(wrong)
    t.notOk(await token.evaluate(({ validity }) => validity.valid))
  }
  t.strictSame(world.statuses, [])
  await ask(`  ${TOKEN}\t`)
  await page.getByRole('heading', { name: 'The import is empty' }).waitFor()
})

inBrowser('the filter narrows all tables, and says how many match', () => sample, async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  const filter = async (text: string, found: string) => {
    await page.getByLabel('Filter', { exact: true }).fill(text)
    await page.locator('#matches').getByText(found, { exact: true }).waitFor()
  }
  await filter('EXAMPLE', 'Found: 3 users, 0 channels, 1 contact')
  t.equal(await page.locator('#users h2').innerText(), 'Users 3 of 4')
  t.equal(await page.locator('#channels .none').textContent(), 'No channel matches the filter.')
  await filter('bot', 'Found: 1 user, 0 channels, 0 contacts')
  t.strictSame(await rows(page, 'users'), ['helper U3botno e-mail'])
  await filter('private board', 'Found: 0 users, 1 channel, 0 contacts')
  t.strictSame(await rows(page, 'channels'), ['board C2private'])
  await filter('555', 'Found: 0 users, 0 channels, 1 contact')
  await page.getByLabel('Filter', { exact: true }).fill('')
  await page.locator('#matches').filter({ hasNotText: 'Found' }).waitFor({ state: 'attached' })
  t.equal((await rows(page, 'users')).length, 4)
})

inBrowser('one leafs through a long table', () => ({ users: manyUsers(250) }), async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  const pager = page.getByRole('navigation', { name: 'Pages of users' })
  const isAt = async (range: string, first: string, count: number) => {
    await pager.getByText(range, { exact: true }).waitFor()
    const shown = await rows(page, 'users')
    t.equal(shown.length, count)
    t.match(shown[0], first)
  }
  await isAt('1 to 100 of 250', 'person.0', 100)
  await pager.getByRole('button', { name: 'Next' }).click()
  await isAt('101 to 200 of 250', 'person.100', 100)
  t.equal(await page.locator('#announcement').textContent(), 'Users 101 to 200 of 250')
  await pager.getByRole('button', { name: 'Last' }).click()
  await isAt('201 to 250 of 250', 'person.200', 50)
  t.equal(await pager.getByRole('button', { name: 'Next' }).getAttribute('aria-disabled'), 'true')
  await pager.getByRole('button', { name: 'Next' }).click({ force: true })
  await isAt('201 to 250 of 250', 'person.200', 50)
  await pager.getByRole('button', { name: 'Previous' }).click()
  await isAt('101 to 200 of 250', 'person.100', 100)
  await pager.getByRole('button', { name: 'First' }).click()
  await isAt('1 to 100 of 250', 'person.0', 100)
  t.notOk(await page.getByRole('navigation', { name: 'Pages of channels' }).isVisible(), 'a short table has no pages')
})

inBrowser('the page answers at once with 100,000 users in it', () => ({ users: manyUsers(100_000) }), async (t, { page, ask, reads }, world) => {
  await ask()
  await reads('The import has been read')
  t.equal(await page.locator('#users h2').innerText(), 'Users 100,000')

  const milliseconds = await page.evaluate(`new Promise(resolve => {
    const box = document.getElementById('filter')
    const start = performance.timeOrigin + performance.now()
    new MutationObserver(() => resolve(performance.timeOrigin + performance.now() - start))
      .observe(document.getElementById('matches'), { childList: true })
    box.value = 'person.9999'
    box.dispatchEvent(new Event('input'))
  })`)
  t.comment(`the filter has answered after ${Math.round(Number(milliseconds))} ms`)
  t.ok(Number(milliseconds) < 3000)
  t.equal(await page.locator('#matches').textContent(), 'Found: 11 users, 0 channels, 0 contacts')

  await page.getByRole('button', { name: 'Ask again' }).click()
  await reads('The import has been read')
  t.strictSame(world.statuses, [200, 304])
  t.equal(await page.locator('#users h2').innerText(), 'Users 11 of 100,000', 'the filter is still there')
})

const MARKUP = '<img src=x onerror=alert(1)>'
inBrowser('names are shown as text, whatever is in them', () => ({
  users: [{ importIds: [MARKUP], username: MARKUP, emails: [MARKUP] }],
  channels: [{ importIds: [MARKUP], name: MARKUP, t: 'c' }],
  contacts: [{ importIds: [MARKUP], name: MARKUP, emails: [MARKUP], phones: [MARKUP] }]
}), async (t, { page, ask, reads }, world) => {
  await ask()
  await reads('The import has been read')
  t.strictSame(await rows(page, 'users'), [`${MARKUP} ${MARKUP}${MARKUP}`])
  t.strictSame(await rows(page, 'channels'), [`${MARKUP} ${MARKUP}`])
  t.strictSame(await rows(page, 'contacts'), [`${MARKUP} ${MARKUP}${MARKUP}${MARKUP}no e-mail`.replace('no e-mail', '')])

  world.operation = waiting({ reading: MARKUP })
  await page.getByRole('button', { name: 'Ask again' }).click()
  await reads('The users are being read')
  t.match(await page.locator('#facts').textContent(), MARKUP)

  world.operation = operation({ importerKey: MARKUP })
  await reads('The server does not know this kind of import')
  t.match(await page.locator('#server-words').textContent(), MARKUP)
  t.equal(await page.locator('img').count(), 0)
})

inBrowser('all of it can be done with the keyboard', () => ({ users: manyUsers(250) }), async (t, { page, reads }) => {
  const focus = () => page.evaluate('document.activeElement.id || document.activeElement.textContent.trim()')
  const tabTo = async (...stops: string[]) => {
    for (const stop of stops) {
      await page.keyboard.press('Tab')
      t.equal(await focus(), stop)
    }
  }
  await tabTo('user-id')
  await page.keyboard.type(USER_ID)
  await tabTo('token')
  await page.keyboard.type(TOKEN)
  await tabTo('reveal', 'Show the import')
  await page.keyboard.press('Enter')
  await reads('The import has been read')
  t.equal(await focus(), 'headline', 'the focus goes on from the form, which is gone')

  await tabTo('again', 'forget', '250 Users', '0 Channels', '0 Contacts', 'filter')
  await page.keyboard.type('person.1')
  await page.getByText('Found: 111 users').waitFor()
  await tabTo('First', 'Previous', 'Next')
  await page.keyboard.press('Enter')
  await page.getByText('101 to 111 of 111', { exact: true }).waitFor()
  t.equal(await focus(), 'Next')
  await tabTo('Last', 'What the marks mean')
  await page.keyboard.press('Enter')
  t.ok(await page.getByText('not a person but a program').isVisible())

  for (let stops = 0; await focus() !== 'forget' && stops < 20; stops++) await page.keyboard.press('Shift+Tab')
  await page.keyboard.press('Enter')
  t.equal(await focus(), 'user-id')
})

inBrowser('everything has a name for who does not see it', () => ({
  ...sample,
  operation: waiting({ count: { total: 10, users: 4 } })
}), async (t, { page, ask, reads }, world) => {
  const main = page.getByRole('main')
  const holds = async (...lines: string[]) => {
    const snapshot = (await main.ariaSnapshot()).split('\n').map(line => line.trim())
    for (const line of lines) t.ok(snapshot.includes(line), line) || t.comment(snapshot.join('\n'))
  }
  await holds('- form "Who is looking?":', '- textbox "User id"', '- textbox "Token"', '- button "Show the token"', '- button "Show the import"')
  await ask()
  await reads('The users are being read')
  await holds('- region "The users are being read":', '- status:', '- progressbar "How far the import has been read"', '- button "Stop"', '- button "Forget me"')
  world.operation = operation({ importerKey: 'slack', updatedAt: new Date() })
  await reads('The import has been read')
  await holds(
    '- navigation "What the import holds":', '- link "4 Users":', '- searchbox "Filter"',
    '- region "Users 4":', '- table "All users":', '- columnheader "User"', '- columnheader "E-mail"', '- columnheader "Marks"',
    '- rowheader "ada U1"', '- cell "bot no e-mail":'
  )
  t.equal(await page.getByRole('status').count(), 3)
  t.strictSame(await page.evaluate('[...document.querySelectorAll("th")].filter(cell => !cell.scope).length'), 0)
})

inBrowser('the page fits a window of 360 pixels', () => ({
  ...sample,
  users: manyUsers(250, { username: 'a'.repeat(80), emails: [`${'b'.repeat(60)}@${'c'.repeat(60)}.example.com`] })
}), async (t, { page, ask, reads }) => {
  await page.setViewportSize({ width: 360, height: 640 })
  const excess = () => page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
  t.equal(await excess(), 0)
  await ask()
  await reads('The import has been read')
  t.equal(await excess(), 0)
})
