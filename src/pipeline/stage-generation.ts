/**
 * One generation on one stage: who may send what next, and what goes on to whom. No input or output happens here; the
 * stage server asks, acts and reports back.
 *
 *     open -> closing -> closed
 *       '-----------------^        after a crash of the engine there is nothing to release
 *
 * Within `open` a step goes: arrive (announced) -> filled (its rows are here) -> started -> finished -> sent on, at
 * once or, for a prefill chunk, when the next stage has room.
 */
import { assert, formatLayers, type LayerRange } from '#base'
import {
  STAGE_CHUNK_ROWS_MAX,
  STAGE_CHUNKS_IN_FLIGHT_MAX,
  STAGE_DECODE_ROWS_MAX,
  type StageOpen,
  type StagePurpose,
  STEP_DTYPE_F32,
  type StepHeader,
} from '#wire'
import type { StageCode, StageFault } from './errors.ts'

type Phase = { readonly status: 'open' } | { readonly status: 'closing' } | { readonly status: 'closed' }

/** How a step came: bulk or not. */
export type StepPurpose = Exclude<StagePurpose, 'control'>

/** A step that was announced and is not computed yet. */
export type PendingStep = {
  readonly header: StepHeader
  readonly purpose: StepPurpose
  /** Clock.monotonic() after which nobody wants it any more; undefined: no limit of its own. */
  readonly deadlineAt: number | undefined
}

/** What goes to the next stage, or to the entry. */
export type StepOutput = {
  readonly header: StepHeader
  readonly purpose: StepPurpose
  readonly rows: Uint8Array
}

export type Arrival =
  /** Take the rows and compute them. */
  | { readonly kind: 'take'; readonly step: PendingStep }
  /** The last step once more: send its output again. */
  | { readonly kind: 'again'; readonly output: StepOutput }
  /** A repetition of a step that is under way: its output will come. */
  | { readonly kind: 'ignore' }
  | { readonly kind: 'fault'; readonly fault: StageFault }

export type StageGenerationFacts = {
  readonly open: StageOpen
  readonly entry: string
  readonly slot: number
  readonly width: number
  /** Whether our layers are the model's last: rows go to the entry then. */
  readonly isLast: boolean
  /** Clock.monotonic(). */
  readonly openedAt: number
}

const fault = (code: StageCode, message: string): Arrival => ({ kind: 'fault', fault: { code, message } })

export class StageGeneration {
  readonly id: string
  readonly entry: string
  readonly predecessor: string
  readonly successor: string
  readonly layers: LayerRange
  readonly model: string
  readonly positionsMax: number
  readonly slot: number
  readonly isLast: boolean
  readonly openedAt: number
  readonly #width: number
  #phase: Phase = { status: 'open' }
  /** Number of the step that must come next, and the rows that will be valid by then. */
  #nextStep = 0
  #nextPosition = 0
  /** Rows in the KV cache now. */
  #positions = 0
  #pending: PendingStep[] = []
  #last: StepOutput | undefined
  /** A computed chunk for which the next stage has no room yet, and the chunks that it has not computed. */
  #held: StepOutput | undefined
  #uncredited = 0

  constructor(facts: StageGenerationFacts) {
    const { open } = facts
    this.id = open.generation
    this.entry = facts.entry
    this.predecessor = open.predecessor
    this.successor = open.successor.peer
    this.layers = open.layers
    this.model = open.model
    this.positionsMax = open.positionsMax
    this.slot = facts.slot
    this.isLast = facts.isLast
    this.openedAt = facts.openedAt
    this.#width = facts.width
  }

  get isOpen(): boolean {
    return this.#phase.status === 'open'
  }

  get isClosing(): boolean {
    return this.#phase.status === 'closing'
  }

  /** KV rows in use. */
  get positions(): number {
    return this.#positions
  }

  /** A step is announced by the predecessor, before any of its rows are read. */
  arrive(header: StepHeader, purpose: StepPurpose, now: number): Arrival {
    assert(this.isOpen, 'a step arrives at an open generation')
    const shape = this.#checkShape(header, purpose)
    if (shape !== undefined) return shape
    if (header.step < this.#nextStep) return this.#repeated(header.step)
    if (header.step > this.#nextStep) {
      return fault('STAGE_STEP_ORDER', `step ${header.step} came where step ${this.#nextStep} was due`)
    }
    if (header.position > this.#nextPosition) {
      return fault('STAGE_STEP_ORDER', `position ${header.position} is beyond the ${this.#nextPosition} rows here`)
    }
    if (header.position + header.count > this.positionsMax) {
      const end = header.position + header.count
      return fault('STAGE_CONTEXT', `position ${end} is beyond the ${this.positionsMax} that were asked for`)
    }
    if (this.#pending.length >= STAGE_CHUNKS_IN_FLIGHT_MAX) {
      return fault('STAGE_FLOW', `more than ${STAGE_CHUNKS_IN_FLIGHT_MAX} steps are waiting here`)
    }
    if (this.#pending.some(step => step.purpose !== purpose)) {
      return fault('STAGE_STEP_ORDER', 'a step on one stream came before those on the other were done')
    }
    const deadlineAt = header.deadlineMs === 0 ? undefined : now + header.deadlineMs
    const step: PendingStep = { header, purpose, deadlineAt }
    this.#pending.push(step)
    this.#nextStep++
    this.#nextPosition = header.position + header.count
    return { kind: 'take', step }
  }

  /** Whether a step may be computed now: a chunk must wait while the one before it is held back. */
  canStart(purpose: StepPurpose): boolean {
    return this.isOpen && (purpose === 'decode' || this.#held === undefined)
  }

  /** How many of the step's rows the engine must return: all of them, unless the entry gets them. */
  outputsOf(header: StepHeader): number {
    return this.isLast ? header.outputs : header.count
  }

  /** A step was computed. @returns what to send on now */
  finished(step: PendingStep, rows: Uint8Array, now: number): StepOutput | undefined {
    assert(this.isOpen && this.#pending[0] === step, 'steps finish in the order in which they came')
    this.#pending.shift()
    const { header, purpose } = step
    this.#positions = header.position + header.count
    const count = this.outputsOf(header)
    const left = step.deadlineAt === undefined ? 0 : Math.max(1, Math.ceil(step.deadlineAt - now))
    const output: StepOutput = {
      purpose,
      rows,
      header: {
        ...header,
        kind: this.isLast ? 'result' : 'step',
        count,
        deadlineMs: left,
        byteLength: rows.byteLength,
      },
    }
    this.#last = output
    if (purpose === 'decode' || this.isLast) return output
    if (this.#uncredited >= STAGE_CHUNKS_IN_FLIGHT_MAX) {
      this.#held = output
      return undefined
    }
    this.#uncredited++
    return output
  }

  /** The next stage has computed a chunk. @returns the chunk that was held back for it */
  credited(): StepOutput | undefined {
    // A credit for nothing gives no right to anything.
    if (!this.isOpen || this.#uncredited === 0) return undefined
    const held = this.#held
    this.#held = undefined
    if (held === undefined) this.#uncredited--
    return held
  }

  /** open -> closing: nothing is taken or sent any more, the slot is being emptied. */
  close(): void {
    assert(this.isOpen, 'a generation is closed once')
    this.#phase = { status: 'closing' }
    this.#drop()
  }

  /** open | closing -> closed: the slot holds nothing of it. */
  closed(): void {
    this.#phase = { status: 'closed' }
    this.#positions = 0
    this.#drop()
  }

  #drop(): void {
    this.#pending = []
    this.#last = undefined
    this.#held = undefined
  }

  #repeated(step: number): Arrival {
    const last = this.#last
    if (last === undefined || step > last.header.step) return { kind: 'ignore' }
    if (step < last.header.step) return fault('STAGE_STEP_ORDER', `step ${step} is over, ${this.#nextStep} is due`)
    return last === this.#held ? { kind: 'ignore' } : { kind: 'again', output: last }
  }

  #checkShape(header: StepHeader, purpose: StepPurpose): Arrival | undefined {
    const { count, outputs, dtype, width, byteLength } = header
    const countMax = purpose === 'decode' ? STAGE_DECODE_ROWS_MAX : STAGE_CHUNK_ROWS_MAX
    if (dtype !== STEP_DTYPE_F32) return fault('STAGE_SHAPE', `rows of type ${dtype} came where f32 was due`)
    if (width !== this.#width) return fault('STAGE_SHAPE', `rows of width ${width} came, the model has ${this.#width}`)
    if (count < 1 || count > countMax) return fault('STAGE_SHAPE', `a ${purpose} step of ${count} rows`)
    if (outputs !== 0 && outputs !== 1 && outputs !== count) {
      return fault('STAGE_SHAPE', `${outputs} of ${count} rows cannot be returned`)
    }
    if (byteLength !== count * width * Float32Array.BYTES_PER_ELEMENT) {
      return fault('STAGE_SHAPE', `${count} rows of width ${width} do not take ${byteLength} bytes`)
    }
    return undefined
  }

  /** For log lines. */
  toString(): string {
    return `${this.id.slice(0, 8)} layers ${formatLayers(this.layers)} slot ${this.slot}`
  }
}
