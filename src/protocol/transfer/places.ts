/** Places that are few, of which one peer may take only some. */
export class Places {
  readonly #max: number
  readonly #perPeerMax: number
  readonly #taken = new Map<string, number>()
  #count = 0

  constructor(max: number, perPeerMax: number) {
    this.#max = max
    this.#perPeerMax = perPeerMax
  }

  /** Takes a place. @returns what gives it back, once; undefined: there is none */
  enter(peer: string): (() => void) | undefined {
    const taken = this.#taken.get(peer) ?? 0
    if (this.#count >= this.#max || taken >= this.#perPeerMax) return undefined
    this.#count++
    this.#taken.set(peer, taken + 1)
    return () => {
      this.#count--
      const left = (this.#taken.get(peer) ?? 0) - 1
      if (left > 0) this.#taken.set(peer, left)
      else this.#taken.delete(peer)
    }
  }
}
