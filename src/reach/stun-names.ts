/** The STUN servers that the owner names, as IP addresses: looked up once, and again until something is found. */
import type { Endpoint } from '#nat'
import { STUN_SERVERS_MAX } from './limits.ts'
import type { ReachDeps, StunName } from './types.ts'

export class StunNames {
  readonly #resolve: ReachDeps['resolve']
  readonly #names: readonly StunName[]
  readonly #onResolved: () => void
  readonly #found = new Map<StunName, Endpoint>()
  #isLooking = false

  constructor(
    deps: Pick<ReachDeps, 'resolve'>,
    options: { readonly names: readonly StunName[]; readonly onResolved: () => void },
  ) {
    this.#resolve = deps.resolve
    this.#names = options.names.slice(0, STUN_SERVERS_MAX)
    this.#onResolved = options.onResolved
  }

  /** Those that are found by now, then the others, each address once. Names that are not found are looked up beside. */
  serversWith(others: readonly Endpoint[]): readonly Endpoint[] {
    if (this.#found.size < this.#names.length && !this.#isLooking) {
      this.#isLooking = true
      void this.#look().finally(() => {
        this.#isLooking = false
      })
    }
    const all = [...this.#found.values(), ...others]
    return [...new Map(all.map(server => [`${server.address} ${server.port}`, server])).values()]
  }

  async #look(): Promise<void> {
    const before = this.#found.size
    for (const name of this.#names) {
      if (this.#found.has(name)) continue
      const address = await this.#resolve(name.host)
      if (address !== undefined) this.#found.set(name, { address, port: name.port })
    }
    if (this.#found.size > before) this.#onResolved()
  }
}
