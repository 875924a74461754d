import { hash } from 'node:crypto'

/**
 * The hash under which Rocket.Chat stores a login token or personal access token: base64 of its SHA-256
 * (`services.resume.loginTokens[].hashedToken` of a document of `users`).
 */
export function hashLoginToken (token: string): string {
  return hash('sha256', token, 'base64')
}
