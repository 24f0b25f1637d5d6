/**
 * `npm run formal`: checks the models of `formal/`. Spin searches all states of `session.pml` in each run that the model
 * lists; ProVerif proves, or refutes, what each variant of `handshake.pv` and `resumption.pv` expects. Prints a line for
 * each, and exits with 1 where one came out otherwise. What is not installed is left out, and said to be; ProVerif's
 * recorded answers are compared in any case. `formal/README.md` tells more.
 */
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Variant, variantsOf } from './formal/model.ts'
import {
  checkRecord,
  compare,
  expectedOf,
  findProVerif,
  type ProVerif,
  recordName,
  recordOf,
  runProVerif,
} from './formal/proverif.ts'
import { hasSpin, runSpin, runsOf } from './formal/spin.ts'

const HELP = `npm run formal -- [options]

Checks the models of formal/ with Spin and ProVerif. Exits with 1 where something came out otherwise than expected.

  --deep           also the runs of Spin that take long
  --only TEXT      only the runs and variants whose name contains TEXT, as in --only handshake/whole
  --record         write what ProVerif answers to formal/recorded/, where it is the expected
  --require-spin   fail where Spin is not installed
  --help           this text

ProVerif is looked for on the PATH, or is the file that PROVERIF names. Spin needs gcc.
`
const MODELS = 'formal'
const RECORDS = 'formal/recorded'

type Flags = { readonly deep: boolean; readonly record: boolean; readonly requireSpin: boolean; readonly only: string }

type Line = {
  readonly name: string
  readonly expected: string
  readonly got: string
  readonly seconds: number
  readonly isGood: boolean
  readonly details?: readonly string[]
}

/** All that `npm run formal` does. @returns whether everything is as expected */
function main(flags: Flags): boolean {
  printRow(['', 'name', 'expected', 'got', 'seconds'])
  const isSpinGood = checkSession(flags)
  const variants = globSync(`${MODELS}/*.pv`)
    .sort()
    .flatMap(path => variantsOf(basename(path, '.pv'), readFileSync(path, 'utf8')))
  const chosen = variants.filter(({ model, name }) => `${model}/${name}`.includes(flags.only))
  const proVerif = findProVerif()
  if (proVerif === undefined && flags.record) throw new Error('--record needs ProVerif')
  const isProofGood = proVerif === undefined ? skipProofs() : checkProofs(proVerif, chosen, flags)
  return [isSpinGood, isProofGood, checkRecords(chosen), checkStrays(variants, flags)].every(Boolean)
}

function checkSession({ deep, only, requireSpin }: Flags): boolean {
  const text = readFileSync(join(MODELS, 'session.pml'), 'utf8')
  const runs = runsOf(text).filter(({ name, isDeep }) => (deep || !isDeep) && `session/${name}`.includes(only))
  if (!hasSpin()) {
    console.log('Spin: skipped, not installed (it needs spin and gcc)')
    if (requireSpin) console.error('--require-spin: Spin is required here, and it or gcc is not installed')
    return !requireSpin
  }
  let isGood = true
  for (const run of runs) {
    const startedAt = performance.now()
    const { outcome, facts } = runSpin(text, run)
    isGood =
      print({
        name: `session/${run.name}`,
        expected: run.expected,
        got: outcome === 'holds' ? `${outcome}, ${facts}` : outcome,
        seconds: (performance.now() - startedAt) / 1000,
        isGood: outcome === run.expected,
      }) && isGood
  }
  return isGood
}

function skipProofs(): boolean {
  console.log('ProVerif: skipped, not installed; what is recorded of it is compared')
  return true
}

function checkProofs(proVerif: ProVerif, variants: readonly Variant[], { record }: Flags): boolean {
  let isGood = true
  for (const variant of variants) {
    const startedAt = performance.now()
    const answer = runProVerif(proVerif, variant)
    const comparison = compare(variant, answer)
    isGood =
      print({
        name: `${variant.model}/${variant.name}`,
        expected: expectedOf(variant),
        got: comparison.got,
        seconds: (performance.now() - startedAt) / 1000,
        isGood: comparison.isGood,
        details: comparison.differences,
      }) && isGood
    if (record && comparison.isGood) {
      mkdirSync(RECORDS, { recursive: true })
      writeFileSync(join(RECORDS, recordName(variant)), recordOf(variant, answer, proVerif.version))
    }
  }
  return isGood
}

function checkRecords(variants: readonly Variant[]): boolean {
  let isGood = true
  for (const variant of variants) {
    const path = join(RECORDS, recordName(variant))
    const differences = checkRecord(variant, existsSync(path) ? readFileSync(path, 'utf8') : undefined)
    const expected = expectedOf(variant)
    isGood =
      print({
        name: `recorded ${variant.model}/${variant.name}`,
        expected,
        got: differences.length === 0 ? expected : 'something else',
        seconds: 0,
        isGood: differences.length === 0,
        details: differences,
      }) && isGood
  }
  return isGood
}

/** A record of a variant that is no more would say what nothing claims. */
function checkStrays(variants: readonly Variant[], { record }: Flags): boolean {
  const known = new Set(variants.map(recordName))
  const strays = globSync(`${RECORDS}/*`).filter(path => !known.has(basename(path)))
  for (const path of strays) {
    if (record) rmSync(path)
    else print({ name: path, expected: 'a variant', got: 'none of that name', seconds: 0, isGood: false })
  }
  return record || strays.length === 0
}

function print({ name, expected, got, seconds, isGood, details = [] }: Line): boolean {
  printRow([isGood ? 'ok' : 'FAILED', name, expected, got, seconds.toFixed(1)])
  for (const detail of details) console.log(`       ${detail.trim().replaceAll('\n', '\n       ')}`)
  return isGood
}

function printRow([verdict = '', name = '', expected = '', got = '', seconds = '']: readonly string[]): void {
  console.log(`${verdict.padEnd(7)}${name.padEnd(52)} ${expected.padEnd(40)} ${got.padEnd(40)} ${seconds.padStart(7)}`)
}

const { values } = parseArgs({
  options: {
    deep: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
    'require-spin': { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
})
const flags: Flags = { ...values, requireSpin: values['require-spin'] }
if (values.help) console.log(HELP)
else process.exitCode = main(flags) ? 0 : 1
