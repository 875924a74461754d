import { byId, setText } from './elements.js'

/** The ids of the input elements. */
const FIELDS = { userId: 'user-id', token: 'token' }

/** The form for the user id and the token. Their values stay in the memory of this tab. */
export class CredentialsForm {
  /** @param submitted called with `{ userId, token }` */
  constructor (submitted) {
    byId('credentials').addEventListener('submit', event => {
      event.preventDefault()
      this.hideToken()
      submitted({ userId: byId('user-id').value.trim(), token: byId('token').value.trim() })
    })
    byId('reveal').addEventListener('click', () => reveal(byId('token').type === 'password'))
    for (const id of Object.values(FIELDS)) byId(id).addEventListener('input', ({ target }) => check(target))
    this.#offerSample()
  }

  show (shown) {
    byId('credentials').hidden = !shown
  }

  hideToken () {
    reveal(false)
  }

  clear () {
    fill({ userId: '', token: '' })
    this.hideToken()
  }

  // The server has sample credentials only if it serves the sample import. Otherwise it replies 404.
  async #offerSample () {
    if (Object.values(FIELDS).some(id => byId(id).value !== '')) return
    const response = await fetch('sample-credentials.json', { cache: 'no-store' }).catch(() => undefined)
    const sample = response?.ok ? await response.json().catch(() => undefined) : undefined
    if (typeof sample?.userId !== 'string' || typeof sample.authToken !== 'string') return
    byId('use-sample').hidden = false
    byId('use-sample').addEventListener('click', () => {
      fill({ userId: sample.userId, token: sample.authToken })
      byId('credentials').requestSubmit()
    })
  }
}

function fill (credentials) {
  for (const [name, id] of Object.entries(FIELDS)) {
    byId(id).value = credentials[name]
    check(byId(id))
  }
}

function check (field) {
  field.setCustomValidity('')
  if (field.validity.patternMismatch) field.setCustomValidity('Use only letters, digits and punctuation of the English keyboard, and no spaces.')
}

function reveal (shown) {
  byId('token').type = shown ? 'text' : 'password'
  setText(byId('reveal').firstElementChild, shown ? 'Hide' : 'Show')
}
