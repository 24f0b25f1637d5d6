/**
 * Extended messages (BEP 10): the handshake, the info dictionary in chunks (BEP 9), and two of Koinon's own: the core and
 * the signed manifest in chunks of the same kind, and signed votes.
 */
import { concatBytes } from '#base'
import { type BencodeValue, decodeBencode, decodeBencodePrefix, encodeBencode, isDict } from '#formats'
import type { WireFault } from './errors.ts'
import { malformed, tooLarge } from './faults.ts'
import {
  AGENT_LENGTH_MAX,
  CHUNK_BYTES,
  CORE_BYTES_MAX,
  MANIFEST_BYTES_MAX,
  METADATA_BYTES_MAX,
  REQUESTS_BELIEVED_MAX,
  VOTE_BYTES_MAX,
  VOTES_A_MESSAGE_MAX,
  VOTES_BYTES_MAX,
  VOTES_TOLD_MAX,
} from './limits.ts'
import { EXTENSION_IDS, EXTENSION_NAMES, type ExtensionIds } from './protocol.ts'
import type { ChunkMessage, CoreDocument, ExtendedHandshake, Extension, ReceivedMessage } from './types.ts'

/** `msg_type` of BEP 9. */
const CHUNK_TYPES = ['request', 'data', 'reject'] as const
/** `doc` of koinon_core. */
const CORE_DOCUMENTS: readonly CoreDocument[] = ['core', 'manifest']
const VOTES_REQUEST = 0
const VOTES = 1

type Dict = { readonly [key: string]: BencodeValue }
type VotesMessage = Extract<ReceivedMessage, { kind: 'votes' | 'votes-request' }>

/** The most that a document of this kind may have, before anything of it is kept. */
const DOCUMENT_BYTES_MAX = {
  metadata: METADATA_BYTES_MAX,
  core: CORE_BYTES_MAX,
  manifest: MANIFEST_BYTES_MAX,
} as const

/** @param offered what this side takes */
export function encodeHandshake(says: ExtendedHandshake, offered: readonly Extension[]): Uint8Array {
  const m = Object.fromEntries(offered.map(name => [EXTENSION_NAMES[name], EXTENSION_IDS[name]]))
  const numbers = {
    metadata_size: says.metadataBytes,
    koinon_core_size: says.coreBytes,
    koinon_manifest_size: says.manifestBytes,
    koinon_votes: says.voteCount,
    reqq: says.requestsMax,
    p: says.listenPort,
  }
  const said = Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== undefined)) as Dict
  const agent = says.agent === undefined ? {} : { v: new TextEncoder().encode(says.agent) }
  return bencoded({ m, ...said, ...agent })
}

/** What the other side says, and the ids that it gave to its extensions. What makes no sense is left out, as BEP 10 wants. */
export function decodeHandshake(
  body: Uint8Array,
): { readonly says: ExtendedHandshake; readonly ids: ExtensionIds } | WireFault {
  const dict = decodeBencode(body)
  if (!isDict(dict)) return malformed('an extended handshake that is no dictionary')
  const m = isDict(dict['m']) ? dict['m'] : {}
  const says = {
    metadataBytes: whole(dict['metadata_size'], 1, METADATA_BYTES_MAX),
    coreBytes: whole(dict['koinon_core_size'], 1, CORE_BYTES_MAX),
    manifestBytes: whole(dict['koinon_manifest_size'], 1, MANIFEST_BYTES_MAX),
    voteCount: whole(dict['koinon_votes'], 0, VOTES_TOLD_MAX),
    requestsMax: requestsIn(dict['reqq']),
    listenPort: whole(dict['p'], 1, 65_535),
    agent: agentIn(dict['v']),
  }
  const id = (extension: Extension): number => whole(m[EXTENSION_NAMES[extension]], 0, 255) ?? 0
  return { says, ids: { metadata: id('metadata'), core: id('core'), votes: id('votes') } }
}

/** The dictionary, and the bytes of the chunk behind it, as they go into one message. */
export function encodeChunk(message: ChunkMessage, document?: CoreDocument): Uint8Array[] {
  const named = document === undefined ? {} : { doc: CORE_DOCUMENTS.indexOf(document) }
  const head = { msg_type: CHUNK_TYPES.indexOf(message.what), piece: message.chunk, ...named }
  if (message.what !== 'data') return [bencoded(head)]
  return [bencoded({ ...head, total_size: message.totalBytes }), message.bytes]
}

/** @returns undefined for a kind of message that is not known, which BEP 9 wants to be ignored */
export function decodeMetadata(body: Uint8Array): ReceivedMessage | undefined | WireFault {
  const parts = dictAndRest(body)
  if (parts === undefined) return malformed('a ut_metadata message that is no dictionary')
  const chunk = decodeChunk(parts, METADATA_BYTES_MAX)
  return chunk === undefined || 'code' in chunk ? chunk : { kind: 'metadata', ...chunk }
}

/** @returns undefined for a kind of message, or a document, that is not known */
export function decodeCore(body: Uint8Array): ReceivedMessage | undefined | WireFault {
  const parts = dictAndRest(body)
  if (parts === undefined) return malformed('a koinon_core message that is no dictionary')
  const at = whole(parts.dict['doc'], 0, Number.MAX_SAFE_INTEGER)
  if (at === undefined) return malformed('a koinon_core message that names no document')
  const document = CORE_DOCUMENTS[at]
  if (document === undefined) return undefined
  const chunk = decodeChunk(parts, DOCUMENT_BYTES_MAX[document])
  return chunk === undefined || 'code' in chunk ? chunk : { kind: 'core', document, ...chunk }
}

export function encodeVotes(message: VotesMessage): Uint8Array {
  if (message.kind === 'votes-request') return bencoded({ msg_type: VOTES_REQUEST, from: message.from })
  const { from, total, records } = message
  return bencoded({ msg_type: VOTES, from, total, votes: records })
}

/** @returns undefined for a kind of message that is not known */
export function decodeVotes(body: Uint8Array): ReceivedMessage | undefined | WireFault {
  const dict = decodeBencode(body)
  if (!isDict(dict)) return malformed('a koinon_votes message that is no dictionary')
  const from = whole(dict['from'], 0, VOTES_TOLD_MAX)
  if (dict['msg_type'] === VOTES_REQUEST) {
    return from === undefined ? malformed('a request for votes from nowhere') : { kind: 'votes-request', from }
  }
  if (dict['msg_type'] !== VOTES) return undefined
  const total = whole(dict['total'], 0, VOTES_TOLD_MAX)
  const records = recordsIn(dict['votes'])
  if (from === undefined || total === undefined || records === undefined || from + records.length > total) {
    return malformed('votes that are not the nth and those after it')
  }
  const bytes = records.reduce((sum, record) => sum + record.byteLength, 0)
  return bytes > VOTES_BYTES_MAX ? tooLarge('votes') : { kind: 'votes', from, total, records }
}

function recordsIn(value: BencodeValue | undefined): readonly Uint8Array[] | undefined {
  if (!Array.isArray(value) || value.length > VOTES_A_MESSAGE_MAX) return undefined
  const items: readonly BencodeValue[] = value
  const records = items.filter(
    (item): item is Uint8Array =>
      item instanceof Uint8Array && item.byteLength > 0 && item.byteLength <= VOTE_BYTES_MAX,
  )
  return records.length === items.length ? records.map(record => new Uint8Array(record)) : undefined
}

function decodeChunk(
  { dict, rest }: { readonly dict: Dict; readonly rest: Uint8Array },
  bytesMax: number,
): ChunkMessage | undefined | WireFault {
  const chunk = whole(dict['piece'], 0, Math.ceil(bytesMax / CHUNK_BYTES) - 1)
  const type = dict['msg_type']
  if (typeof type !== 'number') return malformed('a chunk message without a type')
  const what = CHUNK_TYPES[type]
  if (what === undefined) return undefined
  if (chunk === undefined) return malformed('a chunk that no document has')
  if (what !== 'data') return { what, chunk }
  const totalBytes = whole(dict['total_size'], 1, bytesMax)
  if (totalBytes === undefined) return tooLarge('a document')
  if (rest.byteLength === 0 || rest.byteLength !== Math.min(CHUNK_BYTES, totalBytes - chunk * CHUNK_BYTES)) {
    return malformed('a chunk of another length')
  }
  return { what, chunk, totalBytes, bytes: new Uint8Array(rest) }
}

function dictAndRest(body: Uint8Array): { readonly dict: Dict; readonly rest: Uint8Array } | undefined {
  const found = decodeBencodePrefix(body)
  if (found === undefined || !isDict(found.value)) return undefined
  return { dict: found.value, rest: body.subarray(found.end) }
}

/** Other programs say up to some thousands; more is not believed, and not counted as a fault. */
function requestsIn(value: BencodeValue | undefined): number | undefined {
  const count = whole(value, 1, Number.MAX_SAFE_INTEGER)
  return count === undefined ? undefined : Math.min(count, REQUESTS_BELIEVED_MAX)
}

function agentIn(value: BencodeValue | undefined): string | undefined {
  if (!(value instanceof Uint8Array)) return undefined
  const text = String.fromCharCode(...value.subarray(0, AGENT_LENGTH_MAX))
  return text.replace(/[^\x20-\x7e]/g, '?')
}

function whole(value: BencodeValue | undefined, min: number, max: number): number | undefined {
  return typeof value === 'number' && value >= min && value <= max ? value : undefined
}

function bencoded(value: Dict): Uint8Array {
  return encodeBencode(value) ?? concatBytes([])
}
