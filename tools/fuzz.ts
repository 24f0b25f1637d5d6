/**
 * `npm run fuzz -- --seconds 60 --seed 1`: feeds everything that takes bytes from peers or disks with what it should
 * never get, in this process and against a running node. Prints a line for each fuzzer; exits with 1 where one has found
 * something, and says how to bring it back. `docs/guides/fuzzing.md` tells more.
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { keepFailure } from './fuzz/lib/corpus.ts'
import type { Fuzzer } from './fuzz/lib/fuzzer.ts'
import { type Report, runFuzzer, type RunOptions } from './fuzz/lib/runner.ts'
import { Escapes } from './fuzz/lib/watch.ts'
import { type LiveNode, startLiveNode } from './fuzz/live/live-node.ts'
import { FUZZERS } from './fuzz/registry.ts'

/** Share of the time for what needs no node. */
const PURE_SHARE = 0.4
/** What the start of a node and its last look take, about. Milliseconds. */
const NODE_MS = 5_000
/** A canary that is not found by then is not found. Milliseconds. */
const CANARY_MS_MAX = 5_000
/** Everything once, shortly. */
const SMOKE = { pureMs: 80, liveMs: 300 } as const

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string' },
    fuzzer: { type: 'string', multiple: true },
    case: { type: 'string' },
    input: { type: 'string' },
    smoke: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
})

const seed = wholeNumber('--seed', flags.seed ?? String(Math.floor(Math.random() * 2 ** 31)))
const chosen = flags.fuzzer ?? []
const unknown = chosen.find(name => !FUZZERS.some(fuzzer => fuzzer.name === name))
if (unknown !== undefined) throw new Error(`there is no fuzzer ${unknown}; --list names them`)

if (flags.list) for (const { name, kind } of FUZZERS) console.log(`${kind.padEnd(7)} ${name}`)
else process.exitCode = (await main()) ? 0 : 1

async function main(): Promise<boolean> {
  const fuzzers = chosen.length === 0 ? FUZZERS : FUZZERS.filter(({ name }) => chosen.includes(name))
  console.log(`seed ${seed}`)
  const escapes = new Escapes()
  let started: Promise<LiveNode> | undefined
  const node = (): Promise<LiveNode> => (started ??= startLiveNode())
  let isGood = true
  try {
    for (const fuzzer of fuzzers) {
      const report = await runFuzzer({ escapes, node }, fuzzer, optionsFor(fuzzer, fuzzers))
      isGood = print(fuzzer, report) && isGood
    }
  } finally {
    await (await started?.catch(() => undefined))?.stop()
    escapes.stop()
  }
  return isGood
}

function optionsFor({ kind }: Fuzzer, fuzzers: readonly Fuzzer[]): RunOptions {
  const budgetMs = 1000 * wholeNumber('--seconds', flags.seconds)
  const [pure, live] = (['pure', 'live'] as const).map(
    wanted => fuzzers.filter(fuzzer => fuzzer.kind === wanted).length,
  )
  const pureMs = budgetMs * (live === 0 ? 1 : pure === 0 ? 0 : PURE_SHARE)
  const smokeMs = kind === 'live' ? SMOKE.liveMs : SMOKE.pureMs
  const shareMs = kind === 'live' ? Math.max(0, budgetMs - pureMs - NODE_MS) / (live ?? 1) : pureMs / (pure ?? 1)
  return {
    seed,
    forMs: kind === 'canary' ? CANARY_MS_MAX : flags.smoke ? smokeMs : shareMs,
    isKept: flags.keep,
    ...(flags.case === undefined ? {} : { cases: casesOf(flags.case) }),
    ...(flags.input === undefined ? {} : { input: new Uint8Array(readFileSync(flags.input)) }),
  }
}

/** @returns whether all is as it should be: nothing found, or, by a canary's fuzzer, something */
function print({ name, kind }: Fuzzer, report: Report): boolean {
  const { failures, cases, corpus, forMs, outcomes, slowestMs, rssBytes } = report
  // Asked for by name, a canary fails like any other fuzzer: that is how it shows what a failure looks like.
  const isCanary = kind === 'canary' && chosen.length === 0
  const isGood = isCanary ? failures.length > 0 : failures.length === 0
  const facts = [
    `${cases} cases`.padStart(14),
    `${Math.round((1000 * cases) / forMs)}/s`.padStart(9),
    `${corpus} kept`.padStart(8),
    `${outcomes.size} outcomes`.padStart(12),
    `${failures.length} failures`.padStart(11),
    `slowest ${Math.round(slowestMs)} ms`.padStart(16),
    rssBytes === undefined ? '' : `max RSS ${Math.round(rssBytes / 2 ** 20)} MiB`.padStart(16),
  ]
  const verdict = !isGood ? 'FAILED' : isCanary ? 'found' : 'ok'
  console.log(`${verdict.padEnd(6)} ${name.padEnd(18)}${facts.join('')}`)
  if (isCanary) {
    if (!isGood) console.log('  the fault that is there on purpose was not found: this harness is blind')
    return isGood
  }
  for (const { what, replay, input } of failures) {
    console.log(`  ${what.replaceAll('\n', '\n  ')}`)
    const file = input === undefined ? undefined : keepFailure(name, input)
    if (file !== undefined) console.log(`  input (made smaller where that was possible): ${file}`)
    console.log(`  again: npm run fuzz -- --fuzzer ${name} --seed ${seed} ${replay}`)
  }
  return isGood
}

function casesOf(text: string): [number, number] {
  const [first = '', last = first] = text.split('-')
  return [wholeNumber('--case', first), wholeNumber('--case', last)]
}

function wholeNumber(flag: string, text: string): number {
  const number = Number(text)
  if (!Number.isSafeInteger(number) || number < 0 || text === '') throw new Error(`${flag} takes a whole number`)
  return number
}
