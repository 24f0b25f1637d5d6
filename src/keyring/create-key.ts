/** Makes a new key on a token. */
import type { Clock, Random } from '#base'
import type { Pkcs11Source } from './key-source.ts'

/** @throws KeyringError KEYRING_KEY_EXISTS, KEYRING_MECHANISM and those of opening a token */
export async function createTokenKey(
  deps: { readonly clock: Clock; readonly random: Random },
  source: Pkcs11Source,
): Promise<void> {
  const { createPkcs11Key } = await import('./pkcs11/pkcs11-key.ts')
  await createPkcs11Key(deps, source)
}
