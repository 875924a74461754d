import { readFile } from 'node:fs/promises'
import type { Page } from 'playwright-core'
import { ADA, inBrowser, manyUsers, rows, sample } from './fixtures/page.js'

inBrowser('the filter applies to all tables, and shows the number of matches', () => sample, async (t, { page, ask, reads }) => {
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

inBrowser('the user can page through a long table', () => ({ users: manyUsers(250) }), async (t, { page, ask, reads }) => {
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

inBrowser('the user can enter a page number', () => ({ users: manyUsers(250) }), async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  const box = page.getByRole('spinbutton', { name: 'Page' })
  t.match(await page.locator('#users .pager label').innerText(), /^Page\s+of 3$/)
  for (const [entered, range, number] of [
    ['2', '101 to 200 of 250', '2'],
    ['99', '201 to 250 of 250', '3'],
    ['-4', '1 to 100 of 250', '1'],
    ['', '1 to 100 of 250', '1']
  ] as const) {
    await box.fill(entered)
    await box.press('Enter')
    await page.locator('#users .range').getByText(range, { exact: true }).waitFor()
    await box.blur()
    t.equal(await box.inputValue(), number)
  }
})

inBrowser('the tabs of the tables can be used by mouse and by keyboard', () => sample, async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  const shown = () => page.getByRole('tabpanel').evaluateAll(panels => panels.map(({ id }) => id))
  const selected = () => page.getByRole('tab', { selected: true }).innerText()
  t.strictSame(await page.getByRole('tab').allInnerTexts(), ['4\nUsers', '4\nChannels', '2\nContacts'])
  t.strictSame(await shown(), ['users'])
  await page.getByRole('tab', { name: 'Contacts' }).click()
  t.strictSame(await shown(), ['contacts'])
  t.equal(await page.getByRole('tabpanel').getAttribute('aria-labelledby'), 'contacts-tab')
  for (const [key, id, text] of [
    ['ArrowRight', 'users', '4\nUsers'],
    ['ArrowLeft', 'contacts', '2\nContacts'],
    ['Home', 'users', '4\nUsers'],
    ['ArrowRight', 'channels', '4\nChannels'],
    ['End', 'contacts', '2\nContacts'],
    ['x', 'contacts', '2\nContacts']
  ] as const) {
    await page.keyboard.press(key)
    t.strictSame(await shown(), [id], key)
    t.equal(await selected(), text)
    t.equal(await page.evaluate('document.activeElement.id'), `${id}-tab`)
    t.equal(await page.locator('[role=tab][tabindex="0"]').count(), 1)
  }
})

inBrowser('a press of a mark filters its table, also in a row', () => sample, async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  t.strictSame(await page.locator('#users .mark-filter button').allInnerTexts(), ['deleted 1', 'bot 1', 'no e-mail 1'])
  await page.locator('#users tbody').getByRole('button', { name: 'bot' }).click()
  t.strictSame(await rows(page, 'users'), ['helper U3botno e-mail'])
  t.equal(await page.locator('#users h2').innerText(), 'Users 1 of 4')
  t.equal(await page.getByRole('tab', { name: 'Users' }).innerText(), '1 of 4\nUsers')
  t.equal(await page.getByRole('tab', { name: 'Channels' }).innerText(), '4\nChannels', 'the other tables are not affected')
  const bot = page.getByRole('button', { name: 'bot 1' })
  t.equal(await bot.getAttribute('aria-pressed'), 'true')
  t.ok(await bot.evaluate(button => button === button.ownerDocument.activeElement), 'the focus is not lost when the row is removed')

  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  t.strictSame(await rows(page, 'users'), ['helper U3botno e-mail'], 'both marks')
  await bot.press('Enter')
  await page.getByRole('button', { name: 'no e-mail 1' }).press('Enter')
  t.equal((await rows(page, 'users')).length, 4)

  await page.getByRole('tab', { name: 'Channels' }).click()
  await page.getByRole('button', { name: 'private 2' }).click()
  t.strictSame(await rows(page, 'channels'), ['board C2private', 'Direct Messages __directMessages__directprivate'])
  await page.getByLabel('Filter', { exact: true }).fill('board')
  await page.locator('#matches').getByText('Found: 0 users, 1 channel, 0 contacts', { exact: true }).waitFor()
})

inBrowser('the columns sort the table', () => ({
  users: [
    { importIds: ['U1'], username: 'zoe', emails: ['a@example.com'], type: 'user' },
    { importIds: ['U2'], username: 'Åsa', emails: [], type: 'bot' },
    { importIds: ['U3'], emails: ['c@example.com'], type: 'user' },
    { importIds: ['U4'], username: 'bob', emails: ['b@example.com'], deleted: true }
  ]
}), async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  const ids = async () => (await page.locator('#users .id').allInnerTexts()).join(' ')
  const sort = async (column: string, order: string | null, expected: string) => {
    await page.getByRole('button', { name: column, exact: true }).click()
    t.equal(await page.getByRole('columnheader', { name: column }).getAttribute('aria-sort'), order)
    t.equal(await page.locator('#users [aria-sort]').count(), order === null ? 0 : 1)
    t.equal(await ids(), expected)
  }
  t.equal(await ids(), 'U1 U2 U3 U4')
  await sort('User', 'ascending', 'U2 U4 U1 U3')
  t.equal(await page.locator('#announcement').textContent(), 'All users, sorted by User, ascending')
  await sort('User', 'descending', 'U3 U1 U4 U2')
  await sort('User', null, 'U1 U2 U3 U4')
  await sort('Marks', 'ascending', 'U2 U4 U1 U3')
  await sort('E-mail', 'ascending', 'U1 U4 U3 U2')
  await page.getByRole('button', { name: 'deleted 1' }).click()
  t.equal(await ids(), 'U4')
  await page.getByRole('button', { name: 'deleted 1' }).click()
  t.equal(await ids(), 'U1 U4 U3 U2', 'a filter keeps the order')
})

inBrowser('forgetting the credentials resets the filter, the order and the tab', () => sample, async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  await page.getByRole('button', { name: 'bot 1' }).click()
  await page.getByRole('button', { name: 'User', exact: true }).click()
  await page.getByRole('tab', { name: 'Contacts' }).click()
  await page.getByRole('button', { name: 'Forget credentials' }).click()
  await ask()
  await reads('The import has been read')
  t.match((await rows(page, 'users'))[0], 'ada')
  t.equal((await rows(page, 'users')).length, 4)
  t.equal(await page.locator('[aria-sort], [aria-pressed=true]').count(), 0)
  t.equal(await page.getByRole('tab', { selected: true }).innerText(), '4\nUsers')
})

/** The file that the page exports. */
async function exported (page: Page): Promise<{ name: string, text: string }> {
  const coming = page.waitForEvent('download')
  await page.getByRole('button', { name: 'Export as CSV' }).click()
  const download = await coming
  return { name: download.suggestedFilename(), text: await readFile(await download.path(), 'utf8') }
}

inBrowser('all pages of the filtered table are exported as CSV', () => ({ ...sample, users: [...manyUsers(250), ADA] }), async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  const all = await exported(page)
  t.equal(all.name, 'import-users.csv')
  t.equal(all.text.split('\r\n').length, 1 + 251 + 1)

  await page.getByLabel('Filter', { exact: true }).fill('ada@')
  await page.locator('#matches').getByText('Found: 1 user', { exact: false }).waitFor()
  t.equal((await exported(page)).text, '\uFEFF"Id","Name","E-mail","Marks"\r\n"U1","ada","ada@example.com",""\r\n')
  t.equal(await page.locator('#announcement').textContent(), 'Exported 1 user')

  await page.getByLabel('Filter', { exact: true }).fill('grace')
  await page.locator('#matches').getByText('1 contact', { exact: false }).waitFor()
  await page.getByRole('tab', { name: 'Contacts' }).click()
  t.equal((await exported(page)).text,
    '\uFEFF"Id","Name","E-mail","Phone","Marks"\r\n"c-1","Grace","grace@example.com","\'+1 555 0100",""\r\n')
  await page.getByRole('tab', { name: 'Channels' }).click()
  t.notOk(await page.getByRole('button', { name: 'Export as CSV' }).isVisible(), 'an empty table cannot be exported')
})

const cells: Array<[name: string, cell: string]> = [
  ['plain', 'plain'],
  ['a "quoted", name', 'a ""quoted"", name'],
  ['two\nlines', 'two\nlines'],
  ['=1+1', "'=1+1"],
  ['+1', "'+1"],
  ['-1', "'-1"],
  ['@SUM(A1)', "'@SUM(A1)"],
  ['\tx', "'\tx"],
  ['\rx', "'\rx"],
  [' =1', "' =1"],
  ['＝1', "'＝1"],
  ['a;=1', "a;'=1"],
  ['a;"=1', 'a;\'""=1'],
  ['a\n=1', "a\n'=1"],
  ['a-b=c+d@e', 'a-b=c+d@e']
]
inBrowser('no cell of an exported table is a formula', () => ({
  channels: cells.map(([name], index) => ({ importIds: [`C${index}`], name, t: 'c' as const }))
}), async (t, { page, ask, reads }) => {
  await ask()
  await reads('The import has been read')
  await page.getByRole('tab', { name: 'Channels' }).click()
  const { text } = await exported(page)
  t.equal(text, `\uFEFF"Id","Name","Marks"\r\n${cells.map(([, cell], index) => `"C${index}","${cell}",""\r\n`).join('')}`)
})

for (const [length, rowsOnPaper, range] of [[250, 250, '1 to 250 of 250'], [3001, 100, '1 to 100 of 3,001']] as const) {
  inBrowser(`a table of ${length} rows is printed completely, or with the range of its rows`, () => ({ users: manyUsers(length) }), async (t, { page, ask, reads }) => {
    await ask()
    await reads('The import has been read')
    await page.evaluate(`addEventListener('beforeprint', () => {
      window.onPaper = [document.querySelectorAll('#users tbody tr').length, document.querySelector('#users .printed').textContent]
    })`)
    await page.pdf()
    t.strictSame(await page.evaluate('window.onPaper'), [rowsOnPaper, range])
    t.equal((await rows(page, 'users')).length, 100, 'after printing, only a page of it is shown')
    t.notOk(await page.locator('#users .printed').isVisible())
    await page.emulateMedia({ media: 'print' })
    t.ok(await page.locator('#users .printed').isVisible())
    t.notOk(await page.getByRole('button', { name: 'Next' }).isVisible())

    await page.emulateMedia({ media: null })
    await page.getByLabel('Filter', { exact: true }).fill('person.24')
    await page.locator('#matches').getByText('Found', { exact: false }).waitFor()
    t.match(await page.locator('#users .printed').textContent(), / of \d+, filtered by: person\.24$/)
  })
}

inBrowser('the page stays responsive with 100,000 users', () => ({ users: manyUsers(100_000) }), async (t, { page, ask, reads }, world) => {
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
  t.equal(await page.locator('#users h2').innerText(), 'Users 11 of 100,000', 'the filter is kept')
})
