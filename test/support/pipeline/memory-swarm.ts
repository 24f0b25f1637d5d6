/** Several pipelines in one process, over streams in memory and a clock that the test moves. For unit tests. */
import {
  type ByteStream,
  createStreamPair,
  type LayerRange,
  ManualClock,
  type Random,
  seededRandom,
  silentLogger,
  StreamError,
} from '#base'
import { GREEDY, PROTOCOLS } from '#wire'
import {
  createPipeline,
  type GenerateRequest,
  type OpenStream,
  type Pipeline,
  type PipelineOptions,
  type PlannedHop,
} from '#pipeline'
import { FakeEdge, FakeStage, type FakeStageOptions, WIDTH } from './fake-engines.ts'

export const MODEL = 'ab'.repeat(32)
export const LAYER_COUNT = 8

export type SwarmNode = {
  readonly peer: string
  readonly pipeline: Pipeline
  readonly edge: FakeEdge
  readonly engine: FakeStage
  readonly layers: LayerRange
}

export type SwarmOptions = {
  readonly slots?: number
  readonly contextMax?: number
  readonly pipeline?: PipelineOptions
  readonly stage?: (peer: string) => FakeStageOptions
  /** Milliseconds that the next piece takes on its way; undefined: pieces arrive at once. */
  readonly latency?: () => number
  /** Refuses or replaces streams. */
  readonly wrap?: (stream: ByteStream, from: string, to: string) => ByteStream
  readonly clock?: ManualClock
  readonly random?: Random
}

/** Lets everything happen that can happen without time going on. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 4; i++) await new Promise<void>(resolve => setImmediate(resolve))
}

export class TestSwarm {
  readonly clock: ManualClock
  readonly random: Random
  readonly nodes = new Map<string, SwarmNode>()
  /** Both ends of every stream, by "from to". */
  readonly streams: { readonly from: string; readonly to: string; readonly end: ByteStream }[] = []
  readonly #options: SwarmOptions
  readonly #accepts = new Map<string, (stream: ByteStream) => Promise<void>>()

  constructor(options: SwarmOptions = {}) {
    this.#options = options
    this.clock = options.clock ?? new ManualClock()
    this.random = options.random ?? seededRandom(1)
  }

  /** Adds a node that serves `layers`. */
  add(peer: string, layers: LayerRange): SwarmNode {
    const edge = new FakeEdge()
    const engine = new FakeStage(this.#options.stage?.(peer))
    const { slots = 8, contextMax = 4096 } = this.#options
    const served = { model: MODEL, layers, profile: 'fake', width: WIDTH, layerCount: LAYER_COUNT, contextMax, slots }
    const pipeline = createPipeline(
      {
        clock: this.clock,
        random: this.random,
        log: silentLogger,
        self: peer,
        selfAddresses: () => [`/test/${peer}`],
        openStream: this.opener(peer),
        edge,
        stage: { engine, served: () => served },
      },
      this.#options.pipeline ?? {},
    )
    const node: SwarmNode = { peer, pipeline, edge, engine, layers }
    this.nodes.set(peer, node)
    this.#accepts.set(peer, stream => pipeline.accept(stream))
    return node
  }

  /** Adds something that only takes streams. */
  addPeer(peer: string, accept: (stream: ByteStream) => Promise<void>): void {
    this.#accepts.set(peer, accept)
  }

  /** `count` stages that share the layers, and an entry that is none of them. */
  ring(count: number): { readonly entry: SwarmNode; readonly stages: readonly SwarmNode[] } {
    const at = (i: number): number => Math.floor((i * LAYER_COUNT) / count)
    const stages = Array.from({ length: count }, (_, i) => this.add(`stage${i}`, { first: at(i), last: at(i + 1) }))
    return { entry: this.add('entry', { first: 0, last: LAYER_COUNT }), stages }
  }

  /** How `from` opens streams. */
  opener(from: string): OpenStream {
    return async to => {
      const accept = this.#accepts.get(to)
      if (accept === undefined) throw new Error(`${to} cannot be reached`)
      let [here, there] = createStreamPair(PROTOCOLS.stage, { a: from, b: to })
      const { wrap, latency } = this.#options
      if (latency !== undefined) {
        here = delayed(here, this.clock, latency)
        there = delayed(there, this.clock, latency)
      }
      if (wrap !== undefined) here = wrap(here, from, to)
      this.streams.push({ from, to, end: here })
      void accept(there)
      return here
    }
  }

  /** Resets every stream between two peers, and tells both that the other is gone. */
  cut(a: string, b: string): void {
    for (const { from, to, end } of this.streams) {
      if ((from === a && to === b) || (from === b && to === a)) end.abort(new Error('cut'))
    }
    this.nodes.get(a)?.pipeline.peerLeft(b)
    this.nodes.get(b)?.pipeline.peerLeft(a)
  }

  /** Moves time on until `promise` settles. */
  async until<T>(promise: Promise<T>, stepMs = 1): Promise<T> {
    let isSettled = false
    const settled = promise.finally(() => {
      isSettled = true
    })
    settled.catch(() => undefined) // The caller gets it from `promise`.
    for (let i = 0; i < 200_000 && !isSettled; i++) {
      await settle()
      if (!isSettled) this.clock.advance(stepMs)
    }
    if (!isSettled) throw new Error('it takes too long')
    return promise
  }

  /** Generations and slots that anything still holds. */
  held(): string[] {
    const found: string[] = []
    for (const { peer, pipeline, engine, edge } of this.nodes.values()) {
      for (const status of [...pipeline.entry.generations(), ...pipeline.stages.generations()]) {
        found.push(`${peer} ${status.role} ${status.generation}`)
      }
      if (pipeline.stages.slotsFree() !== (this.#options.slots ?? 8)) found.push(`${peer} slots`)
      if (engine.slotsInUse > 0) found.push(`${peer} rows`)
      if (edge.samplers.size > 0) found.push(`${peer} samplers`)
    }
    return found
  }
}

export function routeOf(stages: readonly SwarmNode[]): PlannedHop[] {
  return stages.map(({ peer, layers }) => ({ peer, addresses: [`/test/${peer}`], layers, profile: 'fake' }))
}

export function requestOf(
  stages: readonly SwarmNode[],
  more: Partial<GenerateRequest> & { readonly length?: number } = {},
): GenerateRequest {
  const { length = 7, ...rest } = more
  return {
    model: MODEL,
    width: WIDTH,
    prompt: Int32Array.from({ length }, (_, i) => (i * 31 + 5) % 1000),
    sampling: GREEDY,
    tokensMax: 12,
    ignoreEnd: true,
    route: routeOf(stages),
    ...rest,
  }
}

/** Runs a generation to its end. @returns its tokens */
export async function tokensOf(
  node: SwarmNode,
  request: GenerateRequest,
  signal: AbortSignal = new AbortController().signal,
): Promise<number[]> {
  const tokens: number[] = []
  for await (const event of node.pipeline.entry.generate(request, { signal })) {
    if (event.kind === 'token') tokens.push(event.next.token)
  }
  return tokens
}

/** What one node alone makes of a request: the reference for every ring. */
export async function referenceTokens(request: GenerateRequest): Promise<number[]> {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(1)
  return swarm.until(tokensOf(entry, { ...request, route: routeOf(stages) }))
}

/** Delays what arrives, in order. A reset overtakes what is on its way. */
function delayed(stream: ByteStream, clock: ManualClock, latency: () => number): ByteStream {
  let at = 0
  let reset: Error | undefined
  const later = (action: () => void): void => {
    at = Math.max(at, clock.monotonic() + latency())
    clock.after(at - clock.monotonic(), () => {
      if (reset === undefined) action()
    })
  }
  return {
    ...stream,
    received: stream.received,
    send: bytes => {
      if (reset !== undefined) throw new StreamError({ code: 'STREAM_RESET' }, 'the stream was reset', { cause: reset })
      later(() => {
        try {
          stream.send(bytes)
        } catch (error) {
          reset = error instanceof Error ? error : new Error(String(error))
        }
      })
      return true
    },
    close: () => {
      later(() => void stream.close())
      return Promise.resolve()
    },
    abort: error => {
      reset = error
      stream.abort(error)
    },
  }
}
