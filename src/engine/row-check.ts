/**
 * Looks at every number that goes into an engine or comes out of it, in one pass. What is not finite, or larger than
 * any model makes, is refused: it comes from broken weights or from somebody who wants to break the next engine.
 */
import { EngineError } from './errors.ts'
import { HIDDEN_MAGNITUDE_MAX, LOGIT_MAGNITUDE_MAX } from './limits.ts'

export type RowKind = 'hidden' | 'logits'

/** What the rows are, and where they come from: the sentence for the error. */
export type RowOrigin = {
  readonly kind: RowKind
  /** `input` came so, `output` was computed so. */
  readonly side: 'input' | 'output'
  /** What was wrong with them is put between the two: "the rows that came in" … ": the stage before is broken". */
  readonly what: string
  readonly why: string
}

/**
 * A float's bits without its sign are in the order of its magnitude, and those of infinity and NaN come after all
 * others: one comparison of integers tells all three.
 */
const MAGNITUDE = 0x7fff_ffff
const INFINITE = 0x7f80_0000

const BOUNDS: Readonly<Record<RowKind, { readonly value: number; readonly bits: number }>> = {
  hidden: boundOf(HIDDEN_MAGNITUDE_MAX),
  logits: boundOf(LOGIT_MAGNITUDE_MAX),
}

function boundOf(value: number): { readonly value: number; readonly bits: number } {
  return { value, bits: new Uint32Array(new Float32Array([value]).buffer)[0] ?? 0 }
}

/** @param bytes f32, aligned to 4 bytes. @throws EngineError ENGINE_NON_FINITE, ENGINE_OUT_OF_RANGE */
export function refuseRows(bytes: Uint8Array, origin: RowOrigin): void {
  const bound = BOUNDS[origin.kind]
  const bits = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  for (let i = 0; i < bits.length; i++) {
    if (((bits[i] ?? 0) & MAGNITUDE) > bound.bits) throw refusal(bits, origin, bound.value)
  }
}

function refusal(bits: Uint32Array, { side, what, why }: RowOrigin, bound: number): EngineError {
  const isFinite = bits.every(word => (word & MAGNITUDE) < INFINITE)
  return isFinite
    ? new EngineError({ code: 'ENGINE_OUT_OF_RANGE', side, bound }, `${what} hold numbers beyond ±${bound}: ${why}`)
    : new EngineError({ code: 'ENGINE_NON_FINITE', side }, `${what} hold NaN or infinity: ${why}`)
}
