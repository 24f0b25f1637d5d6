/** What can go wrong with a key that lies in a token or a service. */
import { KoinonError } from '#base'

export type KeyringFault =
  /** Text that should say where a key lies, and does not. */
  | { readonly code: 'KEYRING_SOURCE_INVALID' }
  /** The PKCS#11 module cannot be loaded, or is something else. */
  | { readonly code: 'KEYRING_MODULE'; readonly module: string }
  /** No token goes by that name, or several do. */
  | { readonly code: 'KEYRING_TOKEN_UNKNOWN'; readonly found: number }
  | { readonly code: 'KEYRING_PIN_NEEDED' }
  | { readonly code: 'KEYRING_PIN_WRONG' }
  /** The token takes no PIN any more: too many wrong ones came before. */
  | { readonly code: 'KEYRING_PIN_LOCKED' }
  /** No key goes by that name, or several do. */
  | { readonly code: 'KEYRING_KEY_UNKNOWN'; readonly found: number }
  /** There is such a key already. */
  | { readonly code: 'KEYRING_KEY_EXISTS' }
  /** The key is not one that makes Ed25519 signatures. */
  | { readonly code: 'KEYRING_KEY_TYPE' }
  /** The token cannot make Ed25519 keys or signatures. */
  | { readonly code: 'KEYRING_MECHANISM' }
  /** A function of the PKCS#11 module failed; `reason` by the standard's name, such as CKR_DEVICE_ERROR. */
  | { readonly code: 'KEYRING_TOKEN_FAILED'; readonly call: string; readonly reason: string }
  /** The service does not let this node use the key, or there are no credentials. `reason` is the service's own name. */
  | { readonly code: 'KEYRING_ACCESS'; readonly reason: string }
  /** The service failed, or says that the key cannot be used now. `reason` is the service's own name. */
  | { readonly code: 'KEYRING_SERVICE_FAILED'; readonly reason: string }
  /** More signatures are asked for than the token or service makes. */
  | { readonly code: 'KEYRING_BUSY' }
  | { readonly code: 'KEYRING_TIMEOUT'; readonly timeoutMs: number }
  /** The service signs no message of this length. */
  | { readonly code: 'KEYRING_MESSAGE_SIZE'; readonly bytes: number; readonly bytesMax: number }
  /** What came back is not a signature by the key that it was asked of. */
  | { readonly code: 'KEYRING_SIGNATURE_INVALID' }
  /** The key was closed. */
  | { readonly code: 'KEYRING_CLOSED' }

export class KeyringError extends KoinonError<KeyringFault> {
  override readonly name = 'KeyringError'
}
