/** Both roles of one node over the same streams: what `node` makes and wires. */
import { type ByteStream, createStreamPair } from '#base'
import { PROTOCOLS } from '#wire'
import { EntryRole } from './entry.ts'
import { lostError } from './errors.ts'
import { IncomingStreams } from './incoming.ts'
import { type LinkEvents, Links } from './links.ts'
import { endStream } from './read-frames.ts'
import { StageRole } from './stage-server.ts'
import type { OpenStream, Pipeline, PipelineDeps, PipelineOptions } from './types.ts'

const MINUTE_MS = 60_000

/** Makes a node's pipeline. The engines are loaded, watched and stopped by their owner. */
export function createPipeline(deps: PipelineDeps, options: PipelineOptions = {}): Pipeline {
  return new BothRoles(deps, options)
}

class BothRoles implements Pipeline {
  readonly entry: EntryRole
  readonly stages: StageRole
  readonly #deps: PipelineDeps
  readonly #links: Links
  readonly #incoming: IncomingStreams
  #stopping: Promise<void> | undefined

  constructor(deps: PipelineDeps, options: PipelineOptions) {
    const { clock, random, log, self, selfAddresses, edge, stage } = deps
    this.#deps = deps
    this.#links = new Links({
      clock,
      log: log.child('links'),
      openStream: this.#openStream,
      events: this.#linkEvents(),
    })
    const links = this.#links
    this.entry = new EntryRole(
      { clock, random, log: log.child('entry'), self, selfAddresses, links, edge },
      {
        decodeTimeoutMs: options.decodeTimeoutMs ?? MINUTE_MS,
        prefillTimeoutMs: options.prefillTimeoutMs ?? 5 * MINUTE_MS,
        deadlineMs: options.deadlineMs ?? 30 * MINUTE_MS,
        openTimeoutMs: options.openTimeoutMs ?? MINUTE_MS / 2,
      },
    )
    this.stages = new StageRole(
      { clock, log: log.child('stage'), self, links, stage },
      { generationsPerEntryMax: options.generationsPerEntryMax ?? 32 },
    )
    this.#incoming = new IncomingStreams({
      clock,
      log: log.child('streams'),
      control: (session, message) => this.stages.control(session, message),
      begin: (session, header, purpose) =>
        header.kind === 'result' ? this.entry.begin(session, header) : this.stages.begin(session, header, purpose),
      ended: session => this.stages.sessionEnded(session),
    })
  }

  accept(stream: ByteStream): Promise<void> {
    return this.#incoming.accept(stream)
  }

  peerLeft(peer: string): void {
    this.stages.peerLeft(peer)
    this.entry.peerLeft(peer)
    const error = lostError(peer)
    this.#incoming.drop(peer, error)
    this.#links.drop(peer, error)
  }

  drain(options: { readonly timeoutMs: number }): Promise<void> {
    return this.stages.drain(options)
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    this.entry.stop()
    await this.stages.stop()
    // What the stages just said to their entries is still on its way.
    await Promise.all(this.#incoming.stop().map(stream => endStream(this.#deps.clock, stream)))
    await this.#links.stop()
  }

  /** Streams to ourselves stay in memory; all else is the same for them. */
  readonly #openStream: OpenStream = (peer, protocol, options) => {
    const { self, openStream } = this.#deps
    if (peer !== self) return openStream(peer, protocol, options)
    const [here, there] = createStreamPair(PROTOCOLS.stage, { a: self, b: self })
    void this.#incoming.accept(there) // Never rejects; ends with the link.
    return Promise.resolve(here)
  }

  /** A peer may be the first stage of our own generation, or the one after us in another's: never both in one. */
  #linkEvents(): LinkEvents {
    return {
      message: (peer, purpose, message) => {
        this.entry.message(peer, purpose, message)
        if (purpose !== 'control') this.stages.complaint(peer, message)
      },
      credit: (peer, generation) => {
        this.entry.credit(peer, generation)
        this.stages.credit(peer, generation)
      },
      lost: (peer, purpose, error) => {
        this.entry.linkLost(peer, purpose, error)
        if (purpose !== 'control') this.stages.linkLost(peer)
      },
    }
  }
}
