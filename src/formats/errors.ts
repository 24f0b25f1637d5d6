/** What can be wrong with a model file or its chat template. Files and templates come from strangers. */
import { KoinonError } from '#base'

/** Where in a GGUF file something is wrong: bytes from the file's start. */
type At = { readonly offset: number }

/**
 * What is refused of what strangers say a model is: its core, torrent, magnet link, manifest, or a vote on it.
 * VERSION: a form that this version does not know. LIMIT: more than any model needs. FILES: other than one. TENSOR: one that
 * lies about name, shape, type, place or size. LAYERS: piece hashes that do not lead to their file's root. MISMATCH: it is
 * about another model. MALFORMED: all else.
 */
export type DescriptionFault = {
  readonly code:
    | 'FORMAT_CORE_MALFORMED'
    | 'FORMAT_CORE_VERSION'
    | 'FORMAT_CORE_LIMIT'
    | 'FORMAT_CORE_FILES'
    | 'FORMAT_CORE_TENSOR'
    | 'FORMAT_TORRENT_MALFORMED'
    | 'FORMAT_TORRENT_VERSION'
    | 'FORMAT_TORRENT_LIMIT'
    | 'FORMAT_TORRENT_LAYERS'
    | 'FORMAT_MAGNET_MALFORMED'
    | 'FORMAT_MAGNET_VERSION'
    | 'FORMAT_MANIFEST_MALFORMED'
    | 'FORMAT_MANIFEST_VERSION'
    | 'FORMAT_MANIFEST_LIMIT'
    | 'FORMAT_MANIFEST_MISMATCH'
    | 'FORMAT_VOTE_MALFORMED'
  /** For people: completes "refused: ...". */
  readonly what: string
}

export type FormatFault =
  | DescriptionFault
  /** Not a GGUF file at all. */
  | { readonly code: 'FORMAT_GGUF_MAGIC' }
  /** A version or byte order that is not read here. */
  | { readonly code: 'FORMAT_GGUF_VERSION'; readonly version: number }
  /** The file ends before what its header promises. */
  | ({ readonly code: 'FORMAT_GGUF_TRUNCATED'; readonly size: number } & At)
  /** A count or length beyond what a model file needs. */
  | ({ readonly code: 'FORMAT_GGUF_LIMIT'; readonly value: number; readonly limit: number } & At)
  /** A metadata entry that breaks the format. */
  | ({ readonly code: 'FORMAT_GGUF_METADATA'; readonly key: string } & At)
  /** A tensor entry that breaks the format. */
  | { readonly code: 'FORMAT_GGUF_TENSOR'; readonly tensor: string }
  /** An architecture that no engine here computes. */
  | { readonly code: 'FORMAT_ARCHITECTURE_UNKNOWN'; readonly architecture: string }
  /** A feature of a known architecture that is not computed here. */
  | { readonly code: 'FORMAT_MODEL_UNSUPPORTED'; readonly what: string }
  /** Hyper-parameters or tensors that are missing or make no sense. */
  | { readonly code: 'FORMAT_MODEL_INVALID'; readonly what: string }
  /** The chat template ran longer than it may. */
  | { readonly code: 'FORMAT_TEMPLATE_TIMEOUT'; readonly limitMs: number }
  /** The chat template wanted more memory than it may have; its process is gone. */
  | { readonly code: 'FORMAT_TEMPLATE_MEMORY'; readonly limitBytes: number }
  /** The chat template made more text than it may. */
  | { readonly code: 'FORMAT_TEMPLATE_OUTPUT'; readonly limitBytes: number }
  /** The template or the messages are too long. */
  | { readonly code: 'FORMAT_TEMPLATE_INPUT'; readonly limit: number }
  /** The chat template is no Jinja, or refused the messages. */
  | { readonly code: 'FORMAT_TEMPLATE_INVALID' }
  /** Too many renderings wait. */
  | { readonly code: 'FORMAT_TEMPLATE_BUSY'; readonly limit: number }
  /** The renderer was stopped, or its process does not start. */
  | { readonly code: 'FORMAT_TEMPLATE_STOPPED' }
  /** Too many or too long stop texts. */
  | { readonly code: 'FORMAT_STOP_INVALID'; readonly countMax: number; readonly lengthMax: number }

export class FormatError extends KoinonError<FormatFault> {
  override readonly name = 'FormatError'
}

export function refusal(code: DescriptionFault['code'], what: string): FormatError {
  return new FormatError({ code, what }, what)
}

/** The result of a `parseX` of descriptions as its `decodeX` gives it. Whatever else is thrown is a bug, and goes on. */
export function caught<T>(parse: () => T): T | DescriptionFault {
  try {
    return parse()
  } catch (error) {
    if (error instanceof FormatError && isDescriptionFault(error.fault)) return error.fault
    throw error
  }
}

function isDescriptionFault(fault: FormatFault): fault is DescriptionFault {
  return /^FORMAT_(?:CORE|TORRENT|MAGNET|MANIFEST|VOTE)_/.test(fault.code)
}
