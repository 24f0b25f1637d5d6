/** The simplest use of a peer session: a side that has everything, and one that fetches pieces one after another. */
import { Bitfield } from '#base'
import { sha256 } from '#crypto'
import { chunkOf } from '../../src/swarm/wire/documents.ts'
import { proofLayersFor } from '../../src/swarm/wire/protocol.ts'
import type { HashRange, PeerMessage, PeerSession, ReceivedMessage } from '../../src/swarm/wire/types.ts'
import { BLOCK, type FixtureFile, hashesIn, PIECE, rootOf, type TorrentFixture } from './torrent-fixture.ts'

const HASH = 32

type MessageOf<K> = Extract<ReceivedMessage, { kind: K }>

/** Serves all that is asked for. @returns what was asked */
export function seed(session: PeerSession, fixture: TorrentFixture): { readonly asked: ReceivedMessage[] } {
  const asked: ReceivedMessage[] = []
  const queue: PeerMessage[] = []
  let isWritable = true
  const pump = (): void => {
    for (let next = queue.shift(); next !== undefined; next = isWritable ? queue.shift() : undefined) {
      isWritable = session.send(next)
    }
  }
  const answer = (message: PeerMessage): void => {
    queue.push(message)
    if (isWritable) pump()
  }
  session.onWritable = () => {
    isWritable = true
    pump()
  }
  session.onMessage = message => {
    asked.push(message)
    const answered = answerOf(message, fixture)
    if (answered !== undefined) answer(answered)
  }
  session.start()
  session.send({ kind: 'have-all' })
  return { asked }
}

function answerOf(message: ReceivedMessage, fixture: TorrentFixture): PeerMessage | undefined {
  if (message.kind === 'interested') return { kind: 'unchoke' }
  if (message.kind === 'request') {
    const { piece, offset, length } = message
    return { kind: 'piece', piece, offset, bytes: fixture.read(piece, offset, length) }
  }
  if (message.kind === 'metadata' && message.what === 'request') {
    return { kind: 'metadata', ...chunkOf(fixture.info, message.chunk) }
  }
  if (message.kind === 'hash-request') {
    const file = fixture.files.find(({ root }) => Buffer.compare(root, message.root) === 0)
    const hashes = file === undefined ? undefined : hashesIn(file, message)
    return hashes === undefined ? { ...message, kind: 'hash-reject' } : { ...message, kind: 'hashes', hashes }
  }
  return undefined
}

/** Waits for messages of a session, one at a time. */
export class Listener {
  readonly session: PeerSession
  readonly seen: ReceivedMessage[] = []
  readonly has: Bitfield
  #wake: (() => void) | undefined

  constructor(session: PeerSession, pieceCount: number) {
    this.session = session
    this.has = new Bitfield(pieceCount)
    session.onMessage = message => {
      this.#noteHaves(message)
      this.seen.push(message)
      this.#wake?.()
    }
    session.onEnd = () => this.#wake?.()
    session.start()
  }

  /** The first that fits; it is taken out. @throws where the session ends before */
  async next<K extends ReceivedMessage['kind']>(...kinds: readonly K[]): Promise<MessageOf<K>> {
    for (;;) {
      const at = this.seen.findIndex(({ kind }) => (kinds as readonly string[]).includes(kind))
      if (at >= 0) return this.seen.splice(at, 1)[0] as MessageOf<K>
      if (this.session.end !== undefined) throw new Error(`the session ended: ${JSON.stringify(this.session.end)}`)
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }

  #noteHaves(message: ReceivedMessage): void {
    if (message.kind === 'have') this.has.set(message.piece)
    if (message.kind === 'have-all') for (let piece = 0; piece < this.has.size; piece++) this.has.set(piece)
    if (message.kind !== 'bitfield') return
    for (const piece of Bitfield.decode(message.bytes, this.has.size)?.numbers() ?? []) this.has.set(piece)
  }
}

/** Asks for hashes and holds them against the file's root. @returns them without uncles; undefined: they were refused */
export async function fetchHashes(
  listener: Listener,
  file: FixtureFile,
  wanted: Pick<HashRange, 'baseLayer' | 'index' | 'length'>,
): Promise<Uint8Array | undefined> {
  const proofLayers = proofLayersFor(file.layers.length - 1 - wanted.baseLayer)
  const range = { root: file.root, ...wanted, proofLayers }
  listener.session.send({ kind: 'hash-request', ...range })
  const answer = await listener.next('hashes', 'hash-reject')
  if (answer.kind === 'hash-reject') return undefined
  const root = rootOf(range, answer.hashes)
  if (Buffer.compare(root, file.root) !== 0) throw new Error('hashes that do not lead to the root')
  return answer.hashes.subarray(0, wanted.length * HASH)
}

/** Fetches one piece, all blocks asked for at once; checks each against its leaf where these are given. */
export async function fetchPiece(
  listener: Listener,
  fixture: TorrentFixture,
  { piece, leaves }: { readonly piece: number; readonly leaves?: Uint8Array | undefined },
): Promise<Uint8Array> {
  const size = fixture.pieceBytes(piece)
  const bytes = new Uint8Array(size)
  const step = Math.min(listener.session.requestBytesMax, PIECE)
  for (let offset = 0; offset < size; offset += step) {
    listener.session.send({ kind: 'request', piece, offset, length: Math.min(step, size - offset) })
  }
  for (let offset = 0; offset < size; offset += step) {
    const block = await listener.next('piece')
    bytes.set(block.bytes, block.offset)
    if (leaves === undefined || step !== BLOCK) continue
    const at = (block.offset / BLOCK) * HASH
    if (Buffer.compare(sha256(block.bytes), leaves.subarray(at, at + HASH)) !== 0) throw new Error('a bad block')
  }
  return bytes
}
