/**
 * The secret that makes a node's keys, and how they follow from it.
 *
 * A seed phrase is 24 English words for 32 bytes, the *root* (BIP 39's words and checksum; not its PBKDF2). Of it there
 * are numbered node keys, so that a rotation takes the next number and one phrase restores them all:
 *
 *   seed of node key i       = HKDF-SHA256(root, salt = none, info = 'koinon/node-key/1' ‖ i as big-endian u32, 32 bytes)
 *   Ed25519 private key      = that seed (RFC 8032)
 *   ML-DSA-65 seed           = HKDF-SHA256(seed, salt = none, info = 'koinon/ml-dsa-65/1', 32 bytes)
 *
 * Nobody gets from the seed of one key to the root or to another key. A key that was imported as 32 bytes is a seed
 * without a root.
 */
import { assert, concatBytes, type Random } from '#base'
import {
  ED25519_SEED_BYTES,
  entropyOfWords,
  hkdfSha256,
  ML_DSA_65_SEED_BYTES,
  SEED_WORDS,
  wordsOfEntropy,
} from '#crypto'
import { IdentityError } from './errors.ts'
import { KEY_INDEX_MAX } from './limits.ts'

/** Bytes of a root and of a seed. */
export const SECRET_BYTES = 32

const NODE_KEY_LABEL = new TextEncoder().encode('koinon/node-key/1')
const ML_DSA_LABEL = new TextEncoder().encode('koinon/ml-dsa-65/1')
const NO_SALT = new Uint8Array(0)

/** Never logged, never sent. */
export type NodeSecret =
  /** Key number `index` of the seed phrase whose 32 bytes `root` is. */
  | { readonly kind: 'root'; readonly root: Uint8Array; readonly index: number }
  /** A key from elsewhere: the 32 bytes of RFC 8032's private key. */
  | { readonly kind: 'seed'; readonly seed: Uint8Array }

/** A new root, and its first key. */
export function newSecret(random: Random): NodeSecret {
  return { kind: 'root', root: random.bytes(SECRET_BYTES), index: 0 }
}

/**
 * The secret of the key that a rotation goes to: the next one of the seed phrase, or the first one of a new phrase where
 * there was none.
 * @throws IdentityError IDENTITY_KEYS_EXHAUSTED
 */
export function nextSecret(secret: NodeSecret, random: Random): NodeSecret {
  if (secret.kind === 'seed') return newSecret(random)
  if (secret.index >= KEY_INDEX_MAX) {
    throw new IdentityError(
      { code: 'IDENTITY_KEYS_EXHAUSTED' },
      'the seed phrase has no further key: start with a new phrase',
    )
  }
  return { ...secret, index: secret.index + 1 }
}

/** 24 words; undefined for a key that came without a phrase. They are a secret. */
export function seedPhraseOf(secret: NodeSecret): string | undefined {
  return secret.kind === 'root' ? wordsOfEntropy(secret.root) : undefined
}

/**
 * @param index which key of the phrase: 0 until it is rotated
 * @throws IdentityError IDENTITY_PHRASE_INVALID, whose message does not repeat the words
 */
export function secretOfPhrase(words: string, index = 0): NodeSecret {
  assert(Number.isInteger(index) && index >= 0 && index <= KEY_INDEX_MAX, 'a key number')
  const root = entropyOfWords(words)
  if (root instanceof Uint8Array) return { kind: 'root', root, index }
  const { problem } = root
  const facts = problem === 'word' ? { problem, position: root.position } : { problem }
  const sentence = {
    count: `a seed phrase has ${SEED_WORDS} words`,
    word: `word ${problem === 'word' ? root.position : 0} is not one of the words that seed phrases are made of`,
    checksum: 'the words do not belong together: one of them is another word, or two have changed places',
  }[problem]
  throw new IdentityError({ code: 'IDENTITY_PHRASE_INVALID', ...facts }, sentence)
}

/** The 32 bytes that are the Ed25519 private key. */
export function seedOf(secret: NodeSecret): Uint8Array {
  if (secret.kind === 'seed') return secret.seed
  const index = new Uint8Array(4)
  new DataView(index.buffer).setUint32(0, secret.index)
  return hkdfSha256(secret.root, NO_SALT, concatBytes([NODE_KEY_LABEL, index]), ED25519_SEED_BYTES)
}

/** The 32 bytes that make the ML-DSA-65 key beside it. */
export function mlDsaSeedOf(secret: NodeSecret): Uint8Array {
  return hkdfSha256(seedOf(secret), NO_SALT, ML_DSA_LABEL, ML_DSA_65_SEED_BYTES)
}
