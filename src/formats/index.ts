/** Model files and what belongs to them: GGUF, hyper-parameters, model id, chat templates, text from tokens. */
export { type BencodeValue, decodeBencode, decodeBencodePrefix, encodeBencode, isDict } from './bencode.ts'
export type { BenchmarkResult, ModelCard, Probe, TestVector } from './card.ts'
export { type ByteSource, memorySource } from './byte-source.ts'
export { type CoreFile, decodeCore, type ModelCore, modelFileOf, parseCore } from './core.ts'
export type { DescriptionFault, FormatFault } from './errors.ts'
export { edgeWeightBytes, kvBytesPerPosition, layerWeightBytes } from './footprint.ts'
export { GGML_TYPES, ggmlTypeNamed, tensorBytes } from './ggml-types.ts'
export { type GgufFile, type GgufTensor, readGguf } from './gguf.ts'
export { type HostAndPort, type Magnet, magnetOf, parseMagnet } from './magnet.ts'
export { checkManifest, decodeManifest, encodeManifest, type ModelManifest } from './manifest.ts'
export { type Architecture, describeModel, isSlidingLayer, type ModelConfig } from './model-config.ts'
export { bytesInRanges, heldParts, type HeldParts, layerCountOf, wantedRanges, type WantedParts } from './ranges.ts'
export { type HashOptions, hashOpenFile } from './file-hasher.ts'
export { hashSource, modelId } from './model-id.ts'
export { type NodeRun, PieceHashes, type ProvenHashes } from './piece-hashes.ts'
export {
  HASH_BYTES,
  type HashedFile,
  isPieceOf,
  LEAF_BYTES,
  leafHashes,
  PIECE_BYTES,
  PIECE_LEAVES,
  type PieceTree,
  pieceBytes,
  pieceCount,
  pieceHashOfLeaves,
  pieceTreeOf,
} from './pieces.ts'
export { CARD_PROBES_MAX } from './limits.ts'
export { createTemplateRenderer } from './template-renderer.ts'
export { type ModelShape, type TensorShape, tensorShapes } from './tensor-shapes.ts'
export { TextStream } from './text-stream.ts'
export {
  encodeTorrentFile,
  parseTorrentFile,
  type PieceLayers,
  type TorrentFileContent,
} from './torrent-file.ts'
export {
  type ByteRange,
  decodeTorrentInfo,
  pieceBytesIn,
  piecesOf,
  type Torrent,
  TORRENT_CORE_FILE,
  TORRENT_MODEL_FILE,
  type TorrentFile,
  torrentOf,
} from './torrent.ts'
export { decodeVote, encodeVote, type ModelVote } from './vote.ts'
export { workerEnvironment } from './worker-environment.ts'
