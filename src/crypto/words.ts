/** Secrets that people can write down: 24 English words for 32 bytes, the last eight bits a checksum (BIP 39). */
import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39'
import { wordlist } from '@scure/bip39/wordlists/english.js'

/** Words of a seed phrase. */
export const SEED_WORDS = 24

const KNOWN: ReadonlySet<string> = new Set(wordlist)

/** @param entropy 32 bytes */
export function wordsOfEntropy(entropy: Uint8Array): string {
  return entropyToMnemonic(entropy, wordlist)
}

/** Why words are no seed phrase. `position` counts from 1; the word itself is a part of a secret. */
export type WordsFault =
  | { readonly problem: 'count'; readonly count: number }
  | { readonly problem: 'word'; readonly position: number }
  | { readonly problem: 'checksum' }

/** Reads 24 words, whatever their case and the space between them. */
export function entropyOfWords(text: string): Uint8Array | WordsFault {
  const words = text.normalize('NFKD').toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length !== SEED_WORDS) return { problem: 'count', count: words.length }
  const unknown = words.findIndex(word => !KNOWN.has(word))
  if (unknown >= 0) return { problem: 'word', position: unknown + 1 }
  try {
    return mnemonicToEntropy(words.join(' '), wordlist)
  } catch {
    return { problem: 'checksum' } // Count and words are right: nothing else is left for the library to refuse.
  }
}
