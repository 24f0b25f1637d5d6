/** What people type for a model and for those who may have it, as the swarm wants it. */
import { codeOf, messageOf, toHex } from '#base'
import { type Magnet, parseMagnet, parseTorrentFile, TORRENT_MODEL_FILE } from '#formats'
import type { PeerAddress, PullSubject } from '#swarm'
import type { PullRequest } from '#wire'
import { NodeError } from '../errors.ts'
import { ambiguous, type Shelf, type ShelvedModel } from './shelf.ts'

/** Whom to ask, who has not told of itself. */
export type SubjectDeps = {
  readonly shelf: Pick<Shelf, 'match' | 'withInfoHash'>
  /** Ids of models that go by this name, or begin so, as far as the network tells. */
  readonly lookUp: (text: string, options: { readonly signal: AbortSignal }) => AsyncIterable<string>
}

/** What is to be pulled. */
export type FoundSubject = {
  readonly subject: PullSubject
  readonly from: readonly PeerAddress[]
  /** Hashes of all pieces of the model's file. */
  readonly pieceLayer?: Uint8Array
  /** What is known of it here. */
  readonly shelved?: ShelvedModel
}

/**
 * Finds what is meant.
 * @throws NodeError NODE_MODEL_UNKNOWN, NODE_MODEL_AMBIGUOUS, NODE_TORRENT_UNFIT; FormatError
 */
export async function findSubject(
  deps: SubjectDeps,
  { model, torrent }: Pick<PullRequest, 'model' | 'torrent'>,
  options: { readonly signal: AbortSignal },
): Promise<FoundSubject> {
  if (torrent !== undefined) return known(deps, ofTorrent(new Uint8Array(Buffer.from(torrent, 'base64'))))
  if (/^magnet:/i.test(model)) return known(deps, ofMagnet(parseMagnet(model)))
  const here = deps.shelf.match(model)
  const [shelved] = here
  if (here.length > 1)
    throw ambiguous(
      model,
      here.map(({ known }) => known.id),
    )
  if (shelved !== undefined) return ofShelved(shelved)
  const digits = model.toLowerCase()
  if (/^[0-9a-f]{64}$/.test(digits)) return { subject: { model: digits }, from: [] }
  return { subject: { model: await theOne(deps, model, options) }, from: [] }
}

/** The same, with what is known here of the model. */
function known({ shelf }: SubjectDeps, found: FoundSubject & { readonly infoHash: Uint8Array }): FoundSubject {
  const shelved = shelf.withInfoHash(found.infoHash)
  return shelved === undefined ? found : { ...found, ...ofShelved(shelved), from: found.from }
}

function ofShelved(shelved: ShelvedModel): FoundSubject {
  const { core, manifest } = shelved.known
  return { subject: { core: new Uint8Array(core), manifest: manifest?.bytes }, from: [], shelved }
}

function ofMagnet({ infoHash, peers }: Magnet): FoundSubject & { readonly infoHash: Uint8Array } {
  return { infoHash, subject: { infoHash }, from: peers.map(({ host, port }) => ({ kind: 'bittorrent', host, port })) }
}

function ofTorrent(bytes: Uint8Array): FoundSubject & { readonly infoHash: Uint8Array } {
  const { torrent, pieceLayers } = parseTorrentFile(bytes)
  if (!torrent.isCanonical) {
    throw new NodeError(
      { code: 'NODE_TORRENT_UNFIT' },
      `the torrent "${torrent.name}" is not one of a Koinon model: those have two files, core.cbor and model.gguf`,
    )
  }
  const root = torrent.files[TORRENT_MODEL_FILE]?.root
  const pieceLayer = root === undefined ? undefined : pieceLayers.get(toHex(root))
  const { infoHash } = torrent
  return { infoHash, subject: { infoHash }, from: [], ...(pieceLayer === undefined ? {} : { pieceLayer }) }
}

/** Names are anybody's words: where two models go by one, a person has to say which. */
async function theOne(
  { lookUp }: SubjectDeps,
  text: string,
  options: { readonly signal: AbortSignal },
): Promise<string> {
  const ids = new Set<string>()
  for await (const id of lookUp(text, options)) ids.add(id)
  const [only] = ids
  if (only !== undefined && ids.size === 1) return only
  if (ids.size > 1) throw ambiguous(text, [...ids])
  const asked = text.slice(0, 100)
  throw new NodeError(
    { code: 'NODE_MODEL_UNKNOWN', model: asked },
    `nobody who was found has a model "${asked}"; connect to a node that has it, or give its id`,
  )
}

/**
 * Addresses of whoever may have it: `bt:HOST:PORT` of a BitTorrent client, or a multiaddr of a node.
 * @param connect dials a node that does not say who it is @throws NodeError NODE_ADDRESS_INVALID, or as `connect`
 */
export async function peerAddressOf(text: string, connect: (address: string) => Promise<string>): Promise<PeerAddress> {
  const stock = /^bt:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  if (stock !== null) {
    const port = Number(stock[3])
    if (port >= 1 && port <= 65_535) return { kind: 'bittorrent', host: stock[1] ?? stock[2] ?? '', port }
  }
  if (!text.startsWith('/')) {
    throw new NodeError(
      { code: 'NODE_ADDRESS_INVALID', address: text.slice(0, 200) },
      `"${text.slice(0, 200)}" is no address: give a multiaddr of a node, or bt:HOST:PORT of a BitTorrent client`,
    )
  }
  const peer = await connect(text)
  return { kind: 'koinon', peer, addresses: [text] }
}

/** Whoever pulls by a torrent or a magnet link may take it for granted that BitTorrent clients are asked. They were not. */
export function withoutBitTorrent(error: unknown, { model, torrent }: Pick<PullRequest, 'model' | 'torrent'>): unknown {
  const code = codeOf(error)
  if (torrent === undefined && !/^magnet:/i.test(model)) return error
  if (code !== 'SWARM_NO_PEERS' && code !== 'SWARM_CORE_MISSING') return error
  return bitTorrentOff(`${messageOf(error)}; BitTorrent clients were not asked`, error)
}

export function bitTorrentOff(what: string, cause?: unknown): NodeError {
  const text = `${what}: for these, start the node with "koinon up --bittorrent"`
  return new NodeError({ code: 'NODE_BITTORRENT_OFF' }, text, { cause })
}
