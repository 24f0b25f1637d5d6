/** A node key from the environment (`KOINON_NODE_KEY`): for containers, whose disks do not last. */
import { fromHex } from '#base'
import { fromBase64 } from './base64.ts'
import { IdentityError } from './errors.ts'
import { KEY_INDEX_MAX, KEY_TEXT_CHARS_MAX } from './limits.ts'
import { type HeldIdentity, identityOfSecret } from './node-identity.ts'
import { type NodeSecret, SECRET_BYTES, secretOfPhrase } from './node-secret.ts'

/**
 * Reads the text of `KOINON_NODE_KEY`: the 32 bytes of the key as 64 hexadecimal digits or as base64, or the 24 words of
 * a seed phrase, and behind them `#` and the number of the key where it has been rotated (`... zoo #2`).
 * @throws IdentityError IDENTITY_KEY_INVALID, IDENTITY_PHRASE_INVALID; the messages do not repeat the text
 */
export function parseEnvironmentKey(text: string): HeldIdentity {
  return identityOfSecret(readSecret(text.trim()), 'environment')
}

function readSecret(text: string): NodeSecret {
  if (text.length > KEY_TEXT_CHARS_MAX) throwInvalid()
  if (/^[0-9a-f]{64}$/i.test(text)) return { kind: 'seed', seed: fromHex(text) }
  const seed = fromBase64(text)
  if (seed?.byteLength === SECRET_BYTES) return { kind: 'seed', seed }
  if (!/\s/.test(text)) throwInvalid()
  const [, words = text, index = '0'] = /^([^#]*)#(\d{1,5})$/.exec(text) ?? []
  if (Number(index) > KEY_INDEX_MAX) throwInvalid()
  return secretOfPhrase(words, Number(index))
}

function throwInvalid(): never {
  throw new IdentityError(
    { code: 'IDENTITY_KEY_INVALID' },
    'the node key in the environment is neither 32 bytes in hexadecimal or base64, nor 24 words',
  )
}
