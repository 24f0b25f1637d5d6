/** Runs one fuzzer for a while, or one case of it, and says what it has found. */
import { messageOf } from '#base'
import { Chance, caseSeed } from './chance.ts'
import { keep, readCorpus } from './corpus.ts'
import { type FuzzContext, type Fuzzer, type Outcome, type Target, within } from './fuzzer.ts'
import { minimise } from './minimise.ts'
import { type Escapes, residentBytes } from './watch.ts'

/** A case that takes longer, twice, counts as a failure. Milliseconds. */
const CASE_MS_MAX = 1_000
/** A case that has not ended by then hangs. Milliseconds. */
const CASE_HANGS_MS = 60_000
/** Memory that the process of pure fuzzers may come to take. */
const PURE_RSS_BYTES_MAX = 1024 * 1024 * 1024
const CASES_IN_ROUND = 32
const ROUND_MS_MIN = 50
/** Attackers at once. */
const LIVE_WORKERS = 4
/** How long they attack before the node is looked at. */
const LIVE_ROUND_MS = 4_000

export type RunOptions = {
  readonly seed: number
  /** How long, in milliseconds. */
  readonly forMs: number
  /** Only these cases, [first, last]. */
  readonly cases?: readonly [first: number, last: number]
  /** Only this input. */
  readonly input?: Uint8Array
  /** Keep the smallest input of each new outcome. */
  readonly isKept?: boolean
}

/** `replay` are the arguments that bring it back. */
export type Failure = { readonly what: string; readonly replay: string; readonly input?: Uint8Array }

export type Report = {
  readonly name: string
  readonly cases: number
  readonly corpus: number
  readonly forMs: number
  readonly failures: readonly Failure[]
  readonly outcomes: ReadonlyMap<Outcome, number>
  readonly slowestMs: number
  /** Of this process, or of the attacked node. */
  readonly rssBytes: number | undefined
}

export type RunDeps = Pick<FuzzContext, 'node'> & { readonly escapes: Escapes }

export async function runFuzzer(deps: RunDeps, fuzzer: Fuzzer, options: RunOptions): Promise<Report> {
  const corpus = readCorpus(fuzzer.corpusOf ?? fuzzer.name)
  // The node is started before the clock of the first who attacks it.
  if (fuzzer.kind === 'live') await deps.node()
  const target = await fuzzer.open({ corpus: corpus.map(({ bytes }) => bytes), node: deps.node })
  const run = new Run(deps, { fuzzer, target, options })
  try {
    if (options.input !== undefined) await run.replay([{ name: 'the input', bytes: options.input }])
    else if (options.cases !== undefined) await run.only(options.cases)
    else {
      await run.replay(corpus)
      await run.go()
    }
    return await run.report()
  } finally {
    await target.close?.()
  }
}

class Run {
  readonly #deps: RunDeps
  readonly #fuzzer: Fuzzer
  readonly #target: Target
  readonly #options: RunOptions
  readonly #failures: Failure[] = []
  readonly #outcomes = new Map<Outcome, number>()
  readonly #smallest = new Map<Outcome, Uint8Array>()
  readonly #startedAt = performance.now()
  #cases = 0
  #replayed = 0
  #slowestMs = 0

  constructor(
    deps: RunDeps,
    parts: { readonly fuzzer: Fuzzer; readonly target: Target; readonly options: RunOptions },
  ) {
    this.#deps = deps
    this.#fuzzer = parts.fuzzer
    this.#target = parts.target
    this.#options = parts.options
  }

  /** Kept inputs, one after the other. */
  async replay(kept: readonly { readonly name: string; readonly bytes: Uint8Array }[]): Promise<void> {
    const check = this.#target.check?.bind(this.#target)
    if (check === undefined) return
    const folder = `fuzz/corpus/${this.#fuzzer.corpusOf ?? this.#fuzzer.name}`
    const left = [...kept]
    const worker = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const { name, bytes } = next
        this.#replayed++
        await this.#guarded({ replay: `--input ${folder}/${name}`, input: bytes }, () => check(bytes))
      }
    }
    await Promise.all(Array.from({ length: this.#fuzzer.kind === 'live' ? LIVE_WORKERS : 1 }, worker))
    // A live target is looked at after its first round.
    if (this.#fuzzer.kind !== 'live' || this.#options.input !== undefined) await this.#settle(`--input ${folder}/NAME`)
  }

  async only([first, last]: readonly [number, number]): Promise<void> {
    for (let index = first; index <= last; index++) await this.#case(index)
    await this.#settle(`--case ${first}-${last}`)
  }

  async go(): Promise<void> {
    // A moment at least, however long the kept inputs took: a round of new ones is what ends in a look at the target.
    const end = Math.max(this.#startedAt + this.#options.forMs, performance.now() + ROUND_MS_MIN)
    const isLive = this.#fuzzer.kind === 'live'
    for (let next = 0; performance.now() < end && this.#failures.length === 0; ) {
      const first = next
      const roundEnd = Math.min(end, performance.now() + LIVE_ROUND_MS)
      const worker = async (): Promise<void> => {
        while (this.#failures.length === 0) {
          if (isLive ? performance.now() >= roundEnd : next - first >= CASES_IN_ROUND) return
          await this.#case(next++)
        }
      }
      await Promise.all(Array.from({ length: isLive ? LIVE_WORKERS : 1 }, worker))
      await this.#settle(`--case ${first}-${Math.max(first, next - 1)}`)
    }
  }

  async report(): Promise<Report> {
    const { name, kind } = this.#fuzzer
    const pid = kind === 'live' ? (await this.#deps.node()).pid : 'self'
    const rssBytes = residentBytes(pid)?.most
    if (kind === 'pure' && rssBytes !== undefined && rssBytes > PURE_RSS_BYTES_MAX) {
      this.#fail(new Error(`this process came to ${Math.round(rssBytes / 2 ** 20)} MiB`), { replay: '' })
    }
    if (this.#options.isKept === true) {
      for (const [outcome, bytes] of this.#smallest) keep(name, outcome, bytes)
    }
    return {
      name,
      cases: this.#cases,
      corpus: this.#replayed,
      forMs: performance.now() - this.#startedAt,
      failures: this.#failures,
      outcomes: this.#outcomes,
      slowestMs: this.#slowestMs,
      rssBytes,
    }
  }

  async #case(index: number): Promise<void> {
    this.#cases++
    const { name } = this.#fuzzer
    const chance = (): Chance => new Chance(caseSeed(this.#options.seed, name, index))
    const input = this.#target.make?.(chance())
    const given = { replay: `--case ${index}`, ...(input === undefined ? {} : { input }) }
    await this.#guarded(given, () => this.#target.run(chance()))
  }

  async #guarded(given: Omit<Failure, 'what'>, run: () => Outcome | Promise<Outcome>): Promise<void> {
    try {
      const outcome = await this.#timed(run)
      this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1)
      const smallest = this.#smallest.get(outcome)
      if (given.input !== undefined && given.input.byteLength < (smallest?.byteLength ?? Number.POSITIVE_INFINITY)) {
        this.#smallest.set(outcome, given.input)
      }
    } catch (error) {
      this.#fail(error, { ...given, ...(await this.#smaller(given.input, error)) })
    }
  }

  /** A machine that is busy elsewhere makes any case slow once. */
  async #timed(run: () => Outcome | Promise<Outcome>): Promise<Outcome> {
    for (let tries = 0; ; tries++) {
      const startedAt = performance.now()
      const result = run()
      const outcome = typeof result === 'string' ? result : await within('a case', CASE_HANGS_MS, result)
      const ms = performance.now() - startedAt
      if (this.#fuzzer.kind === 'live' || ms <= CASE_MS_MAX) {
        this.#slowestMs = Math.max(this.#slowestMs, ms)
        return outcome
      }
      if (tries > 0) throw new Error(`a case took ${Math.round(ms)} ms, twice`)
    }
  }

  async #smaller(input: Uint8Array | undefined, error: unknown): Promise<{ readonly input?: Uint8Array }> {
    const check = this.#target.check?.bind(this.#target)
    if (input === undefined || check === undefined || this.#fuzzer.kind === 'live') return {}
    const wanted = messageOf(error).slice(0, 40)
    const fails = async (candidate: Uint8Array): Promise<boolean> => {
      try {
        await check(candidate)
        return false
      } catch (other) {
        return messageOf(other).slice(0, 40) === wanted
      }
    }
    return { input: await minimise(input, fails) }
  }

  /** What nobody caught, and what the target itself has to say. */
  async #settle(replay: string): Promise<void> {
    for (const error of await this.#deps.escapes.take()) {
      this.#fail(new Error('an exception that nobody caught', { cause: error }), { replay })
    }
    try {
      await this.#target.settle?.()
    } catch (error) {
      this.#fail(error, { replay })
    }
  }

  #fail(error: unknown, given: Omit<Failure, 'what'>): void {
    this.#failures.push({ what: describe(error), ...given })
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const own = error.stack ?? String(error)
  const lines = own.split('\n').slice(0, 12).join('\n')
  return error.cause === undefined ? lines : `${lines}\ncaused by ${describe(error.cause)}`
}
