/**
 * One generation where it entered: which stages have a slot for it, what was asked of the route and what came back. No
 * input or output happens here.
 *
 *     opening -> running -> ending -> ended
 *        '---------^----------^          by its end, by an error or by its caller: the first reason stays
 */
import { assert } from '#base'
import { STAGE_CHUNKS_IN_FLIGHT_MAX, STEP_DTYPE_F32, type StepHeader } from '#wire'
import type { PlannedHop } from './types.ts'

type Phase =
  | { readonly status: 'opening'; readonly waiting: Set<string> }
  | { readonly status: 'running' }
  /** `waiting`: peers that have not said yet that its rows are gone. */
  | { readonly status: 'ending'; readonly waiting: Set<string>; readonly error: Error | undefined }
  | { readonly status: 'ended'; readonly error: Error | undefined }

/** A step whose result has not come. */
type Asked = { readonly step: number; readonly outputs: number; readonly position: number }

export type EntryGenerationFacts = {
  /** 32 hexadecimal digits. */
  readonly id: string
  readonly model: string
  readonly width: number
  readonly route: readonly PlannedHop[]
  readonly positionsMax: number
  /** Clock.monotonic(). */
  readonly openedAt: number
}

export class EntryGeneration {
  readonly id: string
  readonly model: string
  readonly width: number
  readonly route: readonly PlannedHop[]
  readonly positionsMax: number
  readonly openedAt: number
  readonly #peers: ReadonlySet<string>
  readonly #lastPeer: string
  readonly #firstPeer: string
  #phase: Phase
  #nextStep = 0
  #positions = 0
  #uncredited = 0
  #asked: Asked[] = []
  #results: Uint8Array[] = []
  #wake: (() => void) | undefined

  constructor(facts: EntryGenerationFacts) {
    const first = facts.route[0]
    const last = facts.route.at(-1)
    assert(first !== undefined && last !== undefined, 'a route has a stage')
    this.id = facts.id
    this.model = facts.model
    this.width = facts.width
    this.route = facts.route
    this.positionsMax = facts.positionsMax
    this.openedAt = facts.openedAt
    this.#peers = new Set(facts.route.map(hop => hop.peer))
    this.#firstPeer = first.peer
    this.#lastPeer = last.peer
    this.#phase = { status: 'opening', waiting: new Set(this.#peers) }
  }

  get isRunning(): boolean {
    return this.#phase.status === 'running'
  }

  /** Opening or running: stages may still be asked for something. */
  get isLive(): boolean {
    return this.#phase.status === 'opening' || this.#phase.status === 'running'
  }

  get hasEnded(): boolean {
    return this.#phase.status === 'ended'
  }

  /** Why it ended, if that was not its natural end. */
  get error(): Error | undefined {
    return this.#phase.status === 'ending' || this.#phase.status === 'ended' ? this.#phase.error : undefined
  }

  /** Positions sent so far. */
  get positions(): number {
    return this.#positions
  }

  hasPeer(peer: string): boolean {
    return this.#peers.has(peer)
  }

  isFirst(peer: string): boolean {
    return this.#firstPeer === peer
  }

  isLast(peer: string): boolean {
    return this.#lastPeer === peer
  }

  /** Whether the first stage has room for another prefill chunk. */
  get hasCredit(): boolean {
    return this.#uncredited < STAGE_CHUNKS_IN_FLIGHT_MAX
  }

  /** Resolves when something has happened: look again. One waiter. */
  changed(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve
    })
  }

  /** A stage has given it a slot. opening -> running with the last of them */
  opened(peer: string): void {
    if (this.#phase.status !== 'opening') return
    this.#phase.waiting.delete(peer)
    if (this.#phase.waiting.size > 0) return
    this.#phase = { status: 'running' }
    this.#notify()
  }

  /** The header of the next step of `count` rows. */
  ask(step: { readonly count: number; readonly outputs: number; readonly deadlineMs: number }): StepHeader {
    assert(this.isRunning, 'a generation that runs is asked for more')
    const { count, outputs, deadlineMs } = step
    const header: StepHeader = {
      kind: 'step',
      generation: this.id,
      step: this.#nextStep,
      position: this.#positions,
      count,
      outputs,
      dtype: STEP_DTYPE_F32,
      width: this.width,
      deadlineMs,
      byteLength: count * this.width * Float32Array.BYTES_PER_ELEMENT,
    }
    this.#asked.push({ step: header.step, outputs, position: header.position })
    this.#nextStep++
    this.#positions += count
    return header
  }

  /** As `ask`, for a chunk that the first stage will give a credit for. */
  askChunk(step: { readonly count: number; readonly outputs: number; readonly deadlineMs: number }): StepHeader {
    assert(this.hasCredit, 'a chunk is sent where there is room for it')
    this.#uncredited++
    return this.ask(step)
  }

  credited(): void {
    if (this.#uncredited === 0) return
    this.#uncredited--
    this.#notify()
  }

  /** The header of a result of the last stage. @returns what is wrong with it; undefined: take its rows */
  resultComes(header: StepHeader): string | undefined {
    const asked = this.#asked[0]
    if (asked === undefined) return `a result of step ${header.step}, none is due`
    const { outputs, step, position } = asked
    if (header.step !== step || header.position !== position) return `step ${header.step} came, ${step} was due`
    const byteLength = outputs * this.width * Float32Array.BYTES_PER_ELEMENT
    const isRight =
      header.dtype === STEP_DTYPE_F32 &&
      header.count === outputs &&
      header.width === this.width &&
      header.byteLength === byteLength
    if (isRight) {
      this.#asked.shift()
      return undefined
    }
    return `${header.count} rows of width ${header.width} (${header.byteLength} bytes, type ${header.dtype}) came, ${outputs} were due`
  }

  /** Its rows are complete. */
  resultCame(rows: Uint8Array): void {
    if (this.#phase.status !== 'running') return
    this.#results.push(rows)
    this.#notify()
  }

  /** The oldest result that nobody has taken. */
  takeResult(): Uint8Array | undefined {
    return this.#results.shift()
  }

  /** opening | running -> ending. @returns the peers to tell, or undefined where it ended before */
  end(error: Error | undefined): readonly string[] | undefined {
    if (!this.isLive) return undefined
    this.#phase = { status: 'ending', waiting: new Set(this.#peers), error }
    this.#asked = []
    this.#results = []
    this.#notify()
    return [...this.#peers]
  }

  /** A stage holds nothing of it any more. ending -> ended with the last of them */
  closed(peer: string): void {
    if (this.#phase.status !== 'ending') return
    const { waiting, error } = this.#phase
    waiting.delete(peer)
    if (waiting.size === 0) this.#phase = { status: 'ended', error }
  }

  /** ending -> ended: whoever has not answered will not. */
  abandon(): void {
    if (this.#phase.status === 'ending') this.#phase = { status: 'ended', error: this.#phase.error }
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
