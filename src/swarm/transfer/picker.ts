/**
 * Which piece next: of those that are wanted and not begun, the one that the fewest have, and one by chance of several that
 * equally few have (rarest first: BEP 3, Cohen 2003; Legout 2006, "Rarest first and choke algorithms are enough").
 *
 * Pieces lie in one list for each number of peers that have them, each list in an order of chance. A piece goes from list to
 * list in constant time, so nothing that is done for peers ever looks at all pieces. Seeds have everything, so they change no
 * order and are not counted.
 */
import { assert, type Random } from '#base'

const RANDOM_TRIES = 12

export class Picker {
  readonly #random: Random
  readonly #availability: Uint16Array
  readonly #levels: number[][] = [[]]
  /** Where a piece lies in its list; -1: it is in none. */
  readonly #places: Int32Array
  #size = 0

  constructor(pieceCount: number, random: Random) {
    this.#random = random
    this.#availability = new Uint16Array(pieceCount)
    this.#places = new Int32Array(pieceCount).fill(-1)
  }

  /** How many pieces can be picked. */
  get size(): number {
    return this.#size
  }

  has(piece: number): boolean {
    return (this.#places[piece] ?? -1) >= 0
  }

  /** How many peers have it, but for seeds. */
  availabilityOf(piece: number): number {
    return this.#availability[piece] ?? 0
  }

  add(piece: number): void {
    if (this.has(piece)) return
    this.#size++
    this.#put(piece)
  }

  remove(piece: number): void {
    if (!this.has(piece)) return
    this.#size--
    this.#take(piece)
  }

  /** One peer more, or less, has it. */
  count(piece: number, change: 1 | -1): void {
    const isIn = this.has(piece)
    if (isIn) this.#take(piece)
    this.#availability[piece] = this.availabilityOf(piece) + change
    if (isIn) this.#put(piece)
  }

  /** @param canTake whether this piece would do */
  rarest(canTake: (piece: number) => boolean): number | undefined {
    for (const level of this.#levels) for (const piece of level) if (canTake(piece)) return piece
    return undefined
  }

  /**
   * The first of the rarest that lies behind a piece, and from the start of the file on where none does: whoever reads a file in
   * order jumps as seldom as may be. Looks at all that are equally rare.
   */
  rarestAfter(last: number, canTake: (piece: number) => boolean): number | undefined {
    const size = this.#places.length
    const stepsTo = (piece: number): number => (piece - last - 1 + size) % size
    for (const level of this.#levels) {
      let nearest: number | undefined
      for (const piece of level) {
        const isNearer = nearest === undefined || stepsTo(piece) < stepsTo(nearest)
        if (isNearer && canTake(piece)) nearest = piece
      }
      if (nearest !== undefined) return nearest
    }
    return undefined
  }

  /** A piece by chance; the rarest where a few tries find none that would do. */
  any(canTake: (piece: number) => boolean): number | undefined {
    for (let tries = 0; tries < RANDOM_TRIES && this.#size > 0; tries++) {
      let at = this.#random.uint32() % this.#size
      for (const level of this.#levels) {
        const piece = level[at]
        if (piece !== undefined) {
          if (canTake(piece)) return piece
          break
        }
        at -= level.length
      }
    }
    return this.rarest(canTake)
  }

  /** Whether nothing that can be picked is rarer. */
  isAmongRarest(piece: number): boolean {
    if (!this.has(piece)) return false
    for (let level = 0; level < this.availabilityOf(piece); level++)
      if ((this.#levels[level]?.length ?? 0) > 0) return false
    return true
  }

  #put(piece: number): void {
    const at = this.availabilityOf(piece)
    while (this.#levels.length <= at) this.#levels.push([])
    const level = this.#levels[at]
    assert(level !== undefined, 'a level that was just made')
    const place = this.#random.uint32() % (level.length + 1)
    const moved = level[place]
    level.push(piece)
    if (moved !== undefined) {
      level[level.length - 1] = moved
      this.#places[moved] = level.length - 1
      level[place] = piece
    }
    this.#places[piece] = place
  }

  #take(piece: number): void {
    const level = this.#levels[this.availabilityOf(piece)]
    const place = this.#places[piece] ?? -1
    const last = level?.pop()
    assert(level !== undefined && last !== undefined && place >= 0, 'a piece that lies in no list')
    if (last !== piece) {
      level[place] = last
      this.#places[last] = place
    }
    this.#places[piece] = -1
  }
}
