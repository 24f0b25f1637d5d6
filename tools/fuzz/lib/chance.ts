/** Chance of one case: everything that a case does follows from one number, so a case can be run again alone. */
import { type Random, seededRandom } from '#base'

/** Numbers at which lengths, counters and limits turn. */
const BORDERS: readonly number[] = [
  0,
  1,
  2,
  23,
  24,
  127,
  128,
  255,
  256,
  511,
  512,
  1023,
  1024,
  4095,
  4096,
  16_384,
  32_767,
  65_535,
  65_536,
  258_048,
  262_144,
  524_288,
  1_048_576,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
]

export class Chance {
  readonly random: Random

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  uint32(): number {
    return this.random.uint32()
  }

  /** An integer in [0, count). */
  below(count: number): number {
    return Math.floor((this.random.uint32() / 2 ** 32) * count)
  }

  /** An integer in [first, last]. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1)
  }

  isOneIn(count: number): boolean {
    return this.below(count) === 0
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined && items.length === 0) throw new TypeError('nothing to pick from')
    return item as T
  }

  bytes(count: number): Uint8Array<ArrayBuffer> {
    return this.random.bytes(count)
  }

  /** Small most of the time, and now and then as large as `most`. */
  size(most: number): number {
    return this.isOneIn(10) ? this.below(most + 1) : this.below(Math.min(most, 40) + 1)
  }

  /** A number at, or one beside, a border; negative now and then. */
  border(): number {
    const near = this.pick(BORDERS) + this.pick([-1, 0, 0, 1])
    const number = Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, near))
    return this.isOneIn(6) ? -number : number
  }
}

/** The seed of one case of one fuzzer. */
export function caseSeed(seed: number, name: string, index: number): number {
  let hash = 0x811c9dc5
  for (const char of `${seed}/${name}/${index}`) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  return (hash ^ (hash >>> 13)) >>> 0
}

/** A seed that follows from bytes alone: how a kept input is cut into pieces must not change from run to run. */
export function seedOfBytes(bytes: Uint8Array): number {
  let hash = bytes.byteLength
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}
