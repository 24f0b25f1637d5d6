/** The gateway's part: has the listening ports mapped for as long as the node runs, in whichever network it is. */
import { type Clock, type Logger, messageOf } from '#base'
import type { MappingChange, PortMapper, PortMapping } from '#nat'
import { MAP_RETRY_MS } from './limits.ts'

export type WantedPort = { readonly protocol: 'tcp' | 'udp'; readonly internalPort: number }

export type MappingsDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly createMapper: (onChanged: (change: MappingChange) => void) => PortMapper
  readonly onChanged: () => void
}

export class Mappings {
  readonly #deps: MappingsDeps
  #mapper: PortMapper | undefined
  /** When each port was asked for last. */
  readonly #askedAt = new Map<string, number>()
  readonly #asking = new Set<Promise<void>>()
  #isStopped = false

  constructor(deps: MappingsDeps) {
    this.#deps = deps
  }

  get ports(): readonly PortMapping[] {
    return this.#mapper?.mappings ?? []
  }

  /** Whether a gateway is being asked, for the first time or again. */
  get isAsking(): boolean {
    return this.#asking.size > 0
  }

  /** Asks for those that are not mapped, where it is time to. Returns at once. */
  look(wanted: readonly WantedPort[]): void {
    if (this.#isStopped || wanted.length === 0) return
    const { clock, createMapper, onChanged } = this.#deps
    this.#mapper ??= createMapper(onChanged)
    for (const port of wanted) {
      const key = `${port.protocol} ${port.internalPort}`
      const isMapped = this.ports.some(
        each => each.protocol === port.protocol && each.internalPort === port.internalPort,
      )
      const agoMs = clock.monotonic() - (this.#askedAt.get(key) ?? Number.NEGATIVE_INFINITY)
      if (isMapped || agoMs < MAP_RETRY_MS) continue
      this.#askedAt.set(key, clock.monotonic())
      const asking = this.#map(this.#mapper, port)
      this.#asking.add(asking)
      void asking.then(() => {
        this.#asking.delete(asking)
        onChanged()
      })
    }
  }

  /** The machine is in another network: its gateway is another one. */
  async moved(): Promise<void> {
    const mapper = this.#mapper
    this.#mapper = undefined
    this.#askedAt.clear()
    await mapper?.stop()
  }

  /** Takes back what was mapped. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.moved()
    await Promise.all(this.#asking)
  }

  /** Never rejects. */
  async #map(mapper: PortMapper, port: WantedPort): Promise<void> {
    try {
      const { via, externalPort, isPublic } = await mapper.map(port)
      this.#deps.log.info('a port is mapped', { ...port, via, externalPort, isPublic })
    } catch (error) {
      this.#deps.log.info('no gateway maps the port', { ...port, error: messageOf(error) })
    }
  }
}
