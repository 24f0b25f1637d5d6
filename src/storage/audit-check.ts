/**
 * Checks an audit log from its first entry to its last: numbers, chain, hashes, what was pruned, and every signature.
 *
 * What a log that passes proves: nobody without the node's key has changed, removed, added or moved an entry up to the
 * last one that this key has signed. It does not prove that nothing was cut off behind that, that the file is not an
 * older copy of itself, or that the holder of the key told the truth.
 *
 * Trust comes from the node's present key alone: its last signature covers everything before it. Signatures of former
 * keys (by the hand-overs in the same file) must hold too, but nothing counts as signed because of them.
 */
import type { DatabaseSync } from 'node:sqlite'
import { toHex } from '#base'
import {
  ED25519_PUBLIC_BYTES,
  ED25519_SIGNATURE_BYTES,
  type Ed25519Verifier,
  ed25519Verifier,
  equalInConstantTime,
  peerOfPublicKey,
  publicKeyOfPeer,
  SHA256_BYTES,
} from '#crypto'
import {
  checkpointMessage,
  decodeFacts,
  ENTRY_COLUMNS,
  FIRST_PREVIOUS,
  hashEntry,
  storedEntryOf,
  utf8,
} from './audit-entry.ts'
import { LOG_PRUNED } from './audit-log.ts'
import { prepareFormerIds } from './peer-key-store.ts'
import { bytesOf, integerOf, prepareRead, type Row } from './rows.ts'

export type AuditVerdict = {
  readonly ok: boolean
  /** Entries that were found good. */
  readonly entries: number
  /** Signatures that were found good. */
  readonly checkpoints: number
  /** Entries behind the last one that the node's key has signed: they hold together, but nobody vouches for them. */
  readonly unsigned: number
  /** The peer id whose key the signatures were checked with; left out: no node has named one. */
  readonly signer?: string
  /** The last end that this key has signed. Whoever notes it down can tell later whether the log was cut before it. */
  readonly lastCheckpoint?: { readonly seq: number; readonly at: number; readonly hash: string }
  /** The first entry that is not as it was written, and why. 0: the record of what was pruned. */
  readonly firstBad?: { readonly seq: number; readonly what: string }
}

/** Ends a check: what was found bad. */
type Bad = { readonly seq: bigint; readonly what: string }

/**
 * Reads all entries once, in about 10 µs each. The connection must be in a transaction if another one writes.
 * @param signer the peer id whose key must have signed; left out: the one that the file names
 */
export function checkAuditLog(database: DatabaseSync, signer?: string): AuditVerdict {
  return new AuditCheck(database, signer).run()
}

class AuditCheck {
  readonly #database: DatabaseSync
  readonly #state: Row | undefined
  readonly #signer: string | undefined
  /** By public key in hexadecimal: the present key and the former ones. */
  readonly #keys = new Map<string, Ed25519Verifier>()
  #entries = 0
  #checkpoints = 0
  #seq = 0n
  #hash: Uint8Array = FIRST_PREVIOUS
  #signedSeq: bigint
  #last: AuditVerdict['lastCheckpoint']

  constructor(database: DatabaseSync, signer: string | undefined) {
    this.#database = database
    this.#state = prepareRead(
      database,
      'SELECT anchor_seq, substr(anchor_hash, 1, 64) AS anchor_hash, substr(signer, 1, 64) AS signer FROM audit_state WHERE id = 1',
    ).get()
    const key = this.#state === undefined ? undefined : bytesOf(this.#state, 'signer', ED25519_PUBLIC_BYTES)
    this.#signer = signer ?? (key === undefined ? undefined : peerOfPublicKey(key))
    this.#signedSeq = 0n
    if (this.#signer === undefined) return
    for (const peer of [this.#signer, ...prepareFormerIds(database)(this.#signer)]) {
      const publicKey = publicKeyOfPeer(peer)
      if (publicKey !== undefined) this.#keys.set(toHex(publicKey), ed25519Verifier(publicKey))
    }
  }

  run(): AuditVerdict {
    const bad = this.#checkAll()
    const unsigned = Number(this.#seq - (this.#signedSeq < this.#seq ? this.#signedSeq : this.#seq))
    return {
      ok: bad === undefined,
      entries: this.#entries,
      checkpoints: this.#checkpoints,
      unsigned: Math.min(unsigned, this.#entries),
      ...(this.#signer === undefined ? {} : { signer: this.#signer }),
      ...(this.#last === undefined ? {} : { lastCheckpoint: this.#last }),
      ...(bad === undefined ? {} : { firstBad: { seq: Number(bad.seq), what: bad.what } }),
    }
  }

  #checkAll(): Bad | undefined {
    const anchorSeq = this.#state === undefined ? undefined : integerOf(this.#state, 'anchor_seq')
    const anchorHash = this.#state === undefined ? undefined : bytesOf(this.#state, 'anchor_hash', SHA256_BYTES)
    if (anchorSeq === undefined || anchorHash === undefined) {
      return { seq: 0n, what: 'the record of what was pruned is missing or damaged' }
    }
    this.#seq = BigInt(anchorSeq)
    this.#hash = anchorHash
    let pruned = { through: 0, hash: toHex(FIRST_PREVIOUS) }
    const checkpoints = this.#checkpointRows()
    let checkpoint = checkpoints.next()
    for (const row of prepareRead(this.#database, `SELECT ${ENTRY_COLUMNS} FROM audit ORDER BY seq`).iterate()) {
      const next = checkpoint.done === true ? undefined : checkpoint.value['seq']
      if (typeof next === 'bigint' && next <= this.#seq) return danglingCheckpoint(next)
      const bad = this.#checkEntry(row)
      if (bad !== undefined) return bad
      pruned = prunedOf(row) ?? pruned
      if (checkpoint.done === true || next !== this.#seq) continue
      const badSignature = this.#checkCheckpoint(checkpoint.value)
      if (badSignature !== undefined) return badSignature
      checkpoint = checkpoints.next()
    }
    if (checkpoint.done !== true) return this.#checkEnd(checkpoint.value)
    if (pruned.through !== anchorSeq || pruned.hash !== toHex(anchorHash)) {
      return { seq: BigInt(anchorSeq), what: 'the entries before the first one were not pruned by the node' }
    }
    return undefined
  }

  #checkEntry(row: Row): Bad | undefined {
    const expected = this.#seq + 1n
    const entry = storedEntryOf(row)
    if (entry === undefined) return { seq: expected, what: 'the entry is damaged' }
    if (entry.seq > expected) return { seq: expected, what: `entries ${expected} to ${entry.seq - 1n} are missing` }
    if (entry.seq < expected) return { seq: entry.seq, what: 'the entry is one of those that were pruned' }
    if (!equalInConstantTime(hashEntry(entry), entry.hash)) return { seq: entry.seq, what: 'the entry was changed' }
    if (!equalInConstantTime(entry.previous, this.#hash)) {
      return { seq: entry.seq, what: 'the entry does not follow the one before it' }
    }
    this.#seq = entry.seq
    this.#hash = entry.hash
    this.#entries++
    return undefined
  }

  #checkpointRows(): Iterator<Row> {
    return prepareRead(
      this.#database,
      `SELECT seq, at, substr(hash, 1, 64) AS hash, substr(public_key, 1, 64) AS public_key,
         substr(signature, 1, 128) AS signature FROM audit_checkpoints ORDER BY seq`,
    ).iterate()
  }

  #checkCheckpoint(row: Row): Bad | undefined {
    const { at } = row
    const hash = bytesOf(row, 'hash', SHA256_BYTES)
    const publicKey = bytesOf(row, 'public_key', ED25519_PUBLIC_BYTES)
    const signature = bytesOf(row, 'signature', ED25519_SIGNATURE_BYTES)
    const bad = (what: string): Bad => ({ seq: this.#seq, what })
    if (typeof at !== 'bigint' || hash === undefined || publicKey === undefined || signature === undefined) {
      return bad('the signature of this entry is damaged')
    }
    if (!equalInConstantTime(hash, this.#hash)) return bad('the signature is of another entry with this number')
    const verifier = this.#keys.get(toHex(publicKey))
    if (verifier === undefined)
      return bad(`the signature is by another key than the node's (${peerOfPublicKey(publicKey)})`)
    if (!verifier.verify(checkpointMessage(this.#seq, at, hash), signature)) return bad('the signature does not hold')
    this.#checkpoints++
    if (peerOfPublicKey(publicKey) !== this.#signer) return undefined
    this.#signedSeq = this.#seq
    this.#last = { seq: Number(this.#seq), at: Number(at), hash: toHex(hash) }
    return undefined
  }

  /** A signature of something that the entries do not reach. */
  #checkEnd(row: Row): Bad {
    const seq = typeof row['seq'] === 'bigint' ? row['seq'] : 0n
    if (seq <= this.#seq) return danglingCheckpoint(seq)
    const end = this.#seq
    return {
      seq: end + 1n,
      what: `the log ends with entry ${end}, but the node has signed entry ${seq}: the end was cut off`,
    }
  }
}

function danglingCheckpoint(seq: bigint): Bad {
  return { seq, what: 'there is a signature of an entry that is not kept' }
}

const LOG_PRUNED_BYTES = utf8(LOG_PRUNED)

/** What a `log-pruned` entry says. */
function prunedOf(row: Row): { readonly through: number; readonly hash: string } | undefined {
  const { kind, facts: bytes } = row
  if (!(kind instanceof Uint8Array && bytes instanceof Uint8Array)) return undefined
  if (!equalInConstantTime(kind, LOG_PRUNED_BYTES)) return undefined
  const facts = decodeFacts(bytes)
  const [through, hash] = [facts?.['through'], facts?.['hash']]
  return typeof through === 'number' && typeof hash === 'string' ? { through, hash } : undefined
}
