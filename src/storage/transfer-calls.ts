/** What the node's thread and the thread that writes arriving attachments say to each other. */
import type { AppendResult, PartialFileOptions } from './partial-file.ts'

export type TransferCall =
  | { readonly kind: 'open'; readonly options: PartialFileOptions }
  /** `chunk` is handed over, not copied. */
  | {
      readonly kind: 'append'
      readonly chunk: Uint8Array<ArrayBuffer>
      readonly check: Uint8Array | undefined
      readonly at: number
    }
  | { readonly kind: 'finish' }
  | { readonly kind: 'suspend'; readonly at: number }
  | { readonly kind: 'discard' }

/** What each call is answered with. */
export type TransferAnswers = {
  /** Bytes that an earlier attempt has left. */
  readonly open: number
  readonly append: AppendResult
  /** SHA-256 of everything. */
  readonly finish: Uint8Array
  /** Bytes that the next attempt can count on. */
  readonly suspend: number
  readonly discard: undefined
}

/** `file`: a number that the asking side has given to the file. `id` goes back with the answer. */
export type TransferRequest = { readonly id: number; readonly file: number; readonly call: TransferCall }

export type TransferReply =
  | { readonly id: number; readonly answer: TransferAnswers[keyof TransferAnswers] }
  /** What the file system said. */
  | { readonly id: number; readonly error: string; readonly errno: string | undefined }
