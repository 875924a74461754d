import type { ImportCount, ImportOperation, ImportStatus } from '../lib/index.js'
import { type RocketChatDocuments, type RocketChatOptions, rocketChatDump } from '../lib/rocketchat/index.js'

interface Step {
  status: ImportStatus
  seconds: number
  /** What is staged in this step. */
  stages?: 'users' | 'channels' | 'contacts' | 'messages'
}

/** The steps until the import is ready: half a minute in total. */
const STEPS: readonly Step[] = [
  { status: 'importer_downloading_file', seconds: 3 },
  { status: 'importer_preparing_started', seconds: 2 },
  { status: 'importer_preparing_users', seconds: 5, stages: 'users' },
  { status: 'importer_preparing_channels', seconds: 4, stages: 'channels' },
  { status: 'importer_preparing_contacts', seconds: 3, stages: 'contacts' },
  { status: 'importer_preparing_messages', seconds: 13, stages: 'messages' }
]

/** Milliseconds until the import is ready. */
const PREPARED_AFTER = STEPS.reduce((sum, { seconds }) => sum + seconds, 0) * 1000

/** Milliseconds until the next import starts. */
const ROUND = PREPARED_AFTER + 60_000

/** Milliseconds between two changes of the operation during preparation. */
const TICK = 500

/** The number of messages. A selection has only their number, so the messages themselves are not needed. */
const MESSAGES = 12_034

/** How many days of messages each channel has, and the first day. */
const DAYS = 30
const FIRST_DAY = Date.UTC(2023, 4, 1)

/** How many records of each kind the import has, and the names of its channels. */
interface Contents {
  amounts: Required<Pick<ImportCount, 'users' | 'channels' | 'contacts' | 'messages'>>
  channelNames: string[]
}

/**
 * The plugin's options for an import that makes progress. It goes through the steps in half a minute, is ready for a minute, with a
 * selection made from the documents, and starts again.
 *
 * @param now returns the time in milliseconds since 1970. The progress depends on nothing else
 */
export function demoImport (documents: RocketChatDocuments, now: () => number = Date.now): RocketChatOptions {
  const { store, ...auth } = rocketChatDump(documents)
  const contents = contentsOf(documents)
  const started = now()
  return {
    ...auth,
    store: {
      ...store,
      latestOperation: async () => demoOperation(contents, started, now() - started),
      countMessages: async () => MESSAGES
    }
  }
}

/** The operation, `elapsed` milliseconds after the start of the first import. */
function demoOperation (contents: Contents, started: number, elapsed: number): ImportOperation {
  const round = Math.floor(elapsed / ROUND)
  const time = Math.min(elapsed % ROUND, PREPARED_AFTER)
  const ticked = time - time % TICK
  return {
    id: `demo-${round + 1}`,
    importerKey: 'slack',
    valid: true,
    updatedAt: new Date(started + round * ROUND + ticked),
    ...progressAt(contents, ticked)
  }
}

function progressAt ({ amounts, channelNames }: Contents, time: number): Pick<ImportOperation, 'status' | 'reading' | 'count'> {
  const count: ImportCount = {}
  let begin = 0
  for (const { status, seconds, stages } of STEPS) {
    const part = (time - begin) / (seconds * 1000)
    if (stages !== undefined) {
      // As if the importer had counted the records when it opened the file.
      count.total ??= amounts.users + amounts.channels + amounts.contacts + amounts.messages
      count[stages] = Math.floor(amounts[stages] * Math.min(part, 1))
    }
    if (part < 1) return { status, count, reading: readingAt(stages, channelNames, part) }
    begin += seconds * 1000
  }
  return { status: 'importer_user_selection', count, reading: null }
}

function readingAt (stages: Step['stages'], channelNames: string[], part: number): string | null {
  if (stages === undefined) return null
  if (stages !== 'messages') return `${stages}.json`
  const place = part * channelNames.length
  const day = new Date(FIRST_DAY + Math.floor(place % 1 * DAYS) * 86_400_000)
  return `${channelNames[Math.floor(place)] ?? 'messages'}/${day.toISOString().slice(0, 10)}`
}

function contentsOf ({ rocketchat_import_data: staged }: RocketChatDocuments): Contents {
  const amount = (dataType: string) => staged.filter(document => document.dataType === dataType).length
  return {
    amounts: { users: amount('user'), channels: amount('channel'), contacts: amount('contact'), messages: MESSAGES },
    channelNames: staged.flatMap(({ dataType, data }) => dataType === 'channel' && data?.name ? [data.name] : [])
  }
}
