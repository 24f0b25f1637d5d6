/**
 * Entries of the audit log and what is hashed and signed of them. Pure: values in, bytes out.
 *
 *   hash of entry n      = SHA-256(parts("koinon/audit-entry/1", seq, at, kind, peer, facts, hash of entry n - 1))
 *   signed checkpoint    = parts("koinon/audit-checkpoint/1", seq, at, hash of entry seq)
 *
 * `parts` puts a length (u32, big-endian) before every part; numbers are 8 bytes, big-endian. Texts are hashed as the
 * bytes in the file, so that no two files that differ have the same hashes. Entry 1 follows 32 zero bytes.
 */
import { SHA256_BYTES, sha256 } from '#crypto'
import { AUDIT_FACTS_BYTES_MAX, AUDIT_NAME_CHARS_MAX, AUDIT_TEXT_CHARS_MAX } from './limits.ts'
import type { Row } from './rows.ts'

export type AuditFacts = Readonly<Record<string, string | number | boolean>>

export type AuditEntry = {
  /** From 1, without gaps. */
  readonly seq: number
  /** Unix milliseconds. */
  readonly at: number
  readonly kind: string
  readonly peer?: string
  readonly facts: AuditFacts
  /** SHA-256 of the entry and all before it, hexadecimal. */
  readonly hash: string
  /** The row does not read as an entry: somebody has changed it. */
  readonly isDamaged?: true
}

/** The columns of one row, as they are in the file. */
export type StoredEntry = {
  readonly seq: bigint
  readonly at: bigint
  readonly kind: Uint8Array
  readonly peer: Uint8Array
  readonly facts: Uint8Array
  readonly previous: Uint8Array
}

/**
 * Text columns as bytes; none where there are more than an entry may hold: the file may come from somebody who wants us
 * to choke.
 */
export const ENTRY_COLUMNS = `seq, at, ${bytesUpTo('kind', 256)}, ${bytesUpTo('peer', 1024)}, ${bytesUpTo('facts', 4096)},
  ${bytesUpTo('previous', SHA256_BYTES)}, ${bytesUpTo('hash', SHA256_BYTES)}`

export const FIRST_PREVIOUS = new Uint8Array(SHA256_BYTES)

const ENTRY_DOMAIN = utf8('koinon/audit-entry/1')
const CHECKPOINT_DOMAIN = utf8('koinon/audit-checkpoint/1')

export function hashEntry({ seq, at, kind, peer, facts, previous }: StoredEntry): Uint8Array<ArrayBuffer> {
  return sha256(parts([ENTRY_DOMAIN, eightBytes(seq), eightBytes(at), kind, peer, facts, previous]))
}

/** What the node's key signs. */
export function checkpointMessage(seq: bigint, at: bigint, hash: Uint8Array): Uint8Array {
  return parts([CHECKPOINT_DOMAIN, eightBytes(seq), eightBytes(at), hash])
}

/** A row as it was stored; undefined: its columns are not what they should be. */
export function storedEntryOf(row: Row): (StoredEntry & { readonly hash: Uint8Array }) | undefined {
  const { seq, at, kind, peer, facts, previous, hash } = row
  if (typeof seq !== 'bigint' || typeof at !== 'bigint') return undefined
  if (!(kind instanceof Uint8Array && peer instanceof Uint8Array && facts instanceof Uint8Array)) return undefined
  if (!(previous instanceof Uint8Array && hash instanceof Uint8Array)) return undefined
  if (previous.byteLength !== SHA256_BYTES || hash.byteLength !== SHA256_BYTES) return undefined
  return { seq, at, kind, peer, facts, previous, hash }
}

/**
 * Facts as JSON in one way only: names sorted by code unit, no white space, text well-formed. Long texts are cut, and
 * facts that do not fit any more are left out: an entry is small whatever it is given.
 */
export function encodeFacts(facts: AuditFacts): string {
  const members: string[] = []
  let size = 2
  for (const name of Object.keys(facts).sort()) {
    const member = `${JSON.stringify(short(name, AUDIT_NAME_CHARS_MAX))}:${JSON.stringify(plain(facts[name]))}`
    const memberSize = utf8(member).byteLength + 1
    if (size + memberSize > AUDIT_FACTS_BYTES_MAX) continue
    size += memberSize
    members.push(member)
  }
  return `{${members.join(',')}}`
}

/** Undefined: not what `encodeFacts` makes. */
export function decodeFacts(bytes: Uint8Array): AuditFacts | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    const isPlain = Object.values(value).every(fact => ['string', 'number', 'boolean'].includes(typeof fact))
    return isPlain ? (value as AuditFacts) : undefined
  } catch {
    return undefined // Not JSON, or not UTF-8: the row was changed.
  }
}

/** Text as it is stored: well-formed and short. */
export function short(text: string, charsMax: number): string {
  return text.slice(0, charsMax).toWellFormed()
}

export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text)
}

function bytesUpTo(column: string, max: number): string {
  return `CASE WHEN length(CAST(${column} AS BLOB)) <= ${max} THEN CAST(${column} AS BLOB) END AS ${column}`
}

function plain(value: string | number | boolean | undefined): string | number | boolean {
  if (typeof value === 'string') return short(value, AUDIT_TEXT_CHARS_MAX)
  // JSON has no infinities.
  return typeof value === 'boolean' || Number.isFinite(value) ? (value as number | boolean) : String(value)
}

function eightBytes(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigInt64(0, value)
  return bytes
}

function parts(list: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(list.reduce((size, part) => size + 4 + part.byteLength, 0))
  const view = new DataView(whole.buffer)
  let offset = 0
  for (const part of list) {
    view.setUint32(offset, part.byteLength)
    whole.set(part, offset + 4)
    offset += 4 + part.byteLength
  }
  return whole
}
