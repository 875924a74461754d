import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { EJSON } from 'bson'
import { type RocketChatDocuments } from '../lib/rocketchat/index.js'
import { StartupError } from './startup-error.js'

/**
 * Reads a folder with four of Rocket.Chat's collections, each in a file of its own as `mongoexport` writes it: one document in
 * Extended JSON a line.
 *
 * @throws StartupError, which names the folder, or the file and the line
 */
export async function loadDump (dataDir: string): Promise<RocketChatDocuments> {
  const found = await stat(dataDir).catch(() => undefined)
  if (!found?.isDirectory()) {
    throw new StartupError(`${dataDir} is not a folder: set DATA_DIR to one with rocketchat_import.json, ` +
      'rocketchat_import_data.json, users.json and rocketchat_permissions.json, as mongoexport writes them.')
  }
  return {
    rocketchat_import: await readCollection(dataDir, 'rocketchat_import'),
    rocketchat_import_data: await readCollection(dataDir, 'rocketchat_import_data'),
    users: await readCollection(dataDir, 'users'),
    rocketchat_permissions: await readCollection(dataDir, 'rocketchat_permissions')
  }
}

async function readCollection<Document> (dataDir: string, collection: keyof RocketChatDocuments): Promise<Document[]> {
  const path = join(dataDir, `${collection}.json`)
  const documents: Document[] = []
  let number = 0
  try {
    for await (const line of readLines(path)) {
      number++
      if (line.trim() !== '') documents.push(parseDocument(line))
    }
  } catch (failure) {
    throw failure instanceof SyntaxError
      ? new StartupError(`${path}, line ${number}: ${failure.message}. Each line is to be one document, as mongoexport ` +
        'writes it without --jsonArray and without --pretty.')
      : new StartupError(`${path} cannot be read (${reasonOf(failure).split(',')[0]}): write it with ` +
        `mongoexport --collection=${collection} --out=${collection}.json, and set DATA_DIR to its folder.`)
  }
  return documents
}

// Not node:readline: to that, U+2028 ends a line, which in JSON may stand in the middle of a name.
async function * readLines (path: string): AsyncGenerator<string> {
  let text = ''
  for await (const chunk of createReadStream(path, 'utf8')) {
    const lines = (text + chunk).split('\n')
    text = lines.splice(-1).join()
    yield * lines
  }
  yield text
}

// Whoever reads the documents trusts no field of theirs to be what its type says.
function parseDocument<Document> (line: string): Document {
  let document
  try {
    document = EJSON.parse(line)
  } catch (failure) {
    throw new SyntaxError(`not Extended JSON (${reasonOf(failure)})`)
  }
  if (document === null || Object.getPrototypeOf(document) !== Object.prototype) throw new SyntaxError('not a JSON object')
  return document
}

function reasonOf (failure: unknown): string {
  return String(failure).replace(/[\p{C}\p{Z}]+/gu, ' ')
}
