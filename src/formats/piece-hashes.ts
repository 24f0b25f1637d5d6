/**
 * The tree over a file's pieces as far as it is known: whoever fetches a file has its root first, then hashes of some
 * pieces with the uncles that lead to the root (BEP 52 `hash request` and `hashes`). Nothing is in it that the root does
 * not vouch for. `PieceTree` is the same tree, whole.
 */
import { assert, Bitfield, concatBytes } from '#base'
import { equalInConstantTime } from '#crypto'
import { filler, HASH_BYTES, parent, parentsOf, pieceCount } from './pieces.ts'

/** Hashes of neighbouring pieces, and the hashes beside their way to the root, the lowest first. */
export type ProvenHashes = {
  /** From 0, a multiple of their number rounded up to a power of two. */
  readonly first: number
  readonly hashes: Uint8Array
  /** May end where the rest of the way is known. */
  readonly proof: Uint8Array
}

/** Part of the bytes that `PieceHashes.encode` gives. */
export type NodeRun = { readonly offset: number; readonly bytes: Uint8Array<ArrayBuffer> }

/** Takes 64 bytes of memory for each MiB of the file. */
export class PieceHashes {
  /** Pieces of the file. */
  readonly count: number
  /** All levels, that of the pieces first and the root last. */
  readonly #nodes: Uint8Array<ArrayBuffer>
  readonly #known: Bitfield
  /** The number of each level's first node. */
  readonly #starts: readonly number[]
  readonly #fillers: readonly Uint8Array[]

  /** @param root 32 bytes @param size bytes of the file, at least 1 */
  constructor(root: Uint8Array, size: number) {
    assert(size > 0 && root.byteLength === HASH_BYTES, 'a file that is hashed has a size and a root')
    this.count = pieceCount(size)
    const starts = [0]
    let width = this.count
    for (; width > 1; width = Math.ceil(width / 2)) starts.push((starts.at(-1) ?? 0) + width)
    this.#starts = starts
    this.#fillers = starts.map((_, height) => filler(height))
    const total = (starts.at(-1) ?? 0) + 1
    this.#nodes = new Uint8Array(total * HASH_BYTES)
    this.#known = new Bitfield(total)
    this.#set(this.#height, 0, root)
  }

  /** Reads what `encode` gave. What the root does not vouch for is left out, so any bytes will do. */
  static decode(file: { readonly root: Uint8Array; readonly size: number }, bytes: Uint8Array): PieceHashes {
    const made = new PieceHashes(file.root, file.size)
    for (let height = made.#height - 1; height >= 0; height--) made.#decodeLevel(height, bytes)
    return made
  }

  /** Bytes that `encode` gives for a file of this size. */
  static bytesFor(size: number): number {
    let bytes = HASH_BYTES
    for (let width = pieceCount(size); width > 1; width = Math.ceil(width / 2)) bytes += width * HASH_BYTES
    return bytes
  }

  /** The hash of a piece; undefined: not known. */
  piece(piece: number): Uint8Array | undefined {
    return piece < this.count ? this.#node(0, piece) : undefined
  }

  /** Whether the hash of each of these pieces is known. */
  knows(pieces: Bitfield): boolean {
    for (const piece of pieces.numbers()) if (!this.#known.has(piece)) return false
    return true
  }

  /** @returns what became known, as parts of what `encode` gives; undefined: these are not the file's, or not proven */
  put({ first, hashes, proof }: ProvenHashes): readonly NodeRun[] | undefined {
    const given = hashes.byteLength / HASH_BYTES
    const width = 2 ** Math.ceil(Math.log2(given))
    if (!Number.isInteger(given) || given < 1 || proof.byteLength % HASH_BYTES !== 0) return undefined
    if (!Number.isInteger(first) || first < 0 || first >= this.count || first % width !== 0) return undefined
    if (width > 2 ** this.#height || (given !== width && first + given !== this.count)) return undefined
    const found: Found[] = [{ height: 0, index: first, hashes }]
    let level = hashes
    for (let height = 0; height < Math.log2(width); height++) {
      level = parentsOf(level, this.#fillers[height] ?? level)
      found.push({ height: height + 1, index: first / 2 ** (height + 1), hashes: level })
    }
    return this.#climb(found, level, proof) ? this.#keep(found) : undefined
  }

  /**
   * @param range.count a power of two, or all there are
   * @param range.proofLayers as BEP 52 counts: layers above the asked one, those that follow from the hashes included
   * @returns undefined: not known, or no such range
   */
  get(range: {
    readonly first: number
    readonly count: number
    readonly proofLayers: number
  }): Omit<ProvenHashes, 'first'> | undefined {
    const { first, count, proofLayers } = range
    if (![first, count, proofLayers].every(value => Number.isSafeInteger(value) && value >= 0)) return undefined
    const isAll = first === 0 && count === this.count
    const layers = Math.ceil(Math.log2(count))
    if (count < 1 || layers > this.#height || first >= this.count || first % 2 ** layers !== 0) return undefined
    if (!isAll && 2 ** layers !== count) return undefined
    const hashes = this.#nodesAt(Array.from({ length: count }, (_, at) => [0, first + at] as const))
    const uncles: Array<readonly [number, number]> = []
    for (let height = layers; height <= Math.min(proofLayers, this.#height - 1); height++) {
      uncles.push([height, Math.floor(first / 2 ** height) ^ 1])
    }
    const proof = this.#nodesAt(uncles)
    return hashes === undefined || proof === undefined ? undefined : { hashes, proof }
  }

  /** All levels, that of the pieces first; zeros where nothing is known. */
  encode(): Uint8Array<ArrayBuffer> {
    return this.#nodes.slice()
  }

  get #height(): number {
    return this.#starts.length - 1
  }

  #widthOf(height: number): number {
    return (this.#starts[height + 1] ?? this.#known.size) - (this.#starts[height] ?? 0)
  }

  #node(height: number, index: number): Uint8Array | undefined {
    if (index >= this.#widthOf(height)) return this.#fillers[height]
    const number = (this.#starts[height] ?? 0) + index
    return this.#known.has(number) ? this.#nodes.subarray(number * HASH_BYTES, (number + 1) * HASH_BYTES) : undefined
  }

  #set(height: number, index: number, hash: Uint8Array): void {
    if (index >= this.#widthOf(height)) return
    const number = (this.#starts[height] ?? 0) + index
    this.#nodes.set(hash, number * HASH_BYTES)
    this.#known.set(number)
  }

  #nodesAt(places: ReadonlyArray<readonly [height: number, index: number]>): Uint8Array | undefined {
    const nodes: Uint8Array[] = []
    for (const [height, index] of places) {
      const node = this.#node(height, index)
      if (node === undefined) return undefined
      nodes.push(node)
    }
    return concatBytes(nodes)
  }

  /** Follows a proof until it meets what is known. Adds what it finds on the way. */
  #climb(found: Found[], top: Uint8Array, proof: Uint8Array): boolean {
    let { height, index } = found.at(-1) ?? { height: 0, index: 0 }
    let hash = top
    for (let used = 0; ; used += HASH_BYTES) {
      const known = this.#node(height, index)
      if (known !== undefined) return equalInConstantTime(hash, known)
      const isGiven = used < proof.byteLength
      const sibling = isGiven ? proof.subarray(used, used + HASH_BYTES) : this.#node(height, index ^ 1)
      if (sibling === undefined) return false
      found.push({ height, index: index ^ 1, hashes: sibling })
      hash = index % 2 === 1 ? parent(sibling, hash) : parent(hash, sibling)
      height++
      index = Math.floor(index / 2)
      found.push({ height, index, hashes: hash })
    }
  }

  #keep(found: readonly Found[]): readonly NodeRun[] {
    return found.flatMap(({ height, index, hashes }) => {
      const count = Math.min(hashes.byteLength / HASH_BYTES, this.#widthOf(height) - index)
      for (let at = 0; at < count; at++) {
        this.#set(height, index + at, hashes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES))
      }
      const offset = ((this.#starts[height] ?? 0) + index) * HASH_BYTES
      return count > 0 ? [{ offset, bytes: new Uint8Array(hashes.subarray(0, count * HASH_BYTES)) }] : []
    })
  }

  #decodeLevel(height: number, bytes: Uint8Array): void {
    const read = (index: number): Uint8Array => {
      const offset = ((this.#starts[height] ?? 0) + index) * HASH_BYTES
      return bytes.subarray(offset, offset + HASH_BYTES)
    }
    const width = this.#widthOf(height)
    for (let left = 0; left < width; left += 2) {
      const above = this.#node(height + 1, left / 2)
      const hash = read(left)
      const sibling = left + 1 < width ? read(left + 1) : (this.#fillers[height] ?? hash)
      if (above === undefined || hash.byteLength < HASH_BYTES || sibling.byteLength < HASH_BYTES) continue
      // A hash of zeros is what a hole in the file reads as.
      if (hash.every(byte => byte === 0) || !equalInConstantTime(parent(hash, sibling), above)) continue
      this.#set(height, left, hash)
      this.#set(height, left + 1, sibling)
    }
  }
}

type Found = { readonly height: number; readonly index: number; readonly hashes: Uint8Array }
