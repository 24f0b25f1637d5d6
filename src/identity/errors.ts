/** What can be wrong with an identity that was read from outside. */
import { KoinonError } from '#base'

export type IdentityFault =
  /** The key file is damaged, or something else. */
  | { readonly code: 'IDENTITY_KEY_INVALID' }
  /** The key file was written by a later version. */
  | { readonly code: 'IDENTITY_KEY_VERSION'; readonly version: string }

export class IdentityError extends KoinonError<IdentityFault> {
  override readonly name = 'IdentityError'
}
