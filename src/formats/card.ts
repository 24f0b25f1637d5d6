/**
 * The model card of a manifest: what its signer has measured of the model, and where else the file can be had. Nothing of
 * it is believed: results are shown with who says so, a test vector is computed again here, and URLs are hints which the
 * owner of a node may allow.
 */
import { z } from 'zod'
import {
  CARD_BENCHMARK_NAME_CHARS_MAX,
  CARD_BENCHMARK_UNIT_CHARS_MAX,
  CARD_BENCHMARKS_MAX,
  CARD_PROBES_MAX,
  CARD_PROFILE_CHARS_MAX,
  CARD_SOURCE_CHARS_MAX,
  CARD_SOURCES_MAX,
  MODEL_LAYERS_MAX,
} from './limits.ts'

export type BenchmarkResult = {
  readonly name: string
  readonly score: number
  /** "%" or "tokens/s"; empty: a plain number. */
  readonly unit: string
}

/** What one part of the model answers to the input that the test vector's seed gives. */
export type Probe = {
  readonly part: 'embed' | 'head' | number
  /** The first eight numbers of the answer: f32 little-endian, 32 bytes. */
  readonly values: Uint8Array
  /** Euclidean norm of all of it. */
  readonly norm: number
}

export type TestVector = {
  readonly version: 1
  /** What has computed it: two machines of one profile give the same bits. */
  readonly profile: string
  /** 32 bits. */
  readonly seed: number
  /** Each part once. */
  readonly probes: readonly Probe[]
}

export type ModelCard = {
  readonly benchmarks: readonly BenchmarkResult[]
  readonly testVector?: TestVector | undefined
  /** URLs (http, https) of the file. */
  readonly sources: readonly string[]
}

export const TEST_VECTOR_VERSION = 1
const PROBE_BYTES = 32

/** Text that a terminal can show: no control characters, nothing invisible, no line ends. */
export const label = (charsMax: number, charsMin = 1) =>
  z
    .string()
    .min(charsMin)
    .max(charsMax)
    .regex(/^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]*$/u)

/** Exactly that many bytes. */
export const bytesOf = (count: number) =>
  z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength === count)

const probe = z.strictObject({
  part: z.union([
    z.literal('embed'),
    z.literal('head'),
    z
      .int()
      .min(0)
      .max(MODEL_LAYERS_MAX - 1),
  ]),
  values: bytesOf(PROBE_BYTES).refine(areFinite),
  norm: z.number().min(0),
})

const testVector = z.strictObject({
  version: z.literal(TEST_VECTOR_VERSION),
  profile: label(CARD_PROFILE_CHARS_MAX),
  seed: z.int().min(0).max(0xffff_ffff),
  probes: z
    .array(probe)
    .min(1)
    .max(CARD_PROBES_MAX)
    .refine(probes => new Set(probes.map(({ part }) => part)).size === probes.length),
})

/** As it lies in a manifest. */
export const cardSchema = z.strictObject({
  benchmarks: z
    .array(
      z.strictObject({
        name: label(CARD_BENCHMARK_NAME_CHARS_MAX),
        score: z.number(),
        unit: label(CARD_BENCHMARK_UNIT_CHARS_MAX, 0),
      }),
    )
    .max(CARD_BENCHMARKS_MAX),
  testVector: testVector.optional(),
  sources: z.array(z.string().max(CARD_SOURCE_CHARS_MAX).refine(isSource)).max(CARD_SOURCES_MAX),
})

function areFinite(values: Uint8Array): boolean {
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength)
  for (let at = 0; at < values.byteLength; at += 4) if (!Number.isFinite(view.getFloat32(at, true))) return false
  return true
}

/** A URL that says no more than where: a name and password in it would be somebody's. */
function isSource(text: string): boolean {
  if (!/^https?:\/\/[\x21-\x7e]+$/.test(text) || !URL.canParse(text)) return false
  const { username, password } = new URL(text)
  return username === '' && password === ''
}
