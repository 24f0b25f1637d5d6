/**
 * Keeps an eye on the NAT: detects it when there is somebody to ask, again when the network has changed, and every so often
 * without a reason, since routers are replaced and carriers move people.
 */
import { type Clock, type Logger, messageOf, type Random } from '#base'
import { detectNat, type Endpoint, type NatReport, type OpenUdp } from '#nat'
import { DETECT_PERIOD_MS, DETECT_RETRY_MS } from './limits.ts'

export type NatWatchDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly openUdp: OpenUdp
  readonly localAddresses: () => readonly string[]
  readonly onDetected: () => void
}

/** What the detection depends on. */
export type NatView = {
  readonly servers: readonly Endpoint[]
  /** Changes with the network: the machine's own addresses and those that peers see. */
  readonly network: string
}

export class NatWatch {
  readonly #deps: NatWatchDeps
  readonly #stopping = new AbortController()
  #report: NatReport | undefined
  #detectedAt = 0
  #askedFor = ''
  #askedAt = 0
  #servers = 0
  #running: Promise<void> | undefined

  constructor(deps: NatWatchDeps) {
    this.#deps = deps
  }

  /** What was found the last time; undefined: nothing yet, or the network has changed since. */
  get report(): NatReport | undefined {
    return this.#report
  }

  get ageMs(): number {
    return this.#deps.clock.monotonic() - this.#detectedAt
  }

  /** Servers that are known. */
  get servers(): number {
    return this.#servers
  }

  get isRunning(): boolean {
    return this.#running !== undefined
  }

  /** Detects where that is due. Returns at once. */
  look(view: NatView): void {
    this.#servers = view.servers.length
    if (this.#stopping.signal.aborted || this.#running !== undefined || view.servers.length === 0) return
    // A second server tells what one cannot; more only tell it again.
    const askedFor = `${Math.min(2, view.servers.length)} ${view.network}`
    const isUseful = this.#report !== undefined && !['unknown', 'blocked'].includes(this.#report.kind)
    const periodMs = isUseful ? DETECT_PERIOD_MS : DETECT_RETRY_MS
    const isDue = askedFor !== this.#askedFor || this.#deps.clock.monotonic() - this.#askedAt >= periodMs
    if (!isDue) return
    this.#askedFor = askedFor
    this.#askedAt = this.#deps.clock.monotonic()
    this.#running = this.#detect(view.servers).finally(() => {
      this.#running = undefined
    })
  }

  /** Forgets what belongs to a network that this node has left. */
  clear(): void {
    this.#report = undefined
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the node is stopping'))
    await this.#running
  }

  /** Never rejects. */
  async #detect(servers: readonly Endpoint[]): Promise<void> {
    const { clock, log, localAddresses, onDetected } = this.#deps
    const { signal } = this.#stopping
    try {
      this.#report = await detectNat(this.#deps, { servers, localAddresses: localAddresses(), signal })
      this.#detectedAt = clock.monotonic()
      log.info('the NAT was looked at', { kind: this.#report.kind, mapping: this.#report.mapping })
    } catch (error) {
      if (signal.aborted) return
      log.warn('the NAT could not be looked at', { error: messageOf(error) })
    }
    onDetected()
  }
}
