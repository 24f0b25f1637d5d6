/**
 * Test vectors: a few numbers for each part of a model by which a machine sees whether it computes what the model's
 * maker computed. Pure arithmetic; everything below is version 1 of the format and never changes.
 *
 * Inputs come from a seed. A layer gets four rows from position 0 on (with one row alone, attention would not depend on
 * its queries and keys), and what it adds to the last of them counts. The embedding gives the rows of four tokens, the
 * head the logits of one row. Of each such output of n numbers a vector has the length and eight sums with pseudo-random
 * signs, divided by sqrt(n): any change of the output changes them as much as it changes the output.
 */

export const TRIAL_ROWS = 4
const TRIAL_TOKENS = 4
const TRIAL_VALUES = 8

export type TrialPart = 'embed' | 'head' | number

export type TrialProbe = {
  /** A number is a layer's, from 0. */
  readonly part: TrialPart
  /** TRIAL_VALUES sums. */
  readonly values: Float32Array
  /** Euclidean length of the output. */
  readonly norm: number
}

/** As a model's card has it. */
export type TestVector = {
  readonly version: 1
  /** Numeric profile of the machine that made it. */
  readonly profile: string
  /** u32 that the inputs were made from. */
  readonly seed: number
  readonly probes: readonly TrialProbe[]
}

/** Streams of one seed: each part's inputs, and the signs. Layers have their own numbers. */
const STREAMS = { embed: 0x8000_0000, head: 0x8000_0001, signs: 0x8000_0002 } as const

/** SplitMix32: a counter, mixed by the finalizer of MurmurHash3. */
function generator(seed: number, stream: number): () => number {
  let counter = mix((seed ^ mix(stream)) >>> 0)
  return () => {
    counter = (counter + 0x9e37_79b9) >>> 0
    return mix(counter)
  }
}

function mix(word: number): number {
  let mixed = word ^ (word >>> 16)
  mixed = Math.imul(mixed, 0x85eb_ca6b)
  mixed ^= mixed >>> 13
  mixed = Math.imul(mixed, 0xc2b2_ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}

/** Rows of numbers with mean 0 and variance 1, nearly normal: the sum of four uniform ones, which every language computes alike. */
export function trialRows(seed: number, part: 'head' | number, size: number): Float32Array {
  const next = generator(seed, part === 'head' ? STREAMS.head : part)
  const uniform = (): number => next() / 2 ** 32
  return Float32Array.from({ length: size }, () => (uniform() + uniform() + uniform() + uniform() - 2) * Math.sqrt(3))
}

/** Tokens whose embeddings are looked at. */
export function trialTokens(seed: number, vocabularySize: number): Int32Array {
  const next = generator(seed, STREAMS.embed)
  return Int32Array.from({ length: TRIAL_TOKENS }, () => next() % vocabularySize)
}

/** What a vector has of an output. */
export function reduceOutput(seed: number, part: TrialPart, output: Float32Array): TrialProbe {
  const next = generator(seed, STREAMS.signs)
  const sums = new Float64Array(TRIAL_VALUES)
  let square = 0
  for (const number of output) {
    square += number * number
    // One draw has the signs of all sums for this number.
    const signs = next()
    for (let i = 0; i < TRIAL_VALUES; i++) sums[i] = (sums[i] ?? 0) + ((signs >>> i) & 1 ? number : -number)
  }
  const scale = Math.sqrt(Math.max(1, output.length))
  return { part, values: Float32Array.from(sums, sum => sum / scale), norm: Math.sqrt(square) }
}

/**
 * How far two probes of one part are apart, relative to what was computed here. Infinity where the other one is no probe.
 * @param size numbers of the output
 */
export function deviationOf(computed: TrialProbe, claimed: TrialProbe, size: number): number {
  const typical = Math.max(computed.norm / Math.sqrt(size), Number.MIN_VALUE)
  const ofNorm = Math.abs(computed.norm - claimed.norm) / Math.max(computed.norm, Number.MIN_VALUE)
  const ofValues = Array.from(computed.values, (value, i) => Math.abs(value - (claimed.values[i] ?? NaN)) / typical)
  const worst = Math.max(ofNorm, ...ofValues)
  return claimed.values.length === TRIAL_VALUES && Number.isFinite(worst) ? worst : Number.POSITIVE_INFINITY
}
