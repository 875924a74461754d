import { writeFile } from 'node:fs/promises'
import { mock } from 'node:test'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import type { Browser, Page } from 'playwright-core'
import { demoImport } from '../examples/demo-import.js'
import { loadDump } from '../examples/load-dump.js'
import { page as pagePlugin } from '../examples/page.js'
import { SAMPLE_IMPORT } from '../examples/settings.js'
import { importFileData } from '../lib/index.js'
import { caller } from '../test/fixtures/build.js'
import { launchBrowser } from '../test/fixtures/browser.js'

// Makes docs/page.png: the page while the demo's import is being read, and when it has been. Nothing in it depends on the time or on
// the time zone, but the letters are those of the system's fonts. Run it by: node --import tsx docs/make-page-picture.ts

const PICTURE = process.argv[2] ?? fileURLToPath(new URL('page.png', import.meta.url))

/** When the demo's import begins, in the picture. */
const STARTED = Date.UTC(2026, 2, 2, 9, 14)

/** Seconds after that, for the two halves of the picture. */
const MOMENTS = { reading: 22, ready: 40 }

const HALF = { width: 560, height: 760 }
const GAP = 16

async function serveDemo () {
  const app = Fastify({ forceCloseConnections: true })
  // Node.js remembers the date of the last reply for a second.
  app.addHook('onSend', async (_request, reply) => { reply.header('Date', new Date().toUTCString()) })
  await app.register(pagePlugin)
  await app.register(importFileData, { prefix: '/api/v1', ...demoImport(await loadDump(SAMPLE_IMPORT)) })
  return { app, address: await app.listen({ host: '127.0.0.1', port: 0 }) }
}

async function pictureOf (browser: Browser, address: string, colorScheme: 'light' | 'dark', shown: (page: Page) => Promise<void>): Promise<Buffer> {
  const context = await browser.newContext({ baseURL: address, viewport: HALF, colorScheme, locale: 'en', timezoneId: 'UTC', reducedMotion: 'reduce' })
  const page = await context.newPage()
  await page.clock.setFixedTime(Date.now())
  await page.goto('/')
  await page.getByRole('textbox', { name: 'User id' }).fill(caller['x-user-id'])
  await page.getByRole('textbox', { name: 'Token' }).fill(caller['x-auth-token'])
  await page.getByRole('button', { name: 'Show the import' }).click()
  await shown(page)
  const picture = await page.screenshot({ animations: 'disabled' })
  await context.close()
  return picture
}

/** Two pictures beside each other, with round corners. */
async function besideEachOther (browser: Browser, pictures: Buffer[]): Promise<Buffer> {
  const page = await browser.newPage({ viewport: { width: HALF.width * 2 + GAP, height: HALF.height } })
  const images = pictures.map(picture => `<img src="data:image/png;base64,${picture.toString('base64')}">`)
  await page.setContent(`<style>
    body { margin: 0; display: flex; gap: ${GAP}px; background: transparent }
    img { border-radius: 12px }
  </style>${images.join('')}`)
  return page.screenshot({ omitBackground: true })
}

mock.timers.enable({ apis: ['Date'], now: STARTED })
const { app, address } = await serveDemo()
const browser = await launchBrowser()
try {
  mock.timers.setTime(STARTED + MOMENTS.reading * 1000)
  const reading = await pictureOf(browser, address, 'light', async page => {
    await page.getByRole('heading', { name: 'The messages are being read' }).waitFor()
  })
  mock.timers.setTime(STARTED + MOMENTS.ready * 1000)
  const ready = await pictureOf(browser, address, 'dark', async page => {
    await page.getByRole('heading', { name: 'The import has been read' }).waitFor()
    await page.getByRole('button', { name: 'User', exact: true }).click()
    // The ring around what has the focus is left out.
    await page.evaluate('document.activeElement.blur()')
    await page.evaluate('scrollTo(0, document.getElementById("filter-bar").offsetTop - 16)')
  })
  await writeFile(PICTURE, await besideEachOther(browser, [reading, ready]))
} finally {
  await browser.close()
  await app.close()
}
