/**
 * One session with a peer about one model: takes its messages apart, and is what both state machines give their orders to.
 * It decides nothing.
 */
import { Bitfield } from '#base'
import type { Torrent } from '#formats'
import { DocumentExchange, type Documents } from './documents.ts'
import { hashesFor, leavesIn, leavesRange, PIECE_LAYER, pieceOfLeaves } from './hash-answers.ts'
import type { HashFetcher, HashGiver } from './hash-fetcher.ts'
import type { Intake } from './intake.ts'
import {
  HASH_ANSWERS_MAX,
  KOINON_REQUESTS_MAX,
  STOCK_REQUESTS_MAX,
  VOTES_INTERVAL_MS,
  VOTES_PER_PEER_MAX,
} from './limits.ts'
import type { Outlet, Served } from './outlet.ts'
import type { Source } from './source.ts'
import type { SwarmBlame } from './swarm-types.ts'
import type { ChannelFacts, ChannelId, DownloadBlame } from './transfer/types.ts'
import { BLOCK_BYTES, type BlockRun, type PieceStore } from './types.ts'
import type { SessionEnd } from './wire/errors.ts'
import { REQUESTS_TOLD_MAX, VOTES_A_MESSAGE_MAX, VOTES_BYTES_MAX } from './wire/limits.ts'
import type {
  BlockSpan,
  ExtendedHandshake,
  HashRange,
  PeerMessage,
  PeerSession,
  ReceivedMessage,
} from './wire/types.ts'

/** What a link works for. */
export type LinkHome = {
  readonly torrent: Torrent
  readonly store: PieceStore
  readonly intake: Intake
  readonly outlet: Outlet
  readonly hashes: HashFetcher
  readonly documents: () => Documents
  /** What is said of this side now. */
  readonly says: () => ExtendedHandshake
  /** Clock.monotonic(), in milliseconds. */
  readonly now: () => number
  /** Signed votes, opaque here. */
  readonly votes: () => readonly Uint8Array[]
  readonly onVotes: (records: readonly Uint8Array[], peer: string) => void
  readonly onBlame: (party: string, why: SwarmBlame) => void
  readonly onEnd: (link: Link, end: SessionEnd) => void
}

export class Link implements Source, Served, HashGiver {
  readonly channel: ChannelId
  readonly facts: ChannelFacts
  readonly session: PeerSession
  readonly documents: DocumentExchange
  receivedBytes = 0
  sentBytes = 0
  isChoked = true
  isChokingUs = true
  isInterested = false
  areWeInterested = false
  /** What the other side has, as far as it has said: it is not told of those. */
  readonly #theirs: Bitfield
  readonly #home: LinkHome
  #answersOpen = 0
  #votesTaken = 0
  /** When the other side heard last how many votes there are here, and when it was asked for its own. */
  #votesToldAt: number
  #votesAskedAt = Number.NEGATIVE_INFINITY

  constructor(home: LinkHome, { channel, session }: { readonly channel: ChannelId; readonly session: PeerSession }) {
    this.#home = home
    this.#votesToldAt = home.now()
    this.channel = channel
    this.session = session
    const isKoinon = session.kind === 'koinon'
    this.facts = {
      party: session.party,
      kind: 'peer',
      requestBytesMax: session.requestBytesMax,
      requestsMax: session.theirs?.requestsMax ?? (isKoinon ? KOINON_REQUESTS_MAX : STOCK_REQUESTS_MAX),
      // A stock client tells them rarely: to wait for them would be in vain with nearly every piece.
      hasLeaves: isKoinon,
    }
    this.#theirs = new Bitfield(home.torrent.pieceCount)
    this.documents = new DocumentExchange({ send: message => session.send(message), documents: home.documents })
  }

  get party(): string {
    return this.session.party
  }

  get requestBytesMax(): number {
    return this.session.requestBytesMax
  }

  /** Begins to talk: says what is here. */
  start(): void {
    const { session } = this
    const { intake, outlet, hashes, store } = this.#home
    session.onMessage = message => this.#onMessage(message)
    session.onWritable = () => outlet.writable(this, true)
    session.onEnd = end => {
      this.documents.end()
      hashes.leave(this)
      intake.leave(this)
      outlet.leave(this)
      this.#home.onEnd(this, end)
    }
    intake.join(this)
    outlet.join(this)
    session.start()
    const { has } = store
    if (has.isFull) session.send({ kind: 'have-all' })
    else if (has.isEmpty) session.send({ kind: 'have-none' })
    else session.send({ kind: 'bitfield', bytes: has.encode() })
    hashes.join(this)
  }

  send(message: PeerMessage): boolean {
    return this.session.send(message)
  }

  /** Tells of pieces that are here now, those left out that the other side has. */
  tell(pieces: readonly number[]): void {
    for (const piece of pieces) if (!this.#theirs.has(piece)) this.session.send({ kind: 'have', piece })
  }

  /** Says that there are new votes (BEP 10 allows another handshake), but not too often. @returns whether it was said */
  tellVotes(): boolean {
    if (!this.session.supports('votes')) return true
    const now = this.#home.now()
    if (now - this.#votesToldAt < VOTES_INTERVAL_MS) return false
    this.#votesToldAt = now
    this.session.send({ kind: 'extended-handshake', requestsMax: REQUESTS_TOLD_MAX, ...this.#home.says() })
    return true
  }

  request(run: BlockRun, length: number): void {
    this.session.send({ kind: 'request', ...spanOf(run, length) })
  }

  cancel(run: BlockRun, length: number): void {
    this.session.send({ kind: 'cancel', ...spanOf(run, length) })
  }

  askLeaves(piece: number): void {
    const range = leavesRange(this.#home.torrent, piece)
    if (range !== undefined) this.session.send({ kind: 'hash-request', ...range })
  }

  askHashes(range: HashRange): void {
    this.session.send({ kind: 'hash-request', ...range })
  }

  setInterested(isInterested: boolean): void {
    this.areWeInterested = isInterested
    this.session.send({ kind: isInterested ? 'interested' : 'not-interested' })
  }

  end(why: DownloadBlame, isBan: boolean): void {
    if (isBan) this.#home.onBlame(this.party, why)
    else this.session.close(why)
  }

  flooded(isBan: boolean): void {
    if (isBan) this.#home.onBlame(this.party, 'flood')
    else this.session.close('flood')
  }

  #onMessage(message: ReceivedMessage): void {
    const { intake, outlet } = this.#home
    switch (message.kind) {
      case 'piece':
        outlet.received(this, message.bytes.byteLength)
        intake.arrived(this, message)
        break
      case 'request':
        outlet.requested(this, message)
        break
      case 'cancel':
        outlet.cancelled(this, message)
        break
      case 'reject':
        intake.rejected(this, message)
        break
      case 'choke':
      case 'unchoke':
        this.isChokingUs = message.kind === 'choke'
        intake.choked(this, this.isChokingUs)
        break
      case 'interested':
      case 'not-interested':
        this.isInterested = message.kind === 'interested'
        outlet.interested(this, this.isInterested)
        break
      default:
        this.#onOther(message)
    }
  }

  #onOther(message: ReceivedMessage): void {
    const { hashes, intake, torrent } = this.#home
    switch (message.kind) {
      case 'have':
        this.#onHave(message.piece)
        break
      case 'bitfield':
        this.#hasPieces(Bitfield.decode(message.bytes, torrent.pieceCount))
        break
      case 'have-all':
        this.#hasPieces(Bitfield.full(torrent.pieceCount))
        break
      case 'have-none':
        this.#hasPieces(new Bitfield(torrent.pieceCount))
        break
      case 'hash-request':
        void this.#answerHashes(message) // It ends with its own store's answer, and never rejects.
        break
      case 'hashes':
        if (message.baseLayer === PIECE_LAYER) hashes.answered(this, message, message.hashes)
        else this.#onLeaves(message, message.hashes)
        break
      case 'hash-reject':
        if (message.baseLayer === PIECE_LAYER) hashes.rejected(this, message)
        else intake.leavesRejected(this, pieceOfLeaves(torrent, message))
        break
      case 'extended-handshake':
        if ((message.voteCount ?? 0) > 0) this.#askVotes()
        break
      case 'metadata':
        this.documents.received('metadata', message)
        break
      case 'core':
        this.documents.received(message.document, message)
        break
      case 'votes-request':
        this.#onVotesRequest(message.from)
        break
      case 'votes':
        this.#onVotes(message)
        break
      default:
    }
  }

  #onHave(piece: number): void {
    const { intake, torrent } = this.#home
    if (piece >= torrent.pieceCount) this.#fail('a piece that the model does not have')
    else if (this.#theirs.set(piece)) intake.hasPiece(this, piece)
  }

  #hasPieces(pieces: Bitfield | undefined): void {
    if (pieces === undefined) {
      this.#fail('a bitfield of another length')
      return
    }
    for (const piece of pieces.numbers()) this.#theirs.set(piece)
    this.#home.intake.hasPieces(this, pieces.isFull ? 'all' : pieces)
  }

  #onLeaves(range: HashRange, hashes: Uint8Array): void {
    const found = leavesIn(this.#home.torrent, range, hashes)
    if (found !== undefined) this.#home.intake.leaves(this, found.piece, found.leaves)
  }

  #fail(what: string): void {
    this.session.fail(what)
    this.#home.onBlame(this.party, 'malformed')
  }

  async #answerHashes(range: HashRange): Promise<void> {
    if (this.#answersOpen >= HASH_ANSWERS_MAX) {
      this.#fail('more requests for hashes than are answered at once')
      return
    }
    const { root, baseLayer, index, length, proofLayers } = range
    const asked = { root, baseLayer, index, length, proofLayers }
    this.#answersOpen++
    // What cannot be read here is not the other side's business: it asks somebody else.
    const hashes = await hashesFor(this.#home, asked).catch(() => undefined)
    this.#answersOpen--
    if (hashes === undefined) this.session.send({ kind: 'hash-reject', ...asked })
    else this.session.send({ kind: 'hashes', ...asked, hashes })
  }

  /** The newest come first, so it is begun anew. Who says more often that it has new ones is not asked every time. */
  #askVotes(): void {
    const now = this.#home.now()
    if (now - this.#votesAskedAt < VOTES_INTERVAL_MS / 2) return
    this.#votesAskedAt = now
    this.#votesTaken = 0
    this.session.send({ kind: 'votes-request', from: 0 })
  }

  #onVotesRequest(from: number): void {
    const all = this.#home.votes()
    this.session.send({ kind: 'votes', from, total: all.length, records: votesFrom(all, from) })
  }

  #onVotes({ from, total, records }: Extract<ReceivedMessage, { kind: 'votes' }>): void {
    if (records.length === 0 || from !== this.#votesTaken) return
    this.#votesTaken += records.length
    this.#home.onVotes(records, this.party)
    const isMore = this.#votesTaken < Math.min(total, VOTES_PER_PEER_MAX)
    if (isMore) this.session.send({ kind: 'votes-request', from: this.#votesTaken })
  }
}

function spanOf(run: BlockRun, length: number): BlockSpan {
  return { piece: run.piece, offset: run.firstBlock * BLOCK_BYTES, length }
}

/** As many as one message takes. */
function votesFrom(all: readonly Uint8Array[], from: number): Uint8Array[] {
  const records: Uint8Array[] = []
  let bytes = 0
  for (const record of all.slice(from, from + VOTES_A_MESSAGE_MAX)) {
    bytes += record.byteLength
    if (bytes > VOTES_BYTES_MAX && records.length > 0) break
    records.push(record)
  }
  return records
}
