import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Readable, pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { EJSON } from 'bson'
import type { RocketChatDocuments } from '../lib/rocketchat/index.js'
import { type JsonDocument, NotExtendedJson, isDocument, readDocuments, reasonOf } from './read-documents.js'
import { StartupError } from './startup-error.js'

type Collection = keyof RocketChatDocuments

/** The extensions of a collection's file, in order of preference. The last two are rejected, with advice. */
const ENDINGS = ['.json', '.json.gz', '.bson', '.bson.gz']

/** The fields to keep in memory: true, or the fields of an embedded document. */
interface Members { readonly [name: string]: true | Members }

const MEMBERS: Record<Collection, Members> = {
  rocketchat_import: {
    _id: true, ts: true, status: true, importerKey: true, valid: true, file: true, messagesstatus: true, count: true, _updatedAt: true
  },
  rocketchat_import_data: {
    dataType: true,
    data: {
      importIds: true, username: true, name: true, emails: true, phones: true, deleted: true, archived: true, type: true, t: true
    }
  },
  users: { _id: true, active: true, roles: true, services: { resume: { loginTokens: true } } },
  rocketchat_permissions: { _id: true, roles: true }
}

/**
 * Reads a folder with four of Rocket.Chat's collections, one file each, as `mongoexport` or MongoDB Compass writes them. Files may be
 * compressed with gzip. Only the fields that replies need are kept.
 *
 * @throws StartupError with the folder, or the file and the line
 */
export async function loadDump (dataDir: string): Promise<RocketChatDocuments> {
  const files = await readdir(dataDir).catch(() => undefined)
  if (files === undefined) {
    throw new StartupError(`${dataDir} is not a folder: set DATA_DIR to one with rocketchat_import.json, ` +
      'rocketchat_import_data.json, users.json and rocketchat_permissions.json, as mongoexport writes them.')
  }
  const shortestFirst = files.toSorted((one, other) => one.length - other.length)
  async function read<Document> (collection: Collection): Promise<Document[]> {
    // MongoDB Compass puts the name of the database and a dot in front.
    const [name = `${collection}.json`] = ENDINGS.flatMap(ending => shortestFirst.filter(file => `.${file}`.endsWith(`.${collection}${ending}`)))
    return await readCollection(join(dataDir, name), collection)
  }
  return {
    rocketchat_import: await read('rocketchat_import'),
    rocketchat_import_data: await read('rocketchat_import_data'),
    users: await read('users'),
    rocketchat_permissions: await read('rocketchat_permissions')
  }
}

async function readCollection<Document> (path: string, collection: Collection): Promise<Document[]> {
  const documents: Document[] = []
  const command = commandOf(collection)
  try {
    await readDocuments(refuseOtherFormats(bytesOf(path), path, collection), document => {
      documents.push(keep(document, collection))
    })
  } catch (failure) {
    if (failure instanceof StartupError) throw failure
    if (failure instanceof NotExtendedJson) throw new StartupError(`${path}${failure.message}. Write it with ${command}.`)
    if (Object(failure).code === 'Z_BUF_ERROR') throw new StartupError(`${path} is cut off. Write it again with ${command}.`)
    throw new StartupError(`${path} cannot be read (${reasonOf(failure).split(',')[0]}): write it with ${command}, ` +
      'and set DATA_DIR to its folder.')
  }
  return documents
}

function bytesOf (path: string): Readable {
  const file = createReadStream(path)
  // The last stream throws the error, so the callback can ignore it.
  return path.endsWith('.gz') ? pipeline(file, createGunzip(), () => {}) : file
}

// Unchecked: the plugin checks the type of every field.
function keep<Document> (document: JsonDocument, collection: Collection): Document {
  // Staged messages are only counted.
  if (collection === 'rocketchat_import_data' && document.dataType === 'message') return Object({ dataType: 'message' })
  // As a bigint, a 64-bit integer keeps all its digits.
  return EJSON.deserialize(membersOf(document, MEMBERS[collection]), { useBigInt64: true })
}

function membersOf (document: JsonDocument, members: Members): JsonDocument {
  const kept: JsonDocument = {}
  for (const [name, inner] of Object.entries(members)) {
    const value = document[name]
    if (value !== undefined) kept[name] = inner !== true && isDocument(value) ? membersOf(value, inner) : value
  }
  return kept
}

async function * refuseOtherFormats (chunks: AsyncIterable<Buffer>, path: string, collection: Collection): AsyncGenerator<Buffer> {
  let isFirst = true
  const decoder = new TextDecoder('utf-8', { fatal: true })
  for await (const chunk of chunks) {
    const advice = isFirst ? adviceOn(chunk.toString('latin1', 0, 4), collection) : undefined
    if (advice !== undefined) throw new StartupError(`${path} is ${advice}.`)
    isFirst = false
    try {
      // The parser does not detect invalid UTF-8.
      decoder.decode(chunk, { stream: true })
    } catch {
      throw new StartupError(`${path} is not in UTF-8: write it with ${commandOf(collection)}, and do not save it in another encoding.`)
    }
    yield chunk
  }
}

/** What to do about a file that begins with these bytes, or undefined if it may be JSON. */
function adviceOn (bytes: string, collection: Collection): string | undefined {
  if (/^(\xff\xfe|\xfe\xff|[\s[{]\0[^\0]|\0[\s[{])/.test(bytes)) {
    return `in UTF-16, as PowerShell's > writes it: write it with ${commandOf(collection)}`
  }
  if (bytes.startsWith('\x1f\x8b')) return `compressed by gzip: name it ${collection}.json.gz`
  if (bytes.includes('\0')) {
    return `BSON, as mongodump writes it: write it with ${commandOf(collection)}, or make JSON of it with ` +
      `bsondump --outFile=${collection}.json ${collection}.bson`
  }
  return undefined
}

function commandOf (collection: Collection): string {
  return `mongoexport --db=rocketchat --collection=${collection} --out=${collection}.json`
}
