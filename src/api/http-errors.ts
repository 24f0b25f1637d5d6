/**
 * The one table from Koinon's error codes to HTTP: status, and OpenAI's own code where it has one. A code that is not
 * here is a 500 whose text says nothing of the inside.
 */
import { codeOf, KoinonError, messageOf } from '#base'
import type { DiscoveryFault, PeerFault } from '#discovery'
import type { EngineFault } from '#engine'
import type { FormatFault } from '#formats'
import type { IdentityFault } from '#identity'
import type { KadFault } from '#kad'
import type { KeyringFault } from '#keyring'
import type { MainlineFault } from '#mainline'
import type { NatFault } from '#nat'
import type { NetFault } from '#net'
import type { CommandFault, NodeFault } from '#node'
import type { ReachFault } from '#reach'
import type { PipelineFault } from '#pipeline'
import type { PlanFault } from '#planner'
import type { ProtocolFault, RefusalFault, SessionErrorFault, TransferFault } from '#protocol'
import type { StorageFault } from '#storage'
import type { SwarmFault } from '#swarm'
import type { OpenAiError } from '#wire'
import type { ApiFault } from './errors.ts'
import { BUSY_RETRY_AFTER_S } from './limits.ts'

type Row = {
  readonly status: number
  /** The code that OpenAI's clients know for this; else Koinon's own code is told. */
  readonly openAiCode?: string
  /** `Retry-After`, in seconds. */
  readonly retryAfterS?: number
  /** Leave the message out: it speaks of files, processes or other insides. */
  readonly isHidden?: true
}

const BUSY: Row = { status: 503, retryAfterS: BUSY_RETRY_AFTER_S }
const HIDDEN: Row = { status: 500, isHidden: true }

/** A machine on the route failed; the same request may well succeed on another route. */
const LOST: Row = { status: 502 }
const LATE: Row = { status: 504 }
/** Failed inside, but the sentence is for people and gives nothing away. */
const FAILED: Row = { status: 500 }
const BAD: Row = { status: 400 }
const ABSENT: Row = { status: 404 }
/** Well asked, but not as things are now. */
const CONFLICT: Row = { status: 409 }
const TOO_LONG: Row = { status: 400, openAiCode: 'context_length_exceeded' }
const NO_MODEL: Row = { status: 404, openAiCode: 'model_not_found' }

/** One row for each code of a union: a code without a status does not compile. */
type Rows<F extends { readonly code: string }> = Readonly<Record<F['code'], Row>>

const API: Rows<ApiFault> = {
  API_REQUEST_INVALID: { status: 400, openAiCode: 'invalid_value' },
  API_NOT_SUPPORTED: { status: 400, openAiCode: 'unsupported_parameter' },
  API_BODY_INVALID: { status: 400, openAiCode: 'invalid_json' },
  API_BODY_SIZE: { status: 413, openAiCode: 'request_too_large' },
  API_BODY_TYPE: { status: 415, openAiCode: 'unsupported_content_type' },
  API_ROUTE_UNKNOWN: { status: 404, openAiCode: 'unknown_url' },
  API_METHOD_REFUSED: { status: 405, openAiCode: 'method_not_allowed' },
  API_MODEL_UNKNOWN: NO_MODEL,
  API_HOST_REFUSED: { status: 403, openAiCode: 'host_refused' },
  API_ORIGIN_REFUSED: { status: 403, openAiCode: 'origin_refused' },
  API_STOPPING: BUSY,
  // Nobody reads these two: the connection is gone. 499 is the usual way to write that down.
  API_CLIENT_GONE: { status: 499 },
  API_CLIENT_SLOW: { status: 499 },
  API_LISTEN_FAILED: HIDDEN,
}

const BASE = {
  TIMEOUT: LATE,
  STREAM_CLOSED: LOST,
  STREAM_RESET: LOST,
  STREAM_TRUNCATED: LOST,
  STREAM_TAMPERED: LOST,
  STREAM_LOST: LOST,
} as const satisfies Readonly<Record<string, Row>>

const NODE: Rows<NodeFault | CommandFault> = {
  NODE_MODEL_UNKNOWN: NO_MODEL,
  NODE_NO_ROUTE: BUSY,
  NODE_CONTEXT_EXCEEDED: TOO_LONG,
  NODE_BUSY: { status: 429, retryAfterS: BUSY_RETRY_AFTER_S },
  NODE_DOES_NOT_FIT: FAILED,
  NODE_LAYERS_UNKNOWN: FAILED,
  NODE_PLACEMENT_TIMEOUT: BUSY,
  NODE_PROMPT_INVALID: BAD,
  NODE_COMMAND_UNKNOWN: BAD,
  NODE_PEER_UNKNOWN: BAD,
  NODE_DISCOVERY_OFF: CONFLICT,
  NODE_MODEL_AMBIGUOUS: CONFLICT,
  NODE_MODEL_INVALID: CONFLICT,
  NODE_MODEL_IN_USE: CONFLICT,
  NODE_QUOTA_FULL: FAILED,
  NODE_MODEL_CHANGED: CONFLICT,
  NODE_TORRENT_UNFIT: BAD,
  NODE_ADDRESS_INVALID: BAD,
  NODE_BITTORRENT_OFF: CONFLICT,
  NODE_HASHES_MISSING: CONFLICT,
  NODE_VOTE_REFUSED: CONFLICT,
  NODE_KEY_GIVEN_UP: HIDDEN,
  NODE_KEY_USED: BAD,
  NODE_KEY_FIXED: BAD,
  NODE_STOPPED: BUSY,
  NODE_STAGE_ONLY: BUSY,
  NODE_STAGE_NONE: CONFLICT,
  NODE_STAGE_IN_USE: CONFLICT,
  NODE_LAYERS_NOT_SERVED: CONFLICT,
  NODE_ROWS_INVALID: BAD,
  NODE_FILE_UNKNOWN: ABSENT,
  NODE_PIECE_UNKNOWN: ABSENT,
  NODE_FILE_CHANGED: CONFLICT,
  NODE_RATING_REFUSED: CONFLICT,
}

/** What peers do wrong is not told to clients; it is here so that no code is without a row. */
const DISCOVERY: Rows<DiscoveryFault | PeerFault> = {
  DISCOVERY_STOPPED: BUSY,
  DISCOVERY_BUSY: BUSY,
  DISCOVERY_ANNOUNCEMENT_INVALID: BAD,
  DISCOVERY_METADATA_NEWER: CONFLICT,
  DISCOVERY_METADATA_MALFORMED: LOST,
  DISCOVERY_METADATA_SIGNER: LOST,
  DISCOVERY_MALFORMED: LOST,
  DISCOVERY_IDENTITY: LOST,
  DISCOVERY_RECORD: LOST,
  DISCOVERY_ANNOUNCEMENT: LOST,
  DISCOVERY_ANNOUNCEMENT_CONFLICT: LOST,
  DISCOVERY_FLOOD: LOST,
}

/** What a search in the public DHTs meets. Sockets and addresses are the node's own business. */
const MAINLINE: Rows<MainlineFault> = {
  MAINLINE_LISTEN_FAILED: HIDDEN,
  MAINLINE_ADDRESS_INVALID: HIDDEN,
  MAINLINE_KEY_INVALID: BAD,
  MAINLINE_VALUE_INVALID: BAD,
  MAINLINE_ITEM_NEWER: CONFLICT,
  MAINLINE_BUSY: BUSY,
  MAINLINE_STOPPED: BUSY,
}

const KAD: Rows<KadFault> = {
  KAD_STOPPED: BUSY,
  KAD_NO_PEERS: BUSY,
  KAD_TIMEOUT: LATE,
  KAD_BUSY: BUSY,
  KAD_KEY_INVALID: BAD,
  KAD_RECORD_INVALID: BAD,
  KAD_RECORD_EXPIRED: BAD,
  KAD_RECORD_ROLLBACK: CONFLICT,
  KAD_QUORUM: LOST,
  KAD_NOT_FOUND: ABSENT,
  KAD_FULL: CONFLICT,
  KAD_PEER_REFUSED: LOST,
  KAD_BOOTSTRAP_FAILED: BUSY,
  KAD_PUZZLE_UNSOLVED: FAILED,
}

/** Commands between peers: our own refusals cross the wire under these codes, a peer's come as PROTOCOL_REMOTE. */
const PROTOCOL: Rows<ProtocolFault | SessionErrorFault | RefusalFault> = {
  PROTOCOL_UNKNOWN_TYPE: ABSENT,
  PROTOCOL_NOT_AUTHORISED: { status: 403 },
  PROTOCOL_RATE_LIMITED: { status: 429, retryAfterS: BUSY_RETRY_AFTER_S },
  PROTOCOL_BUSY: BUSY,
  PROTOCOL_DUPLICATE_ID: CONFLICT,
  PROTOCOL_ANSWER_LOST: LOST,
  PROTOCOL_BAD_REQUEST: BAD,
  PROTOCOL_ATTACHMENT_SIZE: { status: 413 },
  PROTOCOL_DEADLINE: LATE,
  PROTOCOL_CANCELLED: { status: 499 },
  PROTOCOL_STOPPING: BUSY,
  PROTOCOL_INTERNAL: HIDDEN,
  PROTOCOL_REMOTE: LOST,
  PROTOCOL_BAD_RESPONSE: LOST,
  PROTOCOL_CONNECTION_LOST: LOST,
  PROTOCOL_REQUESTS_FULL: BUSY,
  PROTOCOL_EVENTS_UNREAD: LOST,
  PROTOCOL_COMMAND_INVALID: HIDDEN,
  PROTOCOL_COMMAND_TAKEN: HIDDEN,
  PROTOCOL_PLUGIN_INVALID: HIDDEN,
  PROTOCOL_SESSION_CLOSED: LOST,
  PROTOCOL_SESSION_EXHAUSTED: LOST,
  PROTOCOL_MESSAGE_TOO_LONG: { status: 413 },
  PROTOCOL_REFUSED: LOST,
}

const TRANSFER: Rows<TransferFault> = {
  TRANSFER_TOO_LARGE: { status: 413 },
  TRANSFER_BUSY: BUSY,
  TRANSFER_QUOTA: FAILED,
  TRANSFER_DISK_FULL: FAILED,
  TRANSFER_STORE: HIDDEN,
  TRANSFER_UNKNOWN: LOST,
  TRANSFER_LOST: LOST,
  TRANSFER_SOURCE: LOST,
  TRANSFER_PROTOCOL: LOST,
  TRANSFER_CORRUPT: LOST,
  TRANSFER_STOPPED: BUSY,
}

const PLANNER: Rows<PlanFault> = {
  PLAN_DOES_NOT_FIT: FAILED,
  PLAN_NO_ROUTE: BUSY,
  PLAN_TOO_LARGE: FAILED,
}

const PIPELINE: Rows<PipelineFault> = {
  PIPELINE_REQUEST: BAD,
  PIPELINE_NO_EDGE: BUSY,
  PIPELINE_STOPPED: BUSY,
  PIPELINE_STEP_TIMEOUT: LATE,
  PIPELINE_DEADLINE: LATE,
  PIPELINE_RESULT: LOST,
  PIPELINE_PROTOCOL: LOST,
  STAGE_BUSY: BUSY,
  STAGE_CONTEXT: TOO_LONG,
  STAGE_DEADLINE: LATE,
  STAGE_FAILED: LOST,
  STAGE_FLOW: LOST,
  STAGE_GENERATION_EXISTS: LOST,
  STAGE_GENERATION_UNKNOWN: LOST,
  STAGE_LAYERS: LOST,
  STAGE_LOST: LOST,
  STAGE_MODEL: LOST,
  STAGE_NOT_ENTRY: LOST,
  STAGE_NOT_PREDECESSOR: LOST,
  STAGE_PROFILE: LOST,
  STAGE_QUOTA: BUSY,
  STAGE_ROUTE: LOST,
  STAGE_SHAPE: LOST,
  STAGE_STEP_ORDER: LOST,
  STAGE_STOPPED: LOST,
  ENGINE_CRASHED: LOST,
  ENGINE_NON_FINITE: LOST,
  ENGINE_OUT_OF_RANGE: LOST,
}

const ENGINE: Rows<EngineFault> = {
  ENGINE_NO_BACKEND: FAILED,
  ENGINE_VERSION: HIDDEN,
  ENGINE_FILE_UNREADABLE: HIDDEN,
  ENGINE_BAD_MODEL: HIDDEN,
  ENGINE_TENSOR_MISSING: HIDDEN,
  ENGINE_TENSOR_SHAPE: HIDDEN,
  ENGINE_TENSOR_TYPE: HIDDEN,
  ENGINE_OUT_OF_MEMORY: FAILED,
  ENGINE_BAD_LOAD: HIDDEN,
  ENGINE_NOT_LOADED: BUSY,
  ENGINE_BAD_STEP: HIDDEN,
  ENGINE_BAD_LAYERS: HIDDEN,
  ENGINE_CONTEXT_FULL: TOO_LONG,
  ENGINE_NON_FINITE: LOST,
  ENGINE_OUT_OF_RANGE: LOST,
  ENGINE_COMPUTE_FAILED: FAILED,
  ENGINE_TOKEN_UNKNOWN: BAD,
  ENGINE_CRASHED: LOST,
  ENGINE_START_FAILED: HIDDEN,
  ENGINE_FAILED: BUSY,
  ENGINE_TRIAL_FAILED: HIDDEN,
  ENGINE_TRIAL_MISMATCH: HIDDEN,
  ENGINE_STOPPED: BUSY,
  ENGINE_BUSY: BUSY,
  ENGINE_REQUEST_TOO_LARGE: BAD,
  // The sampler went with its process.
  EDGE_SAMPLER_UNKNOWN: LOST,
  EDGE_SAMPLERS_FULL: BUSY,
  EDGE_SAMPLING_INVALID: BAD,
  EDGE_NO_TOKENIZER: FAILED,
  EDGE_TEXT_TOO_LONG: TOO_LONG,
  EDGE_TOKENIZE_FAILED: FAILED,
  EDGE_PIECE_TOO_LONG: FAILED,
  EDGE_VOCABULARY_MISMATCH: FAILED,
}

/** Templates come with the model, messages with the request: what a template refuses is the request's fault. */
const FORMATS: Rows<FormatFault> = {
  FORMAT_GGUF_MAGIC: HIDDEN,
  FORMAT_GGUF_VERSION: HIDDEN,
  FORMAT_GGUF_TRUNCATED: HIDDEN,
  FORMAT_GGUF_LIMIT: HIDDEN,
  FORMAT_GGUF_METADATA: HIDDEN,
  FORMAT_GGUF_TENSOR: HIDDEN,
  FORMAT_ARCHITECTURE_UNKNOWN: FAILED,
  FORMAT_MODEL_UNSUPPORTED: FAILED,
  FORMAT_MODEL_INVALID: HIDDEN,
  FORMAT_TEMPLATE_TIMEOUT: FAILED,
  FORMAT_TEMPLATE_MEMORY: FAILED,
  FORMAT_TEMPLATE_OUTPUT: TOO_LONG,
  FORMAT_TEMPLATE_INPUT: TOO_LONG,
  FORMAT_TEMPLATE_INVALID: BAD,
  FORMAT_TEMPLATE_BUSY: BUSY,
  FORMAT_TEMPLATE_STOPPED: BUSY,
  FORMAT_STOP_INVALID: BAD,
  FORMAT_CORE_MALFORMED: HIDDEN,
  FORMAT_CORE_VERSION: HIDDEN,
  FORMAT_CORE_LIMIT: HIDDEN,
  FORMAT_CORE_FILES: HIDDEN,
  FORMAT_CORE_TENSOR: HIDDEN,
  FORMAT_TORRENT_MALFORMED: BAD,
  FORMAT_TORRENT_VERSION: BAD,
  FORMAT_TORRENT_LIMIT: BAD,
  FORMAT_TORRENT_LAYERS: BAD,
  FORMAT_MAGNET_MALFORMED: BAD,
  FORMAT_MAGNET_VERSION: BAD,
  FORMAT_MANIFEST_MALFORMED: BAD,
  FORMAT_MANIFEST_VERSION: HIDDEN,
  FORMAT_MANIFEST_LIMIT: BAD,
  FORMAT_MANIFEST_MISMATCH: HIDDEN,
  FORMAT_VOTE_MALFORMED: BAD,
}

const NET: Rows<NetFault> = {
  NET_LISTEN_FAILED: HIDDEN,
  NET_ADDRESS_INVALID: HIDDEN,
  NET_DIAL_FAILED: LOST,
  NET_WRONG_PEER: LOST,
  NET_NOT_ADMITTED: LOST,
  NET_VERSION: LOST,
  NET_PEER_UNKNOWN: LOST,
  NET_PROTOCOL_REFUSED: LOST,
  NET_CONNECTION_LOST: LOST,
  NET_PEER_RESTING: BUSY,
  NET_PUNCH_FAILED: LOST,
  NET_SETTINGS_INVALID: HIDDEN,
  NET_PEER_NOT_ALLOWED: LOST,
  NET_QUIC_MISSING: HIDDEN,
  NET_RELAY_REFUSED: LOST,
  NET_RELAY_CUT: LOST,
  NET_RELAY_NOT_PUBLIC: HIDDEN,
  NET_STOPPED: BUSY,
}

const NAT: Rows<NatFault> = {
  NAT_SOCKET_FAILED: HIDDEN,
  NAT_MAPPING_FAILED: FAILED,
  NAT_MAPPINGS_FULL: FAILED,
  NAT_ICE_DESCRIPTION_INVALID: LOST,
  NAT_ICE_STATE: HIDDEN,
  NAT_ICE_FAILED: LOST,
  NAT_DATAGRAM_SIZE: HIDDEN,
  NAT_CLOSED: BUSY,
}

const REACH: Rows<ReachFault> = {
  REACH_DIAL_BACK_REFUSED: LOST,
}

const SWARM: Rows<SwarmFault> = {
  SWARM_STOPPED: BUSY,
  SWARM_BUSY: BUSY,
  SWARM_NO_PEERS: BUSY,
  SWARM_CORE_MISSING: BUSY,
  SWARM_CORE_INVALID: BAD,
  SWARM_PIECES_MISSING: BUSY,
  SWARM_DISK_FULL: FAILED,
  SWARM_STORE_FAILED: HIDDEN,
  SWARM_ADDRESS_INVALID: BAD,
  SWARM_ORIGIN_CONFIG: BAD,
  SWARM_ORIGIN_REFUSED: BAD,
  SWARM_ORIGIN_UNREACHABLE: LOST,
  SWARM_ORIGIN_BUSY: BUSY,
  SWARM_ORIGIN_STATUS: LOST,
  SWARM_ORIGIN_ANSWER: LOST,
  SWARM_ORIGIN_CERTIFICATE: LOST,
  SWARM_ORIGIN_NOT_FOUND: ABSENT,
  SWARM_ORIGIN_CREDENTIALS: LOST,
  SWARM_ORIGIN_HOST_KEY: LOST,
  SWARM_ORIGIN_SIZE: CONFLICT,
  SWARM_ORIGIN_CHANGED: CONFLICT,
  SWARM_ORIGIN_PROGRAM: FAILED,
  SWARM_ORIGIN_SPACE: FAILED,
  SWARM_ORIGIN_CLOSED: LOST,
}

/** Sentences about the data directory name its path. */
const STORAGE: Rows<StorageFault | IdentityFault> = {
  STORAGE_LOCKED: HIDDEN,
  STORAGE_UNUSABLE: HIDDEN,
  STORAGE_PERMISSIONS: HIDDEN,
  STORAGE_KEY_EXISTS: HIDDEN,
  STORAGE_HANDOVERS: HIDDEN,
  STORAGE_DATABASE: HIDDEN,
  STORAGE_MODELS_FULL: HIDDEN,
  STORAGE_FILE: HIDDEN,
  STORAGE_READ: HIDDEN,
  STORAGE_FILE_CHANGED: HIDDEN,
  STORAGE_BLOB_MISSING: HIDDEN,
  STORAGE_BLOB_PINNED: HIDDEN,
  STORAGE_BLOB_LIMIT: HIDDEN,
  STORAGE_BLOB_DISK: HIDDEN,
  IDENTITY_KEY_INVALID: HIDDEN,
  IDENTITY_KEY_VERSION: HIDDEN,
  IDENTITY_KEY_COST: HIDDEN,
  IDENTITY_PASSPHRASE_NEEDED: HIDDEN,
  IDENTITY_PASSPHRASE_WRONG: HIDDEN,
  IDENTITY_PASSPHRASE_LENGTH: HIDDEN,
  IDENTITY_PHRASE_INVALID: HIDDEN,
  IDENTITY_KEYS_EXHAUSTED: HIDDEN,
}

/** Only the node's owner rotates keys, over the local socket, and is told all. */
const KEYRING: Rows<KeyringFault> = {
  KEYRING_SOURCE_INVALID: HIDDEN,
  KEYRING_MODULE: HIDDEN,
  KEYRING_TOKEN_UNKNOWN: HIDDEN,
  KEYRING_PIN_NEEDED: HIDDEN,
  KEYRING_PIN_WRONG: HIDDEN,
  KEYRING_PIN_LOCKED: HIDDEN,
  KEYRING_KEY_UNKNOWN: HIDDEN,
  KEYRING_KEY_EXISTS: HIDDEN,
  KEYRING_KEY_TYPE: HIDDEN,
  KEYRING_MECHANISM: HIDDEN,
  KEYRING_TOKEN_FAILED: HIDDEN,
  KEYRING_ACCESS: HIDDEN,
  KEYRING_SERVICE_FAILED: HIDDEN,
  KEYRING_BUSY: HIDDEN,
  KEYRING_TIMEOUT: HIDDEN,
  KEYRING_MESSAGE_SIZE: HIDDEN,
  KEYRING_SIGNATURE_INVALID: HIDDEN,
  KEYRING_CLOSED: HIDDEN,
}

/** Every code that may reach this surface. A test holds it against the modules' `errors.ts`. */
export const HTTP_ERRORS: ReadonlyMap<string, Row> = new Map<string, Row>(
  [
    BASE,
    API,
    NODE,
    DISCOVERY,
    MAINLINE,
    KAD,
    PROTOCOL,
    TRANSFER,
    PLANNER,
    PIPELINE,
    ENGINE,
    FORMATS,
    NET,
    NAT,
    REACH,
    STORAGE,
    SWARM,
    KEYRING,
  ].flatMap(rows => Object.entries(rows)),
)

export type HttpError = {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: OpenAiError
}

/** How an error is told. `own`: with Koinon's code and sentence (the local socket); else as OpenAI's clients know it. */
export function toHttpError(error: unknown, options: { readonly own?: boolean } = {}): HttpError {
  const code = codeOf(error)
  const row = HTTP_ERRORS.get(code) ?? HIDDEN
  const isHidden = row.isHidden === true && options.own !== true
  const retryAfterS = row.retryAfterS === undefined ? undefined : retryAfter(error, row.retryAfterS)
  return {
    status: row.status,
    headers: {
      ...(retryAfterS === undefined ? {} : { 'retry-after': String(retryAfterS) }),
      ...(error instanceof KoinonError && hasText(error.fault, 'allow') ? { allow: error.fault.allow } : {}),
    },
    body: {
      error: {
        message: isHidden ? `something went wrong inside the node (${code})` : messageOf(error),
        type: typeOf(row.status),
        param: error instanceof KoinonError && hasText(error.fault, 'param') ? error.fault.param : null,
        code: options.own === true ? code : (row.openAiCode ?? code.toLowerCase()),
      },
    },
  }
}

/** Whole seconds; the fault's own `retryAfterMs` goes before the table. */
function retryAfter(error: unknown, defaultS: number): number {
  if (!(error instanceof KoinonError)) return defaultS
  const fault: object = error.fault
  if (!('retryAfterMs' in fault) || typeof fault.retryAfterMs !== 'number') return defaultS
  return Math.max(1, Math.ceil(fault.retryAfterMs / 1000))
}

function hasText<K extends string>(fault: object, key: K): fault is Record<K, string> {
  return key in fault && typeof (fault as Record<string, unknown>)[key] === 'string'
}

function typeOf(status: number): string {
  if (status === 403) return 'permission_error'
  if (status === 429) return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}
