/**
 * What the owner of a peer session sees of BitTorrent's peer wire protocol: messages, a session that carries them over any
 * pipe of bytes, and how it ended. The same for stock clients on TCP and for Koinon peers on `/koinon/pieces/1`.
 */
import type { ByteStream, Clock, Logger } from '#base'
import type { SessionEnd } from './errors.ts'

/** What carries a session. `abort` ends both directions. */
export type BytePipe = Pick<ByteStream, 'send' | 'sendParts' | 'drained' | 'received' | 'close' | 'abort'>

/** Bytes within a piece. */
export type BlockSpan = { readonly piece: number; readonly offset: number; readonly length: number }

/** BEP 52: which hashes of the tree of the file with this root. */
export type HashRange = {
  /** 32 bytes: the file's root ("pieces root"). */
  readonly root: Uint8Array
  /** 0: hashes of blocks of 16 KiB; 6: of pieces of 1 MiB. */
  readonly baseLayer: number
  /** Of the first hash in that layer; a multiple of `length`. */
  readonly index: number
  /** Hashes; a power of two, at least 2. */
  readonly length: number
  /** Layers of uncle hashes, counted from the base layer. Those below the subtree's root are not sent. */
  readonly proofLayers: number
}

/** A chunk of a document: asked for, given, or refused. Every chunk but the last has CHUNK_BYTES. */
export type ChunkMessage =
  | { readonly what: 'request' | 'reject'; readonly chunk: number }
  | { readonly what: 'data'; readonly chunk: number; readonly totalBytes: number; readonly bytes: Uint8Array }

/** What Koinon peers give of a model beside its pieces. */
export type CoreDocument = 'core' | 'manifest'

/** What a side says of itself (BEP 10). Undefined: not said. */
export type ExtendedHandshake = {
  /** Bytes of the info dictionary (BEP 9): the side has it. */
  readonly metadataBytes?: number | undefined
  /** Bytes of the canonical core, of the signed manifest: the side has them. Koinon peers only. */
  readonly coreBytes?: number | undefined
  readonly manifestBytes?: number | undefined
  /** Signed votes that the side can tell. Koinon peers only. */
  readonly voteCount?: number | undefined
  /** Requests that the side takes before it has answered one of them. */
  readonly requestsMax?: number | undefined
  /** TCP port where the side can be dialled. */
  readonly listenPort?: number | undefined
  /** The program, for people. Made of printable ASCII. */
  readonly agent?: string | undefined
}

/** One type for each kind, all of the same shape. */
type Each<K, T> = K extends string ? { readonly kind: K } & T : never

export type PeerMessage =
  | Each<'choke' | 'unchoke' | 'interested' | 'not-interested' | 'have-all' | 'have-none' | 'keep-alive', unknown>
  | { readonly kind: 'have'; readonly piece: number }
  /** BEP 3: the high bit of the first byte is piece 0. Checked against the layout where the session has one. */
  | { readonly kind: 'bitfield'; readonly bytes: Uint8Array }
  | Each<'request' | 'cancel' | 'reject', BlockSpan>
  /** Received bytes are owned: they fill their ArrayBuffer, which nobody else has. Sent bytes belong to the session. */
  | {
      readonly kind: 'piece'
      readonly piece: number
      readonly offset: number
      readonly bytes: Uint8Array
      /** Of one that is sent: called once the bytes are needed no more, where the pipe says so. */
      readonly onTaken?: (() => void) | undefined
    }
  | Each<'hash-request' | 'hash-reject', HashRange>
  /** `length` hashes of the base layer, then the uncles from below upwards, 32 bytes each. Always an answer to a request. */
  | ({ readonly kind: 'hashes'; readonly hashes: Uint8Array } & HashRange)
  | ({ readonly kind: 'extended-handshake' } & ExtendedHandshake)
  /** The info dictionary (BEP 9). */
  | ({ readonly kind: 'metadata' } & ChunkMessage)
  | ({ readonly kind: 'core'; readonly document: CoreDocument } & ChunkMessage)
  /** Asks for votes from the nth on. */
  | { readonly kind: 'votes-request'; readonly from: number }
  /** Signed records, opaque here: the nth and those after it, of so many. */
  | { readonly kind: 'votes'; readonly from: number; readonly total: number; readonly records: readonly Uint8Array[] }

export type ReceivedPiece = Extract<PeerMessage, { kind: 'piece' }> & { readonly bytes: Uint8Array<ArrayBuffer> }

/** What comes in: as `PeerMessage`, with blocks that own their bytes. */
export type ReceivedMessage = Exclude<PeerMessage, { kind: 'piece' }> | ReceivedPiece

/** How the pieces lie: what bitfields and requests are checked against. */
export type PieceLayout = {
  readonly pieceCount: number
  /** Bytes of a piece. */
  pieceBytes(piece: number): number
}

/** What can be sent to the other side; before its extended handshake has come, no extension. */
export type Extension = 'metadata' | 'core' | 'votes'

export type SessionFacts = {
  /** Bytes of everything that was received and sent, headers included. */
  readonly receivedBytes: number
  readonly sentBytes: number
  /** Requests for blocks that have not been answered; cancelled ones are in it until they are answered. */
  readonly openRequests: number
}

/**
 * One conversation. The three callbacks are set before `start()`. `onMessage` is called synchronously as bytes are parsed;
 * whoever cannot take more calls `pause()`. Faults of the other side end the session; nothing here throws.
 */
export interface PeerSession {
  /** A peer id, or `bt:` and the IP address; of IPv6 the network (/64). */
  readonly party: string
  readonly kind: 'koinon' | 'bittorrent'
  /** Bytes that may be asked of the other side at once. */
  readonly requestBytesMax: number
  /** What the other side has said of itself; undefined until it has. */
  readonly theirs: ExtendedHandshake | undefined
  readonly facts: SessionFacts
  /** Why it is over; undefined while it is not. */
  readonly end: SessionEnd | undefined

  onMessage: (message: ReceivedMessage) => void
  /** There is room again after `send` had said false. */
  onWritable: () => void
  /** Once. Nothing is called after it. */
  onEnd: (end: SessionEnd) => void

  /** Begins to read; sends the extended handshake. */
  start(): void
  /** Once the pieces are known: where they were not when the session began. Bitfields that came before are not checked. */
  setLayout(layout: PieceLayout): void
  supports(extension: Extension): boolean
  /**
   * False: it is queued, but wait for `onWritable` before more. Never throws. What the other side cannot understand is put so
   * that it does, or not sent: `have-all` becomes a bitfield and `reject` nothing without BEP 6, an extension that was not
   * offered nothing. After the end nothing is sent.
   */
  send(message: PeerMessage): boolean
  /** Stops calling `onMessage`; the other side is slowed down. The idle timeout rests. */
  pause(): void
  resume(): void
  /** Ends it after what was sent. `why` is for `onEnd`. Idempotent. */
  close(why?: string): void
  /** Ends it now, as a fault that the owner found: its party is to blame. */
  fail(what: string): void
}

export type SessionDeps = { readonly clock: Clock; readonly logger: Logger }

/** What this side brings into a session. */
export type SessionOptions = {
  /** Where it is known. */
  readonly layout?: PieceLayout | undefined
  /** Memory for blocks that come in, of a buffer of its own each; its bytes are anything. @default new memory for each */
  readonly takeBuffer?: ((length: number) => Uint8Array<ArrayBuffer>) | undefined
  /** What is said in the extended handshake. `requestsMax` @default REQUESTS_TOLD_MAX */
  readonly says: ExtendedHandshake
}
