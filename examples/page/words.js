/** A text for each step of an import. */
const STEPS = {
  importer_downloading_file: 'The file is being downloaded',
  importer_file_loaded: 'The file has been uploaded and is being read',
  importer_preparing_started: 'The file is being opened',
  importer_preparing_users: 'The users are being read',
  importer_preparing_channels: 'The channels are being read',
  importer_preparing_contacts: 'The contacts are being read',
  importer_preparing_messages: 'The messages are being read'
}

/** What an error means and what to do, by its code or by the status of the reply. */
const REFUSALS = {
  'error-operation-not-found': {
    headline: 'There is no import yet',
    advice: 'Start one in Rocket.Chat under Workspace → Import, then ask again.'
  },
  'error-importer-not-defined': {
    headline: 'The server does not know this kind of import',
    advice: 'The administrator of the server has to add the importer named below to the option “importers”.'
  },
  'error-import-operation-invalid': {
    headline: 'This import is no longer valid',
    advice: 'It will never be ready: another import or a restart of Rocket.Chat has replaced it. Start the import again, then ask again.'
  },
  'error-import-file-format-invalid': {
    headline: 'The file could not be read',
    advice: 'Check that it is the kind of file that was selected, and that it has not been unpacked or changed. Start the import again with it, then ask again.'
  },
  401: {
    headline: 'The user id or the token is wrong',
    advice: 'Check both, and paste them again. If they are right, the token may have been revoked or the user deactivated: create a new token, or ask an administrator.'
  },
  403: {
    headline: 'This user is not allowed to see imports',
    advice: 'The permission “run-import” is required, which by default only administrators have. Ask one to grant it, or use the credentials of another user.'
  },
  404: {
    headline: 'There is no import data at this address',
    advice: 'This server does not reply at api/v1/getImportFileData. Its administrator has to serve the page and that path from the same server.'
  }
}

const REFUSED = {
  headline: 'The server refused the request',
  advice: 'Its message is below. Ask again, or show the message to the administrator of the server.'
}

const FAULT = {
  headline: 'Something went wrong in the server',
  advice: 'The reason is in its log. Tell its administrator, or ask again later.'
}

const NOT_UNDERSTOOD = {
  headline: 'The server’s reply cannot be understood',
  advice: 'It is not a reply of getImportFileData. The administrator of the server has to check what replies at api/v1/getImportFileData.'
}

const BUSY = {
  429: {
    headline: 'Too many requests',
    advice: 'The server limits how often it may be asked. This page waits for as long as the server says, then continues.'
  },
  503: {
    headline: 'The import data is currently unavailable',
    advice: 'The server is running, but its database does not respond. This page keeps trying.'
  }
}

const AWAY = {
  headline: 'The server cannot be reached',
  advice: 'The server or the network is down. This page keeps trying.'
}

const BROKEN = {
  headline: 'The reply was cut off',
  advice: 'The server or the network ended it before it was complete. Another import may have replaced this one. This page keeps trying.'
}

/** Shown until the first reply arrives. */
export const ASKING = { headline: 'Asking the server', advice: '' }

/** Shown while a long reply arrives. */
export const RECEIVING = { headline: 'Loading the import', advice: 'The import has been read. What it contains is being sent to this page.' }

/**
 * Explains an outcome to users who do not know the API.
 *
 * @param outcome see `Server`
 * @returns {{ headline: string, advice: string }}
 */
export function wordsFor (outcome) {
  switch (outcome.kind) {
    case 'waiting': return waitingWords(outcome.reply)
    case 'selection': return selectionWords(outcome.reply)
    case 'busy': return BUSY[outcome.status] ?? AWAY
    case 'away': return outcome.isBroken ? BROKEN : AWAY
    default: return refusalWords(outcome)
  }
}

/** The text after the user has stopped the page. @param reply the last reply, if it was a waiting reply */
export function stoppedWords (reply) {
  if (!reply?.stalled) return { headline: 'Stopped', advice: 'This page no longer asks the server.' }
  return { headline: 'Stopped. The import has stalled', advice: `${stallWords(reply)} This page no longer asks the server.` }
}

function waitingWords (reply) {
  if (reply.stalled) return { headline: 'Stalled: nothing has changed for a long time', advice: `${stallWords(reply)} This page keeps asking.` }
  return { headline: stepWords(reply), advice: 'This page will show what the import contains as soon as it is ready.' }
}

function stepWords ({ step }) {
  return STEPS[step] ?? 'The import is being read'
}

function stallWords (reply) {
  return `The last known step is: “${stepWords(reply)}”. The import may never finish: check the log of the server that reads the file, or start the import again.`
}

function selectionWords ({ name, users, channels, contacts, message_count: messages }) {
  const importer = name === undefined ? 'the importer' : `the importer “${name}”`
  return users.length + channels.length + (contacts?.length ?? 0) + messages > 0
    ? { headline: 'The import has been read', advice: `This is what ${importer} found in the file.` }
    : { headline: 'The import is empty', advice: 'Nothing has been read so far: the file is empty, or the import has just started. Ask again in a while.' }
}

function refusalWords ({ status, errorType }) {
  if (status < 400) return NOT_UNDERSTOOD
  if (status >= 500) return FAULT
  return REFUSALS[errorType] ?? REFUSALS[status] ?? REFUSED
}
