/** What all keys in tokens and services have in common: their signatures are checked before anybody else sees them. */
import { ED25519_SIGNATURE_BYTES, ed25519Verifier } from '#crypto'
import type { KeyProvider } from '#identity'
import { KeyringError } from './errors.ts'

/** Signed once when a key is opened, to find out that it can sign. No message of the protocol begins like this. */
const TRIAL = new TextEncoder().encode('koinon/key-trial/1')

type RawKey = Pick<KeyProvider, 'kind' | 'publicKey' | 'close'> & {
  /** Whatever the token or service answers. */
  readonly signRaw: (message: Uint8Array) => Promise<Uint8Array>
}

/**
 * A provider whose first signature is good, as all that follow are. A faulty token's wrong signature would else cost
 * this node its good name with its peers, and may give the private key away.
 * @throws KeyringError as `signRaw`, or KEYRING_SIGNATURE_INVALID; the key is closed then
 */
export async function checkedKey({ kind, publicKey, signRaw, close }: RawKey): Promise<KeyProvider> {
  const verifier = ed25519Verifier(publicKey)
  const sign = async (message: Uint8Array): Promise<Uint8Array> => {
    const signature = await signRaw(message)
    if (signature.byteLength === ED25519_SIGNATURE_BYTES && verifier.verify(message, signature)) return signature
    throw new KeyringError(
      { code: 'KEYRING_SIGNATURE_INVALID' },
      'what came back from the token or service is not a signature by the key that it was asked of',
    )
  }
  try {
    await sign(TRIAL)
  } catch (error) {
    await close()
    throw error
  }
  return { kind, publicKey, sign, close }
}
