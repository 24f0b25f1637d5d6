/** What a fuzzer is, to the runner. */
import { systemClock, withDeadline } from '#base'
import type { LiveNode } from '../live/live-node.ts'
import type { Chance } from './chance.ts'

/** What came of a case, in a word: `ok`, or a fault's code. Shows how far into the code a fuzzer gets. */
export type Outcome = string

export type FuzzContext = {
  /** Kept inputs of this fuzzer. */
  readonly corpus: readonly Uint8Array[]
  /** The running node that live fuzzers share; started by the first who asks. */
  readonly node: () => Promise<LiveNode>
}

/** One fuzzer at work. */
export interface Target {
  /** One case. @throws where something is wrong */
  run(chance: Chance): Outcome | Promise<Outcome>
  /** Does with a kept input what a case does with its own. @throws where something is wrong */
  check?(input: Uint8Array): Outcome | Promise<Outcome>
  /** Makes the input of a case; `run` is `check` of it then. */
  make?(chance: Chance): Uint8Array
  /** Looks, after some cases, whether all is still well. @throws where it is not */
  settle?(): Promise<void>
  close?(): Promise<void>
}

export type Fuzzer = {
  readonly name: string
  /**
   * - `pure`: calls functions, thousands of times a second.
   * - `live`: attacks a running node over the network.
   * - `canary`: has a fault on purpose. Where it is not found, the harness is blind.
   */
  readonly kind: 'pure' | 'live' | 'canary'
  /** Whose kept inputs it uses. @default its own */
  readonly corpusOf?: string
  readonly open: (context: FuzzContext) => Target | Promise<Target>
}

/** A target whose cases are nothing but inputs: they can be kept, replayed and made smaller. */
export function byInputs(parts: {
  readonly make: (chance: Chance) => Uint8Array
  readonly check: (input: Uint8Array) => Outcome | Promise<Outcome>
}): Target {
  const { make, check } = parts
  return { make, check, run: chance => check(make(chance)) }
}

/** Every wait of a case has an end. */
export function within<T>(what: string, timeoutMs: number, promise: Promise<T>): Promise<T> {
  return withDeadline(systemClock, { what, timeoutMs }, () => promise)
}
