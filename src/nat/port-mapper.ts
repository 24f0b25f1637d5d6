/**
 * Asks the gateway to let a port in from outside, keeps that so, and takes it back at the end.
 *
 * Ways are tried in their order, each within a deadline of its own, so that a gateway that says nothing costs seconds at
 * most. Mappings are renewed after half of their lease. Where a renewal fails it is tried again, by all ways, until the
 * lease ends; then the mapping counts as lost, its owner hears so, and it goes on being asked for: gateways are started again.
 */
import type { CancelTimer, Clock, Logger, Random } from '#base'
import { messageOf, uniform, withDeadline } from '#base'
import { closed, NatError } from './errors.ts'
import { MAPPING_LEASE_SECONDS, MAPPING_MS_MAX, MAPPING_RETRY_MS, MAPPINGS_MAX, UNMAPPING_MS_MAX } from './limits.ts'
import { findGateways, type Gateway } from './mapping/gateways.ts'
import { PMP_PORT, PmpProtocol } from './mapping/pmp.ts'
import type { MappingProtocol, MappingRequest, PortMapping } from './mapping/types.ts'
import { UpnpProtocol } from './mapping/upnp.ts'
import type { OpenUdp } from './types.ts'

/** What became of a mapping after it was granted. */
export type MappingChange =
  /** It has another address or port outside now, or is back after it was lost. */
  | { readonly kind: 'moved'; readonly mapping: PortMapping }
  /** Its lease ended and no gateway renews it. It is still asked for. */
  | { readonly kind: 'lost'; readonly mapping: PortMapping }

export interface PortMapper {
  /** Those that are in force. */
  readonly mappings: readonly PortMapping[]
  /**
   * Maps a port and keeps it mapped until `unmap` or `stop`. A second call for the same protocol and port gives the same.
   * @throws NatError NAT_MAPPING_FAILED, NAT_MAPPINGS_FULL, NAT_CLOSED
   */
  map(request: MappingRequest): Promise<PortMapping>
  /** Takes a mapping back. Resolves when the gateway said so, or did not in time: then the lease ends it. */
  unmap(request: Pick<MappingRequest, 'protocol' | 'internalPort'>): Promise<void>
  /** Takes all mappings back. Idempotent; never rejects. */
  stop(): Promise<void>
}

export type PortMapperDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** The ways, the first to be tried first: `gatewayProtocols`. */
  readonly protocols: () => Promise<readonly MappingProtocol[]>
}

export type PortMapperOptions = {
  readonly onChanged?: (change: MappingChange) => void
  /** @default MAPPING_LEASE_SECONDS */
  readonly leaseSeconds?: number
}

/** PCP or NAT-PMP, then UPnP, at each of the machine's gateways. */
export async function gatewayProtocols(
  deps: { readonly clock: Clock; readonly random: Random; readonly openUdp: OpenUdp },
  gateways?: readonly Gateway[],
): Promise<MappingProtocol[]> {
  return (gateways ?? (await findGateways())).flatMap(({ address, localAddress }) => [
    new PmpProtocol(deps, { gateway: { address, port: PMP_PORT }, localAddress }),
    new UpnpProtocol(deps, { localAddress }),
  ])
}

/** Makes a port mapper. It does nothing before the first `map`. */
export function createPortMapper(deps: PortMapperDeps, options: PortMapperOptions = {}): PortMapper {
  return new LeaseKeeper(deps, options)
}

/** A port that is wanted, and what is had of it. */
type Entry = {
  readonly request: MappingRequest
  mapping: PortMapping | undefined
  protocol: MappingProtocol | undefined
  /** When the lease ends, by the monotonic clock. */
  endsAt: number
  cancelTimer: CancelTimer
  /** The call to a gateway that is under way: there is one at most. */
  turn: Promise<unknown>
  readonly stop: AbortController
}

class LeaseKeeper implements PortMapper {
  readonly #deps: PortMapperDeps
  readonly #options: PortMapperOptions
  readonly #entries = new Map<string, Entry>()
  #protocols: Promise<readonly MappingProtocol[]> | undefined
  #isStopped = false

  constructor(deps: PortMapperDeps, options: PortMapperOptions) {
    this.#deps = deps
    this.#options = options
  }

  get mappings(): readonly PortMapping[] {
    return [...this.#entries.values()].flatMap(entry => entry.mapping ?? [])
  }

  async map(request: MappingRequest): Promise<PortMapping> {
    if (this.#isStopped) throw closed('the port mapper')
    const key = keyOf(request)
    const known = this.#entries.get(key)
    if (known !== undefined) {
      await known.turn
      if (known.mapping !== undefined) return known.mapping
      // Whoever waited for somebody else's attempt makes one of his own when that failed.
      if (this.#entries.get(key) !== known) return this.map(request)
    } else if (this.#entries.size >= MAPPINGS_MAX) {
      const fault = { code: 'NAT_MAPPINGS_FULL', mappingsMax: MAPPINGS_MAX } as const
      throw new NatError(fault, `no more than ${MAPPINGS_MAX} ports can be mapped`)
    }
    const entry = known ?? this.#newEntry(request)
    this.#entries.set(key, entry)
    const turn = this.#acquire(entry)
    entry.turn = turn.catch(() => undefined)
    try {
      return await turn
    } catch (error) {
      // What was never had is not kept being asked for: the caller knows best when to try again.
      this.#drop(key, entry)
      throw error
    }
  }

  async unmap(request: Pick<MappingRequest, 'protocol' | 'internalPort'>): Promise<void> {
    const key = keyOf(request)
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#drop(key, entry)
    await entry.turn
    await this.#release(entry)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all([...this.#entries.values()].map(entry => this.unmap(entry.request)))
  }

  #newEntry(request: MappingRequest): Entry {
    return {
      request,
      mapping: undefined,
      protocol: undefined,
      endsAt: 0,
      cancelTimer: () => undefined,
      turn: Promise.resolve(),
      stop: new AbortController(),
    }
  }

  #drop(key: string, entry: Entry): void {
    entry.cancelTimer()
    entry.stop.abort(closed('the mapping'))
    if (this.#entries.get(key) === entry) this.#entries.delete(key)
  }

  /** Asks for the mapping, the way that granted it before first. */
  async #acquire(entry: Entry): Promise<PortMapping> {
    const all = await this.#ways()
    const ways = entry.protocol === undefined ? all : [entry.protocol, ...all.filter(way => way !== entry.protocol)]
    const reasons: string[] = []
    for (const way of ways) {
      try {
        const mapping = await this.#ask(way, entry)
        entry.protocol = way
        this.#hold(entry, mapping)
        return mapping
      } catch (error) {
        if (entry.stop.signal.aborted) break
        reasons.push(`${way.name}: ${messageOf(error)}`)
      }
    }
    if (entry.stop.signal.aborted) throw closed('the port mapper')
    throw new NatError({ code: 'NAT_MAPPING_FAILED', reasons }, 'no gateway maps the port')
  }

  async #ways(): Promise<readonly MappingProtocol[]> {
    this.#protocols ??= this.#deps.protocols()
    try {
      const ways = await this.#protocols
      if (ways.length > 0) return ways
    } catch (error) {
      this.#deps.log.warn('the gateways cannot be found', { error: messageOf(error) })
    }
    // A machine that has no network now may have one later.
    this.#protocols = undefined
    return []
  }

  #ask(way: MappingProtocol, entry: Entry): Promise<PortMapping> {
    const leaseSeconds = this.#options.leaseSeconds ?? MAPPING_LEASE_SECONDS
    const wished = entry.mapping?.externalPort ?? entry.request.externalPort
    const request = wished === undefined ? entry.request : { ...entry.request, externalPort: wished }
    const deadline = { what: way.name, timeoutMs: MAPPING_MS_MAX, signal: entry.stop.signal }
    return withDeadline(this.#deps.clock, deadline, signal => way.map(request, { leaseSeconds, signal }))
  }

  /** A new grant, or a renewed one. */
  #hold(entry: Entry, mapping: PortMapping): void {
    const { clock, random } = this.#deps
    const before = entry.mapping
    const wasLost = before === undefined && entry.endsAt > 0
    entry.mapping = mapping
    // A gateway that grants more than was asked for is asked again as if it had not: no timer runs for 136 years.
    const leaseMs = Math.min(mapping.leaseSeconds || MAPPING_LEASE_SECONDS, MAPPING_LEASE_SECONDS) * 1_000
    entry.endsAt = clock.monotonic() + leaseMs
    // Between 1/2 and 5/8 of the lease, so that the machines of a network do not all come at once (RFC 6887, 11.2.1).
    this.#renewAfter(entry, leaseMs * (0.5 + uniform(random) / 8))
    const hasMoved =
      before !== undefined &&
      (before.externalPort !== mapping.externalPort || before.externalAddress !== mapping.externalAddress)
    if (wasLost || hasMoved) this.#options.onChanged?.({ kind: 'moved', mapping })
  }

  #renewAfter(entry: Entry, delayMs: number): void {
    entry.cancelTimer()
    if (entry.stop.signal.aborted) return
    entry.cancelTimer = this.#deps.clock.after(delayMs, () => {
      entry.turn = this.#renew(entry)
    })
  }

  /** Never rejects. */
  async #renew(entry: Entry): Promise<void> {
    const { clock, log } = this.#deps
    try {
      await this.#acquire(entry)
    } catch (error) {
      if (entry.stop.signal.aborted) return
      log.warn('a port mapping was not renewed', { error: messageOf(error) })
      const leftMs = entry.endsAt - clock.monotonic()
      const lost = entry.mapping
      if (leftMs <= 0 && lost !== undefined) {
        entry.mapping = undefined
        this.#options.onChanged?.({ kind: 'lost', mapping: lost })
      }
      this.#renewAfter(entry, leftMs > 0 ? Math.min(MAPPING_RETRY_MS, leftMs) : MAPPING_RETRY_MS)
    }
  }

  async #release(entry: Entry): Promise<void> {
    const { mapping, protocol } = entry
    if (mapping === undefined || protocol === undefined) return
    entry.mapping = undefined
    const deadline = { what: protocol.name, timeoutMs: UNMAPPING_MS_MAX }
    try {
      await withDeadline(this.#deps.clock, deadline, signal => protocol.unmap(mapping, { signal }))
    } catch (error) {
      this.#deps.log.warn('a port mapping was not taken back; its lease will end it', { error: messageOf(error) })
    }
  }
}

function keyOf(request: Pick<MappingRequest, 'protocol' | 'internalPort'>): string {
  return `${request.protocol} ${request.internalPort}`
}
