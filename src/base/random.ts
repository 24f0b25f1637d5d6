/** Chance as a collaborator: the system's for real use, a seeded generator where a run must be replayed. */

export interface Random {
  /** A uniform integer in [0, 2^32). */
  uint32(): number
  /** `count` random bytes. */
  bytes(count: number): Uint8Array<ArrayBuffer>
}

/** Unpredictable: fit for identifiers and nonces. */
export const systemRandom: Random = {
  uint32: () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
  bytes: count => crypto.getRandomValues(new Uint8Array(count)),
}

/** Repeatable, not secret: mulberry32, the same sequence for the same seed on every machine. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const uint32 = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }
  return { uint32, bytes: count => Uint8Array.from({ length: count }, () => uint32() & 0xff) }
}

/** A uniform number in [0, 1). */
export function uniform(random: Random): number {
  return random.uint32() / 2 ** 32
}
