/**
 * Small deterministic engines for the pipeline's unit tests: integer arithmetic in place of a model, with a KV cache whose
 * every row counts, so that a step that is lost, doubled, misplaced or mixed up with another generation's changes the
 * tokens. Real engines are tested across processes, under `test/`.
 */
import { assert } from '#base'
import type { EdgeEngine, NextToken, StageAudit, StageEngine, StageStep } from '#engine'
import { PipelineError } from '#pipeline'

export const WIDTH = 4
export const VOCABULARY = 65_521

const toRows = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.slice().buffer)
const toBytes = (rows: Float32Array): Uint8Array => new Uint8Array(rows.slice().buffer)

/** An error with a code that engines use; the tests may not import the engine's own class. */
export const engineError = (code: 'ENGINE_CRASHED' | 'ENGINE_NON_FINITE', message: string): Error =>
  new PipelineError({ code, peer: 'engine' }, message)

export type FakeStageOptions = {
  /** Called before each compute; its promise is how long the compute takes. */
  readonly before?: (step: StageStep) => Promise<void>
  readonly beforeRelease?: (slot: number) => Promise<void>
}

export class FakeStage implements StageEngine {
  readonly options: FakeStageOptions
  /** By slot, by layer: what each position left in the cache, added to what was there. */
  readonly #kv = new Map<number, Map<number, number[]>>()
  readonly #listeners: ((reason: string) => void)[] = []
  readonly steps: StageStep[] = []
  running = 0
  generationOfProcess = 0
  state: 'ready' | 'restarting' = 'ready'

  constructor(options: FakeStageOptions = {}) {
    this.options = options
  }

  async step(step: StageStep): Promise<Uint8Array> {
    this.steps.push(step)
    assert(this.running === 0, 'the pipeline asks for one compute at a time')
    this.running++
    const process = this.generationOfProcess
    try {
      await this.options.before?.(step)
      if (process !== this.generationOfProcess) throw engineError('ENGINE_CRASHED', 'the engine ended')
      return this.#compute(step)
    } finally {
      if (process === this.generationOfProcess) this.running--
    }
  }

  #compute({ slot, layers, position, count, outputs, rows }: StageStep): Uint8Array {
    const values = toRows(rows)
    assert(values.length === count * WIDTH, 'rows have the shape that the step says')
    if (values.some(value => !Number.isFinite(value))) throw engineError('ENGINE_NON_FINITE', 'a row is not finite')
    const kv = this.#kv.get(slot) ?? new Map<number, number[]>()
    this.#kv.set(slot, kv)
    for (let layer = layers.first; layer < layers.last; layer++) {
      const cache = kv.get(layer) ?? []
      kv.set(layer, cache)
      assert(cache.length >= position, `position ${position} is backed by rows in slot ${slot}`)
      cache.length = position
      for (let row = 0; row < count; row++) {
        const seen = ((cache.at(-1) ?? 0) + (values[row * WIDTH] ?? 0) * (position + row + 1)) % VOCABULARY
        cache.push(seen)
        for (let i = 0; i < WIDTH; i++) {
          const at = row * WIDTH + i
          values[at] = ((values[at] ?? 0) * 3 + layer * 7 + (i + 1) * seen + position + row) % VOCABULARY
        }
      }
    }
    return toBytes(values.subarray((count - outputs) * WIDTH))
  }

  async audit({ layers, count, rows }: StageAudit): Promise<Uint8Array> {
    const outputs = await this.step({ slot: -1, layers, position: 0, count, outputs: count, rows })
    this.#kv.delete(-1)
    return outputs
  }

  async release(slot: number): Promise<void> {
    await this.options.beforeRelease?.(slot)
    this.#kv.delete(slot)
  }

  /** Slots that hold rows. */
  get slotsInUse(): number {
    return this.#kv.size
  }

  crash(reason: string): void {
    this.generationOfProcess++
    this.running = 0
    this.#kv.clear()
    for (const listener of this.#listeners) listener(reason)
  }

  onCrash(listener: (reason: string) => void): void {
    this.#listeners.push(listener)
  }

  status(): ReturnType<StageEngine['status']> {
    return { role: 'stage', state: this.state, restarts: this.generationOfProcess, weightBytes: 0, kvBytes: 0 }
  }

  load(): Promise<never> {
    return Promise.reject(new Error('a fake stage is always loaded'))
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }
}

/** The row of a token. */
export function embedding(token: number): Uint8Array {
  return toBytes(Float32Array.from({ length: WIDTH }, (_, i) => (token * (i + 1) + 11) % VOCABULARY))
}

export class FakeEdge implements EdgeEngine {
  readonly samplers = new Set<number>()
  #nextSampler = 1

  embed(tokens: Int32Array): Promise<Uint8Array> {
    const rows = new Uint8Array(tokens.length * WIDTH * 4)
    for (const [i, token] of tokens.entries()) rows.set(embedding(token), i * WIDTH * 4)
    return Promise.resolve(rows)
  }

  openSampler(): Promise<number> {
    const id = this.#nextSampler++
    this.samplers.add(id)
    return Promise.resolve(id)
  }

  next(sampler: number, row: Uint8Array): Promise<NextToken> {
    assert(this.samplers.has(sampler), 'the sampler is open')
    const values = toRows(row)
    if (values.length !== WIDTH || values.some(value => !Number.isFinite(value))) {
      return Promise.reject(engineError('ENGINE_NON_FINITE', 'the row is not finite'))
    }
    const token = values.reduce((sum, value) => (sum * 5 + value) % VOCABULARY, 1)
    return Promise.resolve({ token, piece: new Uint8Array(), isEnd: token % 97 === 0, row: embedding(token) })
  }

  closeSampler(sampler: number): Promise<void> {
    this.samplers.delete(sampler)
    return Promise.resolve()
  }

  tokenize(): Promise<Int32Array> {
    return Promise.resolve(new Int32Array())
  }

  pieces(): Promise<readonly Uint8Array[]> {
    return Promise.resolve([])
  }

  status(): ReturnType<EdgeEngine['status']> {
    return { role: 'edge', state: 'ready', restarts: 0, weightBytes: 0, kvBytes: 0 }
  }

  onCrash(): void {
    // A fake edge lives as long as its test.
  }

  load(): Promise<never> {
    return Promise.reject(new Error('a fake edge is always loaded'))
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }
}
