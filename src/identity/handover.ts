/**
 * Hand-over statements (KEYS-2): a node's old key says which key speaks for the node from now on.
 *
 *   statement = dag-cbor { body: bytes, new: signature (64), old: signature (64) }
 *   body      = dag-cbor { at: Unix ms, domain: 'koinon/handover/1', from: old public key (32), sequence, to: new (32) }
 *
 * Both keys sign the domain, a zero byte, and the body. Without the old key nobody can take a node over; without the new
 * one nobody can hand over to a key that is somebody else's and so speak in its name.
 *
 * The first rotation of a node has sequence 1, and each counts one more. A key hands over once: a second statement of
 * the same key is a fork, and whoever sees one knows that the key is in two hands.
 */
import { encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { assert, toHex } from '#base'
import { ED25519_PUBLIC_BYTES, ED25519_SIGNATURE_BYTES, ed25519Verifier, peerOfPublicKey } from '#crypto'
import { bytesOf, decodeCanonical } from './canonical.ts'
import type { KeyProvider } from './key-provider.ts'
import { CHAIN_STATEMENTS_MAX, STATEMENT_BYTES_MAX } from './limits.ts'
import { domainMessage } from './signed-message.ts'

const DOMAIN = 'koinon/handover/1'

/** One side of a hand-over. */
export type HandoverParty = {
  readonly peer: string
  /** 32 bytes. */
  readonly publicKey: Uint8Array
}

/** A statement whose two signatures hold. */
export type Handover = {
  readonly from: HandoverParty
  readonly to: HandoverParty
  /** Unix milliseconds, on the clock of the node that rotates. */
  readonly at: number
  /** How many rotations of the node this makes. */
  readonly sequence: number
}

/** One statement of a chain, by peer ids. */
export type HandoverLink = { readonly from: string; readonly to: string; readonly bytes: Uint8Array }

/** Statements that fit each other. */
export type HandoverChain = {
  /** Peer ids from the first key to the current one; none where there are no statements. */
  readonly peers: readonly string[]
  /** The oldest first. */
  readonly statements: readonly HandoverLink[]
}

/** Statements that prove nothing. */
export type HandoverFault = {
  readonly code: /** Too long, or nothing that parses. */
    | 'HANDOVER_MALFORMED'
    /** One of the two signatures does not hold. */
    | 'HANDOVER_SIGNATURE'
    /** More statements than one node may have. */
    | 'HANDOVER_TOO_MANY'
    /** A statement that does not go on where the one before it ended, in key, number or time. */
    | 'HANDOVER_GAP'
    /** A key that hands over twice. */
    | 'HANDOVER_FORK'
    /** A key that comes back. */
    | 'HANDOVER_LOOP'
  /** For people. */
  readonly what: string
}

type Signer = Pick<KeyProvider, 'publicKey' | 'sign'>

const bodySchema = z.strictObject({
  at: z.int().min(0),
  domain: z.literal(DOMAIN),
  from: bytesOf(ED25519_PUBLIC_BYTES),
  sequence: z.int().min(1),
  to: bytesOf(ED25519_PUBLIC_BYTES),
})

const statementSchema = z.strictObject({
  body: z.custom<Uint8Array>(value => value instanceof Uint8Array),
  new: bytesOf(ED25519_SIGNATURE_BYTES),
  old: bytesOf(ED25519_SIGNATURE_BYTES),
})

/**
 * Signs a hand-over with both keys.
 * @param handover.at Unix milliseconds, not before the last rotation
 * @param handover.sequence 1 for the first rotation of a node, then one more each time
 * @throws KeyringError where a token or service that holds one of the keys fails
 */
export async function createHandover(handover: {
  readonly from: Signer
  readonly to: Signer
  readonly at: number
  readonly sequence: number
}): Promise<Uint8Array> {
  const { from, to, at, sequence } = handover
  const body = encode({ at, domain: DOMAIN, from: from.publicKey, sequence, to: to.publicKey })
  const message = domainMessage(DOMAIN, body)
  const [old, fresh] = await Promise.all([from.sign(message), to.sign(message)])
  const bytes = encode({ body, new: fresh, old })
  assert(!('code' in verifyHandover(bytes)), 'a hand-over statement that others would refuse')
  return bytes
}

/** Checks one statement by itself. */
export function verifyHandover(bytes: Uint8Array): Handover | HandoverFault {
  if (bytes.byteLength > STATEMENT_BYTES_MAX) return malformed()
  const statement = decodeCanonical(statementSchema, bytes)
  const body = statement === undefined ? undefined : decodeCanonical(bodySchema, statement.body)
  if (statement === undefined || body === undefined) return malformed()
  const { from, to, at, sequence } = body
  if (toHex(from) === toHex(to)) return { code: 'HANDOVER_LOOP', what: 'a key that hands over to itself' }
  const message = domainMessage(DOMAIN, statement.body)
  if (!ed25519Verifier(from).verify(message, statement.old)) {
    return { code: 'HANDOVER_SIGNATURE', what: 'a hand-over that the old key has not signed' }
  }
  if (!ed25519Verifier(to).verify(message, statement.new)) {
    return { code: 'HANDOVER_SIGNATURE', what: 'a hand-over that the new key has not signed' }
  }
  return { from: partyOf(from), to: partyOf(to), at, sequence }
}

/**
 * Checks that statements form one chain. The last of its peers is the node's current key. It may begin at any rotation:
 * whether it goes through a key that the caller knows is the caller's question.
 * @param statements the oldest first
 */
export function verifyChain(statements: readonly Uint8Array[]): HandoverChain | HandoverFault {
  // Before any signature is checked: that is what statements cost.
  if (statements.length > CHAIN_STATEMENTS_MAX) {
    return { code: 'HANDOVER_TOO_MANY', what: `more than ${CHAIN_STATEMENTS_MAX} hand-over statements` }
  }
  const peers: string[] = []
  const links: HandoverLink[] = []
  let last: Handover | undefined
  for (const bytes of statements) {
    const next = verifyHandover(bytes)
    if ('code' in next) return next
    const fault = last === undefined ? undefined : stepFault(last, next, peers)
    if (fault !== undefined) return fault
    if (last === undefined) peers.push(next.from.peer)
    peers.push(next.to.peer)
    links.push({ from: next.from.peer, to: next.to.peer, bytes })
    last = next
  }
  return { peers, statements: links }
}

function stepFault(last: Handover, next: Handover, peers: readonly string[]): HandoverFault | undefined {
  if (next.from.peer !== last.to.peer) {
    return peers.includes(next.from.peer)
      ? { code: 'HANDOVER_FORK', what: 'a key that hands over twice' }
      : { code: 'HANDOVER_GAP', what: 'a hand-over by a key that was not the current one' }
  }
  if (peers.includes(next.to.peer)) return { code: 'HANDOVER_LOOP', what: 'a hand-over to a key that was given up' }
  if (next.sequence !== last.sequence + 1 || next.at < last.at) {
    return { code: 'HANDOVER_GAP', what: 'hand-overs whose numbers or times do not follow each other' }
  }
  return undefined
}

function partyOf(publicKey: Uint8Array): HandoverParty {
  return { peer: peerOfPublicKey(publicKey), publicKey }
}

function malformed(): HandoverFault {
  return { code: 'HANDOVER_MALFORMED', what: 'bytes that are no hand-over statement' }
}
