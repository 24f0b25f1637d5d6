/**
 * The models that this node knows: what was written down about each, joined with what of it is on the disk. A user's file
 * that was changed since is no part of its model any more; the model stays known, without it.
 */
import { Bitfield, type Logger, messageOf, toHex } from '#base'
import {
  describeModel,
  type HashedFile,
  heldParts,
  type HeldParts,
  layerCountOf,
  type ModelCore,
  modelFileOf,
  parseCore,
  piecesOf,
  readGguf,
  type Torrent,
  TORRENT_MODEL_FILE,
  torrentOf,
  wantedRanges,
} from '#formats'
import { type Blob, type BlobStore, type KnownModel, type ManifestStore, openFileSource } from '#storage'
import { NodeError } from '../errors.ts'
import { MODEL_ID_PREFIX_MIN } from '../limits.ts'

/** A model that is known, and where its weights lie. */
export type ShelvedModel = {
  readonly known: KnownModel
  readonly core: ModelCore
  readonly torrent: Torrent
  readonly blob: Blob
  /** What its file says of itself, where nobody has signed anything about it and the file's header is here. */
  readonly label: ModelLabel | undefined
}

export type ModelLabel = { readonly name: string; readonly architecture: string }

export type ShelfDeps = {
  readonly log: Logger
  readonly models: ManifestStore
  readonly blobs: BlobStore
}

/** What is to be kept of a model. */
export type Shelving = {
  readonly core: Uint8Array
  /** A signed envelope. Undefined: what is kept already stays. */
  readonly manifest?: Uint8Array | undefined
  /** A file of the user's that has all of it, and the hashes of it where they are known. */
  readonly file?: { readonly path: string; readonly hashed?: HashedFile | undefined } | undefined
  readonly isShared: boolean
}

export class Shelf {
  readonly #deps: ShelfDeps
  readonly #models = new Map<string, ShelvedModel>()

  constructor(deps: ShelfDeps) {
    this.#deps = deps
  }

  /** Puts up what earlier lives have left. */
  async load(): Promise<void> {
    for (const known of this.#deps.models.list()) {
      try {
        await this.#place(known)
      } catch (error) {
        this.#deps.log.warn('a model cannot be used', { model: known.id, reason: messageOf(error) })
      }
    }
  }

  list(): readonly ShelvedModel[] {
    return [...this.#models.values()]
  }

  get(id: string): ShelvedModel | undefined {
    return this.#models.get(id)
  }

  /**
   * By id, by 8 digits or more of it, or by name.
   * @throws NodeError NODE_MODEL_UNKNOWN, NODE_MODEL_AMBIGUOUS
   */
  find(text: string): ShelvedModel {
    const found = this.match(text)
    const [only] = found
    if (only === undefined) {
      const asked = text.length > 100 ? `${text.slice(0, 100)}…` : text
      throw new NodeError({ code: 'NODE_MODEL_UNKNOWN', model: asked }, `this node holds no model "${asked}"`)
    }
    if (found.length > 1)
      throw ambiguous(
        text,
        found.map(({ known }) => known.id),
      )
    return only
  }

  /** By what its torrent is known by: 32 bytes, or the 20 that older magnets have. */
  withInfoHash(infoHash: Uint8Array): ShelvedModel | undefined {
    const digits = toHex(infoHash)
    return this.list().find(({ torrent }) => toHex(torrent.infoHash).startsWith(digits))
  }

  /** All that the text may mean. */
  match(text: string): readonly ShelvedModel[] {
    const digits = text.toLowerCase()
    const exact = this.#models.get(digits)
    if (exact !== undefined) return [exact]
    const isPrefix = digits.length >= MODEL_ID_PREFIX_MIN && /^[0-9a-f]+$/.test(digits)
    return this.list().filter(model => (isPrefix && model.known.id.startsWith(digits)) || nameOf(model) === text)
  }

  /** Keeps a model, or what is new about one. @throws StorageError, NodeError NODE_MODEL_INVALID */
  async put({ core, manifest, file, isShared }: Shelving): Promise<ShelvedModel> {
    const before = this.#deps.models.find(parseCore(core).id)
    const known = this.#deps.models.put({
      core,
      manifest: manifest ?? before?.manifest?.bytes,
      file: file?.path ?? before?.file,
      isShared,
    })
    if (known === undefined) {
      throw new NodeError({ code: 'NODE_MODEL_INVALID' }, 'the description of the model does not hold')
    }
    return this.#place(known, file?.hashed)
  }

  /** Looks again at what a model says of itself: its header has come meanwhile. @throws as `find` */
  refresh(id: string): Promise<ShelvedModel> {
    const { known } = this.find(id)
    return this.#place(this.#deps.models.find(id) ?? known)
  }

  /** Forgets a model and what the store has of it. @returns bytes that are free now @throws StorageError */
  async remove({ known, blob }: ShelvedModel): Promise<number> {
    // First what can be refused: what is being pulled is pinned.
    const freed = await this.#deps.blobs.remove(toHex(blob.root))
    this.#models.delete(known.id)
    this.#deps.models.remove(known.id)
    return freed
  }

  async #place(known: KnownModel, hashed?: HashedFile): Promise<ShelvedModel> {
    const core = parseCore(known.core)
    const placed = { known, core, torrent: torrentOf(known.core), blob: await this.#blobOf(known, core, hashed) }
    const label = known.manifest === undefined ? await this.#labelOf(placed) : undefined
    const shelved = { ...placed, label }
    this.#models.set(known.id, shelved)
    return shelved
  }

  async #labelOf(model: Omit<ShelvedModel, 'label'>): Promise<ModelLabel | undefined> {
    if (!model.blob.has.contains(ownPiecesOf(model, wantedRanges(model.core, {})))) return undefined
    const source = await openFileSource(model.blob.path)
    try {
      const { name, architecture } = describeModel(await readGguf(source))
      return { name, architecture }
    } catch (error) {
      this.#deps.log.debug('a model says nothing of itself', { model: model.known.id, reason: messageOf(error) })
      return undefined
    } finally {
      await source.close()
    }
  }

  async #blobOf(known: KnownModel, core: ModelCore, hashed: HashedFile | undefined): Promise<Blob> {
    const { blobs, log } = this.#deps
    const file = modelFileOf(core)
    if (known.file === undefined) return blobs.open(file)
    try {
      return await blobs.adopt(known.file, file, hashed)
    } catch (error) {
      // Somebody who just gave the file hears of it; at a start the model is known without its file.
      if (hashed !== undefined) throw error
      log.warn('a file is not the model any more', { file: known.file, model: known.id, reason: messageOf(error) })
      return blobs.open(file)
    }
  }
}

/** What people call it: a label of whoever signed the manifest, else the file's own, else the beginning of its id. */
export function nameOf({ known, label }: Pick<ShelvedModel, 'known' | 'label'>): string {
  return known.manifest?.manifest.name ?? label?.name ?? known.id.slice(0, 12)
}

export function architectureOf({ known, label }: Pick<ShelvedModel, 'known' | 'label'>): string {
  return known.manifest?.manifest.architecture ?? label?.architecture ?? ''
}

export function ambiguous(text: string, ids: readonly string[]): NodeError {
  const shown = ids.slice(0, 8).map(id => id.slice(0, 16))
  return new NodeError(
    { code: 'NODE_MODEL_AMBIGUOUS', ids: shown },
    `"${text.slice(0, 100)}" may be any of ${ids.length} models: say which by the beginning of its id (${shown.join(', ')})`,
  )
}

/** What can be done with what is here. */
export function heldOf({ core, torrent, blob }: ShelvedModel): HeldParts & { readonly bytes: number } {
  const held = new Bitfield(torrent.pieceCount)
  const first = torrent.files[TORRENT_MODEL_FILE]?.firstPiece ?? 0
  let bytes = 0
  for (const piece of blob.has.numbers()) {
    held.set(first + piece)
    bytes += Math.min(torrent.pieceBytes, blob.length - piece * torrent.pieceBytes)
  }
  return { ...heldParts(core, torrent, held), bytes }
}

/** Pieces of the model's file, counted in the file's own, that hold these bytes. */
export function ownPiecesOf(
  { torrent, blob }: Pick<ShelvedModel, 'torrent' | 'blob'>,
  ranges: Parameters<typeof piecesOf>[2],
): Bitfield {
  const first = torrent.files[TORRENT_MODEL_FILE]?.firstPiece ?? 0
  const pieces = new Bitfield(blob.pieceCount)
  for (const piece of piecesOf(torrent, TORRENT_MODEL_FILE, ranges).numbers()) pieces.set(piece - first)
  return pieces
}

export function layersIn({ core }: Pick<ShelvedModel, 'core'>): number {
  return layerCountOf(core)
}
