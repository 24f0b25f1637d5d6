/** Handshake patterns as data (Noise rev 34, section 7): what each message of a handshake carries, in order. */

/**
 * `e`, `s`: a public key. `ee`, `es`, `se`: a Diffie-Hellman result. `e1`: a KEM public key; `ekem1`: a KEM ciphertext
 * and its secret ("KEM-based Hybrid Forward Secrecy for Noise", revision 1, section 4).
 */
export type Token = 'e' | 's' | 'ee' | 'es' | 'se' | 'e1' | 'ekem1'

export type HandshakePattern = {
  /** The whole protocol name: both sides hash it first. */
  readonly protocolName: string
  /** Tokens of each message. The initiator writes the first, then the two take turns. */
  readonly messages: readonly (readonly Token[])[]
}

/** XX with hybrid forward secrecy: what koinon speaks. Both static keys travel encrypted. */
export const XX_HFS: HandshakePattern = {
  protocolName: 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256',
  messages: [
    ['e', 'e1'],
    ['e', 'ee', 'ekem1', 's', 'es'],
    ['s', 'se'],
  ],
}
