/** Keys in files, in the environment, in tokens (PKCS #11) and in services (AWS KMS), behind one interface. */
export { createTokenKey } from './create-key.ts'
export { KeyringError, type KeyringFault } from './errors.ts'
export type { KeySource, KmsSource, Pkcs11Source } from './key-source.ts'
export { type KeyUri, parseKeyUri } from './key-uri.ts'
export { openKey } from './open-key.ts'
