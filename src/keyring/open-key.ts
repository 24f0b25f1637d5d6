/** Opens a node's key, wherever it lies. */
import type { Clock } from '#base'
import { identityOfProvider, type NodeIdentity, parseEnvironmentKey } from '#identity'
import type { KeySource } from './key-source.ts'
import { openKmsKey } from './kms-key.ts'

export type OpenKeyDeps = {
  readonly clock: Clock
  /** Reads the key of the data directory. */
  readonly readFile: () => Promise<NodeIdentity>
}

/**
 * Opens a key for signing. `provider.close()` ends what it holds open.
 * @throws KeyringError, IdentityError, and what `readFile` throws
 */
export async function openKey(deps: OpenKeyDeps, source: KeySource): Promise<NodeIdentity> {
  if (source.kind === 'file') return deps.readFile()
  if (source.kind === 'environment') return parseEnvironmentKey(source.text)
  if (source.kind === 'kms') return identityOfProvider(await openKmsKey(deps, source))
  // With it comes the library for calling native code, which other keys do not need.
  const { openPkcs11Key } = await import('./pkcs11/pkcs11-key.ts')
  return identityOfProvider(await openPkcs11Key(deps, source))
}
