import t from 'tap'
import { buildServer } from '../examples/server.js'
import { readSettings } from '../examples/settings.js'
import { caller, operation, URL as API } from './fixtures/build.js'
import { inBrowser, manyUsers, rows, sample, serve, TOKEN, USER_ID, waiting, worldOf } from './fixtures/page.js'

const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
  "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

t.test('the page has a strict Content Security Policy, and other routes of the server do not have it', async t => {
  const app = await serve(t, worldOf())
  for (const [path, type] of [['/', 'text/html'], ['/page.js', 'application/javascript'], ['/style.css', 'text/css']] as const) {
    const { statusCode, headers } = await app.inject(path)
    t.equal(statusCode, 200)
    t.match(headers, {
      'content-type': new RegExp(type),
      'content-security-policy': POLICY,
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

inBrowser('the page shows the step and the counts during preparation, and then the selection', () => ({
  ...sample,
  operation: waiting({ status: 'importer_preparing_messages', reading: 'general/2023-05-04', count: { total: 12_034, users: 320, channels: 41 } })
}), async (t, { page, ask, reads }, world) => {
  await ask()
  await reads('The messages are being read')
  const bar = page.getByRole('progressbar', { name: 'How far the import has been read' })
  t.equal(await bar.getAttribute('value'), '361')
  t.equal(await bar.getAttribute('aria-describedby'), 'bar-words')
  t.equal(await page.locator('#bar-words').textContent(), '361 of 12,034 records (2%)')
  t.match(await page.locator('#facts').textContent(), /^Readinggeneral\/2023-05-04Last change\d+ seconds? ago \(/)
  t.equal(await page.locator('#counts').textContent(), 'Users320Channels41')
  t.equal(await page.title(), 'The messages are being read – Import preview')
  t.notOk(await page.getByLabel('User id').isVisible(), 'the form is hidden')

  // Rocket.Chat's importers may raise the total as they read.
  world.operation = waiting({ status: 'importer_preparing_channels', count: { total: 361, users: 320, channels: 41 } })
  await reads('The channels are being read')
  t.equal(await page.getByRole('progressbar').getAttribute('value'), null, 'the progress is indeterminate')
  t.equal(await page.locator('#bar-words').textContent(), '361 of 361 records so far')

  world.operation = waiting({ status: 'importer_downloading_file' })
  await reads('The file is being downloaded')
  t.notOk(await page.locator('#counts').isVisible())

  world.operation = operation({ importerKey: 'slack', updatedAt: new Date() })
  await reads('The import has been read')
  t.notOk(await page.getByRole('progressbar').isVisible())
  t.match(await page.locator('#advice').textContent(), 'the importer “Slack”')
  t.strictSame(await page.locator('.figure').allInnerTexts(), ['4\nUsers', '4\nChannels', '2\nContacts', '12,034\nMessages'])
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

inBrowser('the page shows that the import has stalled', () => ({
  operation: waiting({ updatedAt: new Date(Date.now() - 3 * 3_600_000), count: { total: 100, users: 10 } })
}), async (t, { page, ask, reads }) => {
  await ask()
  await reads('Stalled: nothing has changed for a long time')
  t.match(await page.locator('#advice').textContent(), '“The users are being read”')
  t.match(await page.locator('#facts').textContent(), '3 hours ago')
  t.equal(await page.getByRole('progressbar').getAttribute('value'), null)
})

inBrowser('a step that is unknown to the page has a default text', () => ({
  operation: waiting({ status: 'importer_file_loaded' })
}), async (t, { page, ask, reads }, world) => {
  await page.route(`**${API}`, route => route.fulfill({ json: { waiting: true, step: 'importer_preparing_emoji', success: true } }))
  await ask()
  await reads('The import is being read')
  t.notOk(await page.locator('#facts').isVisible())
  t.strictSame(world.statuses, [])
})

inBrowser('the page shows that an import is empty', () => ({}), async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import is empty')
  t.equal(await page.locator('#users .none').textContent(), 'The import contains no users.')
  t.notOk(await page.locator('#users table').isVisible())
})

inBrowser('a stall is still shown after the page was stopped', () => ({
  operation: waiting({ updatedAt: new Date(Date.now() - 3 * 3_600_000), count: { total: 100, users: 10 } })
}), async (t, { page, ask, reads }) => {
  await ask()
  await reads('Stalled: nothing has changed for a long time')
  await page.getByRole('button', { name: 'Stop' }).click()
  await reads('Stopped. The import has stalled')
  t.equal(await page.locator('#state').getAttribute('class'), 'card stalled')
  t.match(await page.locator('#advice').textContent(), '“The users are being read”')
  t.equal(await page.locator('#bar-words').textContent(), '10 of 100 records (10%)')
  t.match(await page.locator('#facts').textContent(), '3 hours ago')
})

inBrowser('the counts are announced to screen readers, but not each change', () => ({
  operation: waiting({ count: { total: 100, users: 1 } })
}), async (t, { page, ask, reads, holdClock }, world) => {
  const announcement = page.locator('#announcement')
  t.equal(await announcement.getAttribute('aria-live'), 'polite')
  await holdClock()
  await ask()
  await reads('The users are being read')
  let seconds = 0
  const said = new Map<string | null, number>()
  for (let users = 2; users <= 50; users++) {
    world.operation = waiting({ count: { total: 100, users } })
    const reply = page.waitForResponse(`**${API}`)
    await page.clock.runFor(1000)
    seconds++
    await reply
    await page.getByText(`${users} of 100 records (${users}%)`, { exact: true }).first().waitFor()
    said.set(await announcement.textContent(), seconds)
  }
  t.strictSame([...said.keys()], ['', '21 of 100 records (21%), Users: 21', '41 of 100 records (41%), Users: 41'])
})

inBrowser('the page shows how much of a long reply has been received', () => ({ instead: 'a long reply that waits' }), async (t, { page, ask, reads }, world) => {
  await ask()
  await reads('Loading the import')
  await page.getByText('1.3 MB received', { exact: true }).waitFor()
  t.equal(await page.getByRole('progressbar').getAttribute('value'), null)
  world.finishReply()
  await reads('The import is empty')
  t.notOk(await page.getByText('MB received').isVisible())
})

inBrowser('the credentials are not in any storage or URL, and are removed when they are forgotten', () => sample, async (t, { page, context, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  t.equal(await page.evaluate('JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])'), '[{},{},""]')
  t.strictSame(await page.evaluate('Promise.all([indexedDB.databases(), caches.keys()])'), [[], []])
  t.strictSame(await context.cookies(), [])
  t.notMatch(page.url(), USER_ID)
  t.notMatch(page.url(), TOKEN)

  await page.getByRole('button', { name: 'Forget credentials' }).click()
  t.equal(await page.getByLabel('User id').inputValue(), '')
  t.equal(await page.getByLabel('Token', { exact: true }).inputValue(), '')
  t.equal(await page.evaluate('document.activeElement.id'), 'user-id')
  const left = await page.content()
  for (const removed of [USER_ID, TOKEN, 'ada@example.com', 'general']) t.notMatch(left, removed)
  t.equal(await page.title(), 'Import preview')
  t.equal(await page.locator('#announcement').textContent(), 'The user id, the token and everything that was shown have been removed from this page.')
})

inBrowser('the credentials are lost when the tab is reloaded', () => sample, async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  await page.reload()
  t.equal(await page.getByLabel('User id').inputValue(), '')
  t.equal(await page.getByLabel('Token', { exact: true }).inputValue(), '')
})

inBrowser('the browser\'s cache does not contain the reply', () => sample, async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  const cached = `fetch('${API}', { cache: 'only-if-cached', mode: 'same-origin', headers: ${JSON.stringify(caller)} })`
  t.equal(await page.evaluate(`${cached}.then(({ status }) => status, () => 'nothing')`), 'nothing')
})

inBrowser('the token is hidden until the user reveals it, and invalid credentials are not sent', () => ({}), async (t, { page, ask }, world) => {
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

inBrowser('dark colours are used on the screen, but not in print', () => sample, async (t, { page }) => {
  const background = () => page.evaluate('getComputedStyle(document.documentElement).getPropertyValue("--card")')
  const onScreen = await background()
  await page.emulateMedia({ colorScheme: 'dark' })
  t.not(await background(), onScreen)
  await page.emulateMedia({ colorScheme: 'dark', media: 'print' })
  t.equal(await background(), onScreen)
})

inBrowser('if the server has sample credentials, a button shows the sample import', () => ({
  ...sample,
  sampleCredentials: { userId: USER_ID, authToken: TOKEN }
}), async (t, { page, reads }, world) => {
  await page.getByRole('button', { name: 'Use the sample credentials' }).click()
  await reads('The import has been read')
  t.strictSame(world.statuses, [200])
  await page.getByRole('button', { name: 'Forget credentials' }).click()
  t.ok(await page.getByRole('button', { name: 'Use the sample credentials' }).isVisible())
})

for (const sampleCredentials of [undefined, {}, { userId: USER_ID }]) {
  inBrowser(`no sample credentials are offered if the server has ${JSON.stringify(sampleCredentials) ?? 'none'}`, () => ({ sampleCredentials }), async (t, { page }) => {
    const isIt = 'entry => entry.name.endsWith("/sample-credentials.json")'
    await page.evaluate(`new Promise(resolve => new PerformanceObserver(list => list.getEntries().some(${isIt}) && resolve())
      .observe({ type: 'resource', buffered: true }))`)
    t.notOk(await page.getByText('Use the sample credentials').isVisible())
  })
}

t.test('the page links to the API reference of the import server', async t => {
  const app = await buildServer({ ...readSettings({}), logLevel: 'silent' })
  t.teardown(() => app.close())
  const [, link] = /<a href="([^"]+)">API reference/.exec((await app.inject('/')).body) ?? []
  const reply = await app.inject(`/${link}`)
  t.equal(reply.statusCode, 200)
  t.match(reply.headers['content-type'], 'text/html')
})

const MARKUP = '<img src=x onerror=alert(1)>'
inBrowser('names are shown as text, whatever they contain', () => ({
  users: [{ importIds: [MARKUP], username: MARKUP, emails: [MARKUP] }],
  channels: [{ importIds: [MARKUP], name: MARKUP, t: 'c' }],
  contacts: [{ importIds: [MARKUP], name: MARKUP, emails: [MARKUP], phones: [MARKUP] }]
}), async (t, { page, ask, reads }, world) => {
  await ask()
  await reads('The import has been read')
  t.strictSame(await rows(page, 'users'), [`${MARKUP} ${MARKUP}${MARKUP}`])
  t.strictSame(await rows(page, 'channels'), [`${MARKUP} ${MARKUP}`])
  t.strictSame(await rows(page, 'contacts'), [`${MARKUP} ${MARKUP}${MARKUP}${MARKUP}`])

  world.operation = waiting({ reading: MARKUP })
  await page.getByRole('button', { name: 'Ask again' }).click()
  await reads('The users are being read')
  t.match(await page.locator('#facts').textContent(), MARKUP)

  world.operation = operation({ importerKey: MARKUP })
  await reads('The server does not know this kind of import')
  t.match(await page.locator('#server-words').textContent(), MARKUP)
  t.equal(await page.locator('img').count(), 0)
})

inBrowser('the page can be used with the keyboard only', () => ({ users: manyUsers(250) }), async (t, { page, reads }) => {
  const focus = () => page.evaluate('document.activeElement.id || document.activeElement.textContent.trim() || "page number"')
  const tabTo = async (...stops: string[]) => {
    for (const stop of stops) {
      await page.keyboard.press('Tab')
      t.equal(await focus(), stop)
    }
  }
  await tabTo('API reference', 'user-id')
  await page.keyboard.type(USER_ID)
  await tabTo('token')
  await page.keyboard.type(TOKEN)
  await tabTo('reveal', 'Show the import')
  await page.keyboard.press('Enter')
  await reads('The import has been read')
  t.equal(await focus(), 'headline', 'the focus moves from the hidden form to the headline')

  await tabTo('again', 'forget', 'filter')
  await page.keyboard.type('person.1')
  await page.getByText('Found: 111 users').waitFor()
  await tabTo('users-tab')
  await page.keyboard.press('ArrowRight')
  t.equal(await focus(), 'channels-tab')
  await page.keyboard.press('Home')
  await tabTo('Export as CSV', 'User', 'E-mail', 'Marks', 'First', 'Previous', 'page number', 'Next')
  await page.keyboard.press('Enter')
  await page.getByText('101 to 111 of 111', { exact: true }).waitFor()
  t.equal(await focus(), 'Next')
  await tabTo('Last', 'What the marks mean')
  await page.keyboard.press('Enter')
  t.ok(await page.getByText('a program, not a person').isVisible())

  for (let stops = 0; await focus() !== 'forget' && stops < 20; stops++) await page.keyboard.press('Shift+Tab')
  await page.keyboard.press('Enter')
  t.equal(await focus(), 'user-id')
})

inBrowser('all elements have accessible names', () => ({
  ...sample,
  operation: waiting({ count: { total: 10, users: 4 } })
}), async (t, { page, ask, reads }, world) => {
  const main = page.getByRole('main')
  const holds = async (...lines: string[]) => {
    const snapshot = (await main.ariaSnapshot()).split('\n').map(line => line.trim())
    for (const line of lines) t.ok(snapshot.includes(line), line) || t.comment(snapshot.join('\n'))
  }
  await holds('- form "Your credentials":', '- textbox "User id"', '- textbox "Token"', '- button "Show the token"', '- button "Show the import"')
  await ask()
  await reads('The users are being read')
  await holds('- region "The users are being read":', '- status:', '- progressbar "How far the import has been read"', '- button "Stop"', '- button "Forget credentials"')
  world.operation = operation({ importerKey: 'slack', updatedAt: new Date() })
  await reads('The import has been read')
  await holds(
    '- searchbox "Filter"', '- tablist "What the import contains":', '- tab "4 Users" [selected]:', '- tab "4 Channels":',
    '- tabpanel "4 Users":', '- heading "Users 4" [level=2]', '- group "Show only users with the mark":', '- button "bot 1"',
    '- button "Export as CSV"', '- table "All users":', '- columnheader "User":', '- button "E-mail"', '- columnheader "Marks":',
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
