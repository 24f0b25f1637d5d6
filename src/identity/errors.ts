/** What can be wrong with an identity that was read from outside. */
import { KoinonError } from '#base'

export type IdentityFault =
  /** The key file is damaged, or something else. */
  | { readonly code: 'IDENTITY_KEY_INVALID' }
  /** The key file was written by a later version. */
  | { readonly code: 'IDENTITY_KEY_VERSION'; readonly version: string }
  /** The key file asks for more memory or time than this program spends on one. */
  | { readonly code: 'IDENTITY_KEY_COST' }
  /** The key file is encrypted and no passphrase was given. */
  | { readonly code: 'IDENTITY_PASSPHRASE_NEEDED' }
  /** The key file is whole, and the passphrase does not open it. */
  | { readonly code: 'IDENTITY_PASSPHRASE_WRONG' }
  /** A new passphrase that is too short, or too long. */
  | { readonly code: 'IDENTITY_PASSPHRASE_LENGTH'; readonly charsMin: number; readonly charsMax: number }
  /** Words that are no seed phrase. `position` of the first unknown word, from 1. */
  | {
      readonly code: 'IDENTITY_PHRASE_INVALID'
      readonly problem: 'count' | 'word' | 'checksum'
      readonly position?: number
    }
  /** The seed phrase has no further key. */
  | { readonly code: 'IDENTITY_KEYS_EXHAUSTED' }

export class IdentityError extends KoinonError<IdentityFault> {
  override readonly name = 'IdentityError'
}
