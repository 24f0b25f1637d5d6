/** Stored values of BEP 44: where they lie, what is signed, and how both are checked. */
import type { BencodeValue } from '#formats'
import { concatBytes, toHex } from '#base'
import { ed25519Verifier, sha1 } from '#crypto'
import type { AnsweredItem } from './krpc.ts'
import type { MutableItem } from './types.ts'

const utf8 = new TextEncoder()

/** SHA-1 of the bencoded value. */
export function immutableTarget(valueBytes: Uint8Array): Uint8Array {
  return sha1(valueBytes)
}

/** SHA-1 of the key and the salt behind it. */
export function mutableTarget(publicKey: Uint8Array, salt: Uint8Array): Uint8Array {
  return sha1(concatBytes([publicKey, salt]))
}

/** What is signed: salt, where there is one, number and value, bencoded as in a dictionary but without its ends. */
export function signedBytes(item: {
  readonly salt: Uint8Array
  readonly seq: number
  readonly valueBytes: Uint8Array
}): Uint8Array {
  const { salt, seq, valueBytes } = item
  const saltParts = salt.byteLength === 0 ? [] : [utf8.encode(`4:salt${salt.byteLength}:`), salt]
  return concatBytes([...saltParts, utf8.encode(`3:seqi${seq}e1:v`), valueBytes])
}

export function isSignatureRight(item: Omit<MutableItem, 'value'>): boolean {
  return ed25519Verifier(item.publicKey).verify(signedBytes(item), item.signature)
}

/** The item of an answer where it is what was asked for; undefined for anything else. */
export function checkMutable(
  answered: AnsweredItem,
  asked: { readonly publicKey: Uint8Array; readonly salt: Uint8Array },
): MutableItem | undefined {
  const { value, valueBytes, signature, seq, publicKey } = answered
  if (signature === undefined || seq === undefined || publicKey === undefined) return undefined
  if (toHex(publicKey) !== toHex(asked.publicKey)) return undefined
  const item: MutableItem = { value, valueBytes, signature, seq, ...asked }
  return isSignatureRight(item) ? item : undefined
}

export function checkImmutable(answered: AnsweredItem, target: Uint8Array): BencodeValue | undefined {
  return toHex(immutableTarget(answered.valueBytes)) === toHex(target) ? answered.value : undefined
}
