/** What the words for an import's step mean. */
const STEPS = {
  importer_downloading_file: 'The file is being fetched',
  importer_file_loaded: 'The file is there and is being read',
  importer_preparing_started: 'The file is being opened',
  importer_preparing_users: 'The users are being read',
  importer_preparing_channels: 'The channels are being read',
  importer_preparing_contacts: 'The contacts are being read',
  importer_preparing_messages: 'The messages are being read'
}

/** What a refusal means and what to do, by the code of the error or else by the status of the reply. */
const REFUSALS = {
  'error-operation-not-found': {
    headline: 'There is no import yet',
    advice: 'Start one in Rocket.Chat under Workspace → Import, then ask again.'
  },
  'error-importer-not-defined': {
    headline: 'The server does not know this kind of import',
    advice: 'Whoever runs the server has to add the importer that is named below to those it knows.'
  },
  'error-import-operation-invalid': {
    headline: 'This import is void and will never be ready',
    advice: 'Another import, or a restart of Rocket.Chat, has taken its place. Start the import again, then ask again.'
  },
  'error-import-file-format-invalid': {
    headline: 'The file could not be read',
    advice: 'Check that it is of the kind that was chosen and has not been unpacked or changed, start the import again with it, then ask again.'
  },
  401: {
    headline: 'The server does not let this user in',
    advice: 'Check the user id and the token, and paste both again. The token may have been taken back, or the user deactivated: then make a new token, or ask an administrator.'
  },
  403: {
    headline: 'This user may not look at imports',
    advice: 'It takes the permission “run-import”, which at first only administrators have. Ask one to grant it, or look as another user.'
  },
  404: {
    headline: 'There is no import data at this address',
    advice: 'This server does not answer api/v1/getImportFileData. Whoever runs it has to put the page and that address on the same server.'
  }
}

const REFUSED = {
  headline: 'The server refuses',
  advice: 'Its own words are below. Ask again, or show them to whoever runs the server.'
}

const FAULT = {
  headline: 'Something is wrong in the server',
  advice: 'Its log says what. Tell whoever runs it, or ask again later.'
}

const NOT_UNDERSTOOD = {
  headline: 'The server’s reply makes no sense',
  advice: 'It is not the reply of getImportFileData. Whoever runs the server has to see what answers at api/v1/getImportFileData.'
}

const BUSY = {
  429: {
    headline: 'Too many calls',
    advice: 'The server limits how often one may ask. The page waits as long as it wants, then goes on.'
  },
  503: {
    headline: 'The import data cannot be read at the moment',
    advice: 'The server is there, but what it reads from is not. The page goes on trying.'
  }
}

const AWAY = {
  headline: 'The server cannot be reached',
  advice: 'It is away, or the network is. The page goes on trying.'
}

const BROKEN = {
  headline: 'The reply broke off',
  advice: 'The server, or the network, ended it in the middle: another import may have taken the place of this one. The page goes on trying.'
}

/**
 * What an outcome of asking means, for somebody who does not know the API.
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

function waitingWords ({ step, stalled }) {
  const headline = STEPS[step] ?? 'The import is being read'
  if (!stalled) return { headline, advice: 'The page shows by itself what the import holds, as soon as that is known.' }
  return {
    headline: 'Stalled: nothing has changed for a long time',
    advice: `The last word was: “${headline}”. The import may never end: look into the log of the server that reads the file, or start the import again. This page goes on watching.`
  }
}

function selectionWords ({ name, users, channels, contacts, message_count: messages }) {
  const importer = name === undefined ? 'the importer' : `the importer “${name}”`
  return users.length + channels.length + (contacts?.length ?? 0) + messages > 0
    ? { headline: 'The import has been read', advice: `This is what ${importer} has found, for Rocket.Chat to take in.` }
    : { headline: 'The import is empty', advice: 'Nothing has been read so far: the file holds nothing, or the import has only just begun. Ask again in a while.' }
}

function refusalWords ({ status, errorType }) {
  if (status < 400) return NOT_UNDERSTOOD
  if (status >= 500) return FAULT
  return REFUSALS[errorType] ?? REFUSALS[status] ?? REFUSED
}

/** A number as one reads it: `12,034`. */
export function number (value) {
  return value.toLocaleString('en')
}

/** A number of things: `1 user`, `12,034 users`. */
export function quantity (value, one, many) {
  return `${number(value)} ${value === 1 ? one : many}`
}

/** A time span as one says it: `40 seconds`, `3 hours`. */
export function span (seconds) {
  if (seconds < 120) return quantity(Math.round(seconds), 'second', 'seconds')
  if (seconds < 7200) return quantity(Math.round(seconds / 60), 'minute', 'minutes')
  if (seconds < 172_800) return quantity(Math.round(seconds / 3600), 'hour', 'hours')
  return quantity(Math.round(seconds / 86_400), 'day', 'days')
}
