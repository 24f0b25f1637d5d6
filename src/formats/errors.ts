/** What can be wrong with a model file or its chat template. Files and templates come from strangers. */
import { KoinonError } from '#base'

/** Where in a GGUF file something is wrong: bytes from the file's start. */
type At = { readonly offset: number }

export type FormatFault =
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
