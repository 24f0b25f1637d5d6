/**
 * Id puzzles, as S/Kademlia's dynamic ones (Baumgart and Mies, 2007): a node that wants into routing tables shows a number
 * X so that SHA-256(public key || X) begins with so many zero bits. A second of work for one identity, hours for the
 * thousands that an attack on the table needs; checking it is one hash.
 */
import { type Clock, type Random, sleep } from '#base'
import { sha256 } from '#crypto'
import { KadError } from './errors.ts'
import {
  PUZZLE_BITS,
  PUZZLE_BITS_MAX,
  PUZZLE_HASHES_PER_TURN,
  PUZZLE_SOLUTION_BYTES,
  PUZZLE_TRIES_FACTOR_MAX,
} from './limits.ts'

export type PuzzleDeps = { readonly clock: Clock; readonly random: Random }

export type PuzzleOptions = {
  /** Leading zero bits. @default PUZZLE_BITS, about a second */
  readonly bits?: number
  readonly signal?: AbortSignal
}

/**
 * Searches for a solution, in turns so that the process goes on with its work.
 * @param publicKey Ed25519, 32 bytes
 * @returns 8 bytes
 * @throws KadError KAD_PUZZLE_UNSOLVED; the signal's reason
 */
export async function solvePuzzle(
  deps: PuzzleDeps,
  publicKey: Uint8Array,
  options: PuzzleOptions = {},
): Promise<Uint8Array> {
  const bits = Math.min(options.bits ?? PUZZLE_BITS, PUZZLE_BITS_MAX)
  const triesMax = 2 ** bits * PUZZLE_TRIES_FACTOR_MAX
  const message = new Uint8Array(publicKey.byteLength + PUZZLE_SOLUTION_BYTES)
  message.set(publicKey)
  message.set(deps.random.bytes(PUZZLE_SOLUTION_BYTES), publicKey.byteLength)
  const solution = new DataView(message.buffer, publicKey.byteLength)
  for (let tries = 0; tries < triesMax; ) {
    for (let turn = 0; turn < PUZZLE_HASHES_PER_TURN; turn++, tries++) {
      if (hasZeroBits(sha256(message), bits)) return message.slice(publicKey.byteLength)
      solution.setBigUint64(0, BigInt.asUintN(64, solution.getBigUint64(0) + 1n))
    }
    await sleep(deps.clock, 0, options.signal === undefined ? {} : { signal: options.signal })
  }
  throw new KadError(
    { code: 'KAD_PUZZLE_UNSOLVED', tries: triesMax },
    'no solution of the id puzzle was found; try again',
  )
}

/** Whether it is one. Costs one hash. */
export function verifyPuzzle(
  publicKey: Uint8Array,
  solution: Uint8Array,
  options: Pick<PuzzleOptions, 'bits'> = {},
): boolean {
  if (solution.byteLength !== PUZZLE_SOLUTION_BYTES) return false
  const message = new Uint8Array(publicKey.byteLength + PUZZLE_SOLUTION_BYTES)
  message.set(publicKey)
  message.set(solution, publicKey.byteLength)
  return hasZeroBits(sha256(message), Math.min(options.bits ?? PUZZLE_BITS, PUZZLE_BITS_MAX))
}

function hasZeroBits(hash: Uint8Array, bits: number): boolean {
  const whole = bits >> 3
  for (let i = 0; i < whole; i++) if (hash[i] !== 0) return false
  const rest = bits & 7
  return rest === 0 || (hash[whole] ?? 0) >> (8 - rest) === 0
}
