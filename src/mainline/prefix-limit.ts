/** How many contacts of one prefix there are: whoever has a whole block of addresses shall not fill a table with them. */
import { prefixOf, scopeOf } from './address.ts'

export class PrefixCount {
  readonly #counts = new Map<string, number>()
  readonly #countMax: number
  readonly #isLoopbackExempt: boolean

  constructor(options: { readonly countMax: number; readonly isLoopbackExempt: boolean }) {
    this.#countMax = options.countMax
    this.#isLoopbackExempt = options.isLoopbackExempt
  }

  hasRoom(host: string): boolean {
    if (this.#isLoopbackExempt && scopeOf(host) === 'loopback') return true
    return (this.#counts.get(prefixOf(host)) ?? 0) < this.#countMax
  }

  add(host: string): void {
    const prefix = prefixOf(host)
    this.#counts.set(prefix, (this.#counts.get(prefix) ?? 0) + 1)
  }

  remove(host: string): void {
    const prefix = prefixOf(host)
    const others = (this.#counts.get(prefix) ?? 1) - 1
    if (others === 0) this.#counts.delete(prefix)
    else this.#counts.set(prefix, others)
  }
}
