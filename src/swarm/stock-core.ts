/**
 * The core of a model from a stock BitTorrent client, of which nothing but the info-hash is known: first the info dictionary
 * (BEP 9), which says how long the core is and what its root is, then its blocks, which are checked when all are here.
 */
import { concatBytes } from '#base'
import { sha256 } from '#crypto'
import { decodeTorrentInfo, pieceBytesIn, type Torrent, TORRENT_CORE_FILE } from '#formats'
import type { DocumentExchange } from './documents.ts'
import { SwarmError } from './errors.ts'
import { isWholeFile } from './memory-file.ts'
import { BLOCK_BYTES } from './types.ts'
import { CORE_BYTES_MAX } from './wire/limits.ts'
import type { BlockSpan, PeerSession, ReceivedMessage } from './wire/types.ts'

/** Requests that are under way at once. */
const REQUESTS_MAX = 16

export class StockCore {
  readonly #session: PeerSession
  readonly #infoHash: Uint8Array
  #isUnchoked = false
  #waiting: BlockSpan[] = []
  #asked = 0
  readonly #blocks = new Map<string, Uint8Array>()
  readonly #end = Promise.withResolvers<void>()

  /** @param infoHash 32 bytes, or the first 20 of them */
  constructor(session: PeerSession, infoHash: Uint8Array) {
    this.#session = session
    this.#infoHash = infoHash
    // Whoever waits for it hears of its failure; nobody does before the info dictionary is here.
    this.#end.promise.catch(() => undefined)
  }

  /** @throws SwarmError SWARM_CORE_MISSING, SWARM_CORE_INVALID */
  async fetch(documents: DocumentExchange, metadataBytes: number): Promise<Uint8Array<ArrayBuffer>> {
    const info = await documents.fetch('metadata', metadataBytes)
    const hash = sha256(info)
    if (!this.#infoHash.every((byte, at) => byte === hash[at])) throw invalid('an info dictionary of another torrent')
    const torrent = decodeTorrentInfo(info)
    if (!('infoHash' in torrent)) throw invalid(torrent.what)
    const file = torrent.files[TORRENT_CORE_FILE]
    if (!torrent.isCanonical || file === undefined || file.length > CORE_BYTES_MAX) {
      throw invalid("a torrent that is not a model's")
    }
    const session = this.#session
    session.setLayout({ pieceCount: torrent.pieceCount, pieceBytes: piece => pieceBytesIn(torrent, piece) })
    const order = spansOf(torrent, file.pieceCount)
    this.#waiting = [...order]
    session.send({ kind: 'interested' })
    this.#ask()
    await this.#end.promise
    const core = concatBytes(order.map(span => this.#blocks.get(keyOf(span)) ?? new Uint8Array(0)))
    if (!isWholeFile(core, file)) throw invalid('blocks that are not those of the core')
    return core
  }

  received(message: ReceivedMessage): void {
    if (message.kind === 'unchoke') {
      this.#isUnchoked = true
      this.#ask()
    } else if (message.kind === 'choke' || message.kind === 'reject') this.ended('the client gives nothing of the core')
    else if (message.kind === 'piece') {
      this.#blocks.set(keyOf(message), message.bytes)
      this.#asked--
      if (this.#asked === 0 && this.#waiting.length === 0) this.#end.resolve()
      else this.#ask()
    }
  }

  ended(why: string): void {
    this.#end.reject(new SwarmError({ code: 'SWARM_CORE_MISSING' }, why))
  }

  #ask(): void {
    while (this.#isUnchoked && this.#asked < REQUESTS_MAX) {
      const span = this.#waiting.shift()
      if (span === undefined) return
      this.#asked++
      this.#session.send({ kind: 'request', ...span })
    }
  }
}

function spansOf(torrent: Torrent, pieceCount: number): BlockSpan[] {
  const spans: BlockSpan[] = []
  for (let piece = 0; piece < pieceCount; piece++) {
    const bytes = pieceBytesIn(torrent, piece)
    for (let offset = 0; offset < bytes; offset += BLOCK_BYTES) {
      spans.push({ piece, offset, length: Math.min(BLOCK_BYTES, bytes - offset) })
    }
  }
  return spans
}

function keyOf({ piece, offset }: { readonly piece: number; readonly offset: number }): string {
  return `${piece}:${offset}`
}

function invalid(what: string): SwarmError {
  return new SwarmError({ code: 'SWARM_CORE_INVALID' }, `a client gave ${what}`)
}
