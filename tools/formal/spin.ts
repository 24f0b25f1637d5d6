/**
 * Spin: reads the runs that a model lists (`@run NAME | FLAGS | EXPECTED`), makes a checker of each, runs it within
 * bounds, and says what came out: `holds`, the comment beside the assertion that was violated, `invalid end state`, or
 * `acceptance cycle`. A search that did not see all states has shown nothing, and never counts as `holds`.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** For one search. A usual one needs a tenth of it. */
const MEMORY_MIB_MAX = 6 * 1024
/** Steps from the first state. What is needed is printed by the checker as `depth reached`. */
const DEPTH_MAX = 2_000_000
/** For one search. Milliseconds. */
const RUN_MS_MAX = 5 * 60 * 1000
const DEEP_RUN_MS_MAX = 60 * 60 * 1000
const OUTPUT_BYTES_MAX = 64 * 2 ** 20

export type SpinRun = {
  readonly name: string
  /** For the preprocessor. */
  readonly flags: readonly string[]
  /** What must come out. */
  readonly expected: string
  /** Takes minutes or hours, and is done only when asked for. */
  readonly isDeep: boolean
}

export type SpinOutcome = {
  readonly outcome: string
  /** How many states were seen, for people. */
  readonly facts: string
}

/** The runs that a model's first comment lists. @throws Error where one is written wrongly */
export function runsOf(text: string): SpinRun[] {
  const runs = [...text.matchAll(/^.*@run\b(?! is\b)(.*)$/gm)].map(([line, rest = '']) => {
    const [name = '', flags = '', expected = '', ...more] = rest.split('|').map(part => part.trim())
    if (!/^[a-z][a-z-]*$/.test(name) || expected === '' || more.length > 0) throw new Error(`not a run: ${line.trim()}`)
    return { name, flags: flags.split(/\s+/).filter(Boolean), expected, isDeep: name.startsWith('deep-') }
  })
  for (const [index, { name, flags, expected }] of runs.entries()) {
    if (runs.findIndex(run => run.name === name) !== index) throw new Error(`run ${name} is there twice`)
    for (const flag of flags) {
      const macro = /^-D([A-Z][A-Z0-9_]*)(?:=\d+)?$/.exec(flag)?.[1]
      const isAsked = macro !== undefined && new RegExp(`^#(?:ifdef|ifndef) ${macro}$`, 'm').test(text)
      if (!isAsked) throw new Error(`run ${name}: nothing in the model asks for ${flag}`)
    }
    if (!OWN_WORDS.has(expected) && !text.includes(`/* ${expected} */`)) {
      throw new Error(`run ${name}: no assertion has the comment "${expected}"`)
    }
  }
  if (runs.length === 0) throw new Error('the model lists no runs')
  return runs
}

const OWN_WORDS: ReadonlySet<string> = new Set(['holds', 'invalid end state', 'acceptance cycle'])

/** Whether Spin, and the compiler that it needs, are there. */
export function hasSpin(): boolean {
  return ['spin -V', 'gcc --version'].every(line => {
    const [command = '', ...args] = line.split(' ')
    return spawnSync(command, args).status === 0
  })
}

/** One search, in a folder of its own. */
export function runSpin(text: string, { flags, isDeep }: SpinRun): SpinOutcome {
  const folder = mkdtempSync(join(tmpdir(), 'koinon-formal-'))
  const call = (command: string, args: readonly string[]) => {
    const { stdout, stderr, status, error } = spawnSync(command, args, {
      cwd: folder,
      encoding: 'utf8',
      timeout: isDeep ? DEEP_RUN_MS_MAX : RUN_MS_MAX,
      killSignal: 'SIGKILL',
      maxBuffer: OUTPUT_BYTES_MAX,
    })
    return { output: `${stdout ?? ''}${stderr ?? ''}`, status, problem: error?.message }
  }
  try {
    writeFileSync(join(folder, MODEL), text)
    const made = call('spin', ['-a', ...flags, MODEL])
    if (made.status !== 0) return { outcome: `spin -a failed: ${made.output.trim()}`, facts: '' }
    const isLiveness = /^ltl /m.test(made.output)
    // Compiling well takes longer than a usual search.
    const compiled = call('gcc', [isDeep ? '-O2' : '-O0', '-w', '-o', 'pan', ...compilerFlags(isLiveness), 'pan.c'])
    if (compiled.status !== 0) return { outcome: `gcc failed: ${compiled.output.trim()}`, facts: '' }
    const searched = call('./pan', [`-m${DEPTH_MAX}`, ...(isLiveness ? ['-a', '-f'] : [])])
    if (searched.problem !== undefined) return { outcome: `was stopped: ${searched.problem}`, facts: '' }
    const outcome = outcomeOf(searched.output)
    if (outcome !== ASSERTION) return { outcome, facts: factsOf(searched.output) }
    const trail = call('spin', ['-t', ...flags, MODEL]).output
    return { outcome: commentOf(trail, text), facts: factsOf(searched.output) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const MODEL = 'model.pml'
const ASSERTION = 'assertion violated'

function compilerFlags(isLiveness: boolean): string[] {
  // NFAIR: weak fairness among more than a handful of processes. SAFETY: a smaller checker, where no cycle is asked for.
  return [`-DMEMLIM=${MEMORY_MIB_MAX}`, '-DCOLLAPSE', isLiveness ? '-DNFAIR=3' : '-DSAFETY']
}

/** What a checker's output says. A violation is one however much was seen; `holds` needs all states. */
export function outcomeOf(output: string): string {
  const violated = /^pan:\d+: (assertion violated|invalid end state|acceptance cycle|[^\n]*?)(?: .*)?\(at depth/m.exec(
    output,
  )
  const truncated = /max search depth too small|reached -DMEMLIM bound|out of memory|Interrupted|Search not completed/
  if (violated !== null) return (violated[1] ?? '').trim()
  const reason = truncated.exec(output)?.[0]
  if (reason !== undefined) return `not all states were seen: ${reason}`
  const isWhole = /^Full statespace search for:/m.test(output) && /\berrors: 0$/m.test(output)
  return isWhole ? 'holds' : 'no outcome'
}

/** The comment beside the assertion that a trail ends at. */
export function commentOf(trail: string, text: string): string {
  const line = /^spin: [^\n:]*:(\d+), Error: assertion violated$/m.exec(trail)?.[1]
  const source = line === undefined ? undefined : text.split('\n')[Number(line) - 1]
  const comment = source === undefined ? undefined : /\/\* (.*?) \*\/\s*$/.exec(source)?.[1]
  return comment ?? `an assertion without a comment is violated, line ${line ?? 'unknown'}`
}

function factsOf(output: string): string {
  const states = /^\s*([\d.e+]+) states, stored/m.exec(output)?.[1]
  const depth = /depth reached (\d+)/.exec(output)?.[1]
  return states === undefined || depth === undefined ? '' : `${Number(states)} states, depth ${depth}`
}
