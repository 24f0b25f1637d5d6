/** What people are told of models that are known here. */
import { toHex } from '#base'
import { encodeTorrentFile, magnetOf, pieceTreeOf, TORRENT_CORE_FILE, TORRENT_MODEL_FILE } from '#formats'
import type { StoredVote } from '#storage'
import type { SwarmModelFacts } from '#swarm'
import type { ModelDetails, ModelHolding } from '#wire'
import { NodeError } from '../errors.ts'
import { architectureOf, heldOf, layersIn, nameOf, type ShelvedModel } from './shelf.ts'

export function describeHolding(model: ShelvedModel, facts: SwarmModelFacts | undefined): ModelHolding {
  const { known, blob } = model
  const held = heldOf(model)
  return {
    id: known.id,
    name: nameOf(model),
    architecture: architectureOf(model),
    layerCount: layersIn(model),
    totalBytes: blob.length,
    heldBytes: held.bytes,
    heldLayers: held.layers,
    hasEdges: held.hasEdges,
    ...(known.file === undefined ? {} : { file: known.file }),
    isShared: known.isShared,
    peers: facts?.peers.length ?? 0,
    uploadedBytes: facts?.uploadedBytes ?? 0,
    downloadedBytes: facts?.downloadedBytes ?? 0,
  }
}

export function describeDetails(
  model: ShelvedModel,
  { facts, votes }: { readonly facts: SwarmModelFacts | undefined; readonly votes: readonly StoredVote[] },
): ModelDetails {
  const { known, torrent } = model
  const { manifest: said, signer } = known.manifest ?? {}
  return {
    ...describeHolding(model, facts),
    ...(said?.licence === undefined ? {} : { licence: said.licence }),
    ...(signer === undefined ? {} : { signer }),
    ...(said === undefined ? {} : { createdAt: said.createdAt }),
    ...(said?.previous === undefined ? {} : { previous: said.previous }),
    benchmarks: said?.card.benchmarks ?? [],
    hasTestVector: said?.card.testVector !== undefined,
    votes: votes.map(({ voter, vote: { isTrusted, comment, at } }) => ({ peer: voter, isTrusted, comment, at })),
    infoHash: toHex(torrent.infoHash),
    magnet: magnetOf(torrent, nameOf(model)),
  }
}

/**
 * A .torrent file, with which BitTorrent clients fetch and serve the model.
 * @throws NodeError NODE_HASHES_MISSING where the hashes of some pieces are not here
 */
export function torrentBytesOf({ known, torrent, blob }: ShelvedModel): Uint8Array {
  const layers = new Map<string, Uint8Array>()
  const [core, model] = [torrent.files[TORRENT_CORE_FILE], torrent.files[TORRENT_MODEL_FILE]]
  if (core !== undefined && core.pieceCount > 1) {
    layers.set(toHex(core.root), pieceTreeOf(known.core).layer(0, core.pieceCount))
  }
  if (model !== undefined && model.pieceCount > 1) {
    const hashes = blob.hashesOf({ first: 0, count: model.pieceCount, proofLayers: 0 })?.hashes
    if (hashes === undefined) {
      const message =
        'this node holds some of the model only, and does not know the hashes of the rest: pull all of it first'
      throw new NodeError({ code: 'NODE_HASHES_MISSING' }, message)
    }
    layers.set(toHex(model.root), hashes)
  }
  return encodeTorrentFile(torrent, layers)
}
