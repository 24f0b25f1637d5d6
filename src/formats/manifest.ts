/**
 * What the one who adds a model says about it. Its bytes are settled by the core alone (PROOF-1): a manifest names the
 * core, and adds what no file says. The signature around it is made elsewhere; here is the payload:
 *
 *   dag-cbor { version: 1, model: SHA-256 of the core (32), infoHash: SHA-256 of the torrent's info (32), name,
 *              architecture, layerCount, licence?, createdAt: Unix ms, previous?: model id (32), card }
 *
 * Fields that are not there are left out. A version that is not known is refused, never guessed at.
 */
import { encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { fromHex, toHex } from '#base'
import { SHA256_BYTES } from '#crypto'
import { decodeCanonicalCbor } from './canonical-cbor.ts'
import { bytesOf, cardSchema, label, type ModelCard, TEST_VECTOR_VERSION } from './card.ts'
import { caught, type DescriptionFault, refusal } from './errors.ts'
import {
  MANIFEST_ARCHITECTURE_CHARS_MAX,
  MANIFEST_BYTES_MAX,
  MANIFEST_LICENCE_CHARS_MAX,
  MANIFEST_NAME_CHARS_MAX,
  MODEL_LAYERS_MAX,
} from './limits.ts'
import { parseCore } from './core.ts'
import { layerCountOf } from './ranges.ts'
import { torrentOf } from './torrent.ts'

export type ModelManifest = {
  /** Model id: SHA-256 of the core, 64 hexadecimal digits. */
  readonly model: string
  /** BitTorrent v2 info-hash, 64 hexadecimal digits: with it the core can be fetched. */
  readonly infoHash: string
  /** A label. */
  readonly name: string
  /** As the file's metadata says it: "llama", "gemma3". */
  readonly architecture: string
  readonly layerCount: number
  /** A name, or where it can be read. */
  readonly licence?: string | undefined
  /** Unix milliseconds. */
  readonly createdAt: number
  /** Model id of the version before. */
  readonly previous?: string | undefined
  readonly card: ModelCard
}

const MANIFEST_VERSION = 1
const DIGITS = 2 * SHA256_BYTES

const hash = bytesOf(SHA256_BYTES)
const wireSchema = z.strictObject({
  version: z.literal(MANIFEST_VERSION),
  model: hash,
  infoHash: hash,
  name: label(MANIFEST_NAME_CHARS_MAX),
  architecture: label(MANIFEST_ARCHITECTURE_CHARS_MAX).regex(/^[\w.-]+$/),
  layerCount: z.int().min(1).max(MODEL_LAYERS_MAX),
  licence: label(MANIFEST_LICENCE_CHARS_MAX).optional(),
  createdAt: z.int().min(0),
  previous: hash.optional(),
  card: cardSchema,
})

/**
 * The payload that is signed.
 * @throws FormatError FORMAT_MANIFEST_MALFORMED, FORMAT_MANIFEST_LIMIT for what others would refuse
 */
export function encodeManifest(manifest: ModelManifest): Uint8Array {
  const { model, infoHash, previous, licence, card, ...facts } = manifest
  if (![model, infoHash, previous ?? model].every(isHash)) throw malformed('an id of 64 hexadecimal digits')
  const { testVector, ...shown } = card
  // An optional field without a value is left out: dag-cbor has no undefined.
  const wire = {
    ...facts,
    version: MANIFEST_VERSION,
    model: fromHex(model),
    infoHash: fromHex(infoHash),
    ...(previous === undefined ? {} : { previous: fromHex(previous) }),
    ...(licence === undefined ? {} : { licence }),
    card: testVector === undefined ? shown : card,
  }
  refuseUnfit(wire)
  const bytes = encode(wire)
  refuseLong(bytes)
  return bytes
}

/** Reads a payload whose signature was checked. */
export function decodeManifest(bytes: Uint8Array): ModelManifest | DescriptionFault {
  return caught(() => parseManifest(bytes))
}

/** As `decodeManifest`. @throws FormatError FORMAT_MANIFEST_… */
export function parseManifest(bytes: Uint8Array): ModelManifest {
  refuseLong(bytes)
  const value = decodeCanonicalCbor(bytes)
  refuseVersions(value)
  const { version: _, model, infoHash, previous, ...rest } = refuseUnfit(value)
  return {
    ...rest,
    model: toHex(model),
    infoHash: toHex(infoHash),
    ...(previous === undefined ? {} : { previous: toHex(previous) }),
  }
}

/**
 * Whether a manifest speaks of the model whose core this is. What a core cannot show (the architecture) stays to be held
 * against the file's header.
 * @returns undefined: it does
 */
export function checkManifest(manifest: ModelManifest, core: Uint8Array): DescriptionFault | undefined {
  const facts = caught(() => ({ core: parseCore(core), torrent: torrentOf(core) }))
  if ('code' in facts) return facts
  const isSame =
    facts.core.id === manifest.model &&
    toHex(facts.torrent.infoHash) === manifest.infoHash &&
    layerCountOf(facts.core) === manifest.layerCount
  return isSame ? undefined : { code: 'FORMAT_MANIFEST_MISMATCH', what: 'a manifest of another model' }
}

/** Said before anything else is looked at: fields of a later version are not errors of this one. */
function refuseVersions(value: unknown): void {
  const version = versionIn(value)
  if (version !== undefined && version !== MANIFEST_VERSION) {
    throw refusal('FORMAT_MANIFEST_VERSION', `a manifest of version ${version}; version 1 is known: update Koinon`)
  }
  const vector = versionIn(fieldOf(fieldOf(value, 'card'), 'testVector'))
  if (vector !== undefined && vector !== TEST_VECTOR_VERSION) {
    throw refusal('FORMAT_MANIFEST_VERSION', `a test vector of version ${vector}; version 1 is known: update Koinon`)
  }
}

function refuseUnfit(value: unknown): z.infer<typeof wireSchema> {
  const parsed = wireSchema.safeParse(value)
  if (parsed.success) return parsed.data
  throw malformed(parsed.error.issues[0]?.path.map(String).join('.') || 'its form')
}

function refuseLong(bytes: Uint8Array): void {
  if (bytes.byteLength <= MANIFEST_BYTES_MAX) return
  const what = `a manifest of ${bytes.byteLength} bytes; at most ${MANIFEST_BYTES_MAX} are possible`
  throw refusal('FORMAT_MANIFEST_LIMIT', what)
}

function versionIn(value: unknown): number | undefined {
  const version = fieldOf(value, 'version')
  return typeof version === 'number' ? version : undefined
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}

function isHash(text: string): boolean {
  return text.length === DIGITS && /^[0-9a-f]+$/.test(text)
}

function malformed(what: string): Error {
  return refusal('FORMAT_MANIFEST_MALFORMED', `not a manifest that is taken: ${what.slice(0, 100)}`)
}
