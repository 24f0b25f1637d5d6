/**
 * ProVerif: runs it on a variant, reads its answers, and keeps them as a record, a text file in `formal/recorded/`. Where
 * ProVerif is not installed the records are compared instead; each names the digest of the text that it was made from,
 * so a model that was changed since has no valid record.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Variant } from './model.ts'

/** The longest variant takes about a minute. Milliseconds. */
const VARIANT_MS_MAX = 10 * 60 * 1000
/** What ProVerif may print. Where it finds attack after attack it does not stop by itself. */
const OUTPUT_BYTES_MAX = 64 * 2 ** 20

export type ProVerif = { readonly command: string; readonly version: string }

export type ProVerifAnswer = {
  /** What follows `RESULT`, a line each. Also lines in brackets, which say more of the one before. */
  readonly results: readonly string[]
  /** ProVerif's own summary, without its rulers. */
  readonly summary: string
  /** Why there is no whole answer. */
  readonly problem?: string
}

/** The ProVerif of `PROVERIF`, or on the PATH. Undefined: there is none. @throws Error where `PROVERIF` names none */
export function findProVerif(): ProVerif | undefined {
  const asked = process.env['PROVERIF']
  const command = asked ?? 'proverif'
  const { stdout } = spawnSync(command, ['-help'], { encoding: 'utf8' })
  const version = /^Proverif (\d+(?:\.[\dp]+)*)/im.exec(stdout ?? '')?.[1]?.replace(/\.$/, '')
  if (version !== undefined) return { command, version }
  if (asked === undefined) return undefined
  throw new Error(`PROVERIF is ${asked}, which is no ProVerif`)
}

/** Runs ProVerif on the text of a variant, for ten minutes at most. */
export function runProVerif({ command }: ProVerif, variant: Variant): ProVerifAnswer {
  const folder = mkdtempSync(join(tmpdir(), 'koinon-formal-'))
  try {
    const path = join(folder, `${variant.model}-${variant.name}.pv`)
    writeFileSync(path, variant.text)
    const { stdout, status, error } = spawnSync(command, [path], {
      encoding: 'utf8',
      timeout: VARIANT_MS_MAX,
      killSignal: 'SIGKILL',
      maxBuffer: OUTPUT_BYTES_MAX,
    })
    const answer = answerOf(stdout ?? '')
    if (error !== undefined) return { ...answer, problem: `was stopped: ${error.message}` }
    return status === 0
      ? answer
      : { ...answer, problem: /^.*Error:[\s\S]*/m.exec(stdout)?.[0] ?? `ended with ${status}` }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** What ProVerif printed. */
export function answerOf(output: string): ProVerifAnswer {
  const [, summary] = /^Verification summary:\n([\s\S]*?)\n-{10,}$/m.exec(output) ?? []
  return {
    results: [...output.matchAll(/^RESULT (.*)$/gm)].map(match => match[1] ?? ''),
    summary: (summary ?? '').trim().replaceAll(/\n{2,}/g, '\n'),
  }
}

export type Comparison = {
  readonly isGood: boolean
  /** How many queries ProVerif said true of, false of, neither. */
  readonly got: string
  /** One line for each answer that is not the expected one. */
  readonly differences: readonly string[]
}

/** Whether the answers are the expected ones, all of them, in their order. */
export function compare(variant: Variant, { results, problem }: ProVerifAnswer): Comparison {
  const verdicts = results.filter(result => !result.startsWith('(')).map(verdictOf)
  const differences = variant.expected.flatMap(({ query, isTrue }, index) => {
    const got = verdicts[index] ?? 'no answer'
    return got === String(isTrue) ? [] : [`${query}: expected ${isTrue}, got ${got}`]
  })
  const surplus = verdicts.length - variant.expected.length
  if (surplus > 0) differences.push(`${surplus} answers too many`)
  if (problem !== undefined) differences.push(`ProVerif ${problem}`)
  return { isGood: differences.length === 0, got: countsOf(verdicts), differences }
}

/** What is expected of a variant, as short as `Comparison.got`. */
export function expectedOf({ expected }: Variant): string {
  return countsOf(expected.map(({ isTrue }) => String(isTrue)))
}

function verdictOf(result: string): string {
  return /\b(true|false|cannot be proved)(?: \(.*\))?\.$/.exec(result)?.[1] ?? 'no answer'
}

function countsOf(verdicts: readonly string[]): string {
  const count = (wanted: string) => verdicts.filter(verdict => verdict === wanted).length
  const kinds = ['true', 'false', 'cannot be proved', 'no answer'] as const
  return kinds.flatMap(kind => (count(kind) === 0 ? [] : [`${count(kind)} ${kind}`])).join(', ') || 'nothing'
}

/** Name of a variant's record. */
export function recordName({ model, name }: Pick<Variant, 'model' | 'name'>): string {
  return `${model}.${name}.txt`
}

/** A record: the same text for the same answers, whoever makes it and when. */
export function recordOf(variant: Variant, { results, summary }: ProVerifAnswer, version: string): string {
  const { model, name, flags, digest } = variant
  const facts = [
    ['model', `formal/${model}.pv`],
    ['variant', name],
    ['flags', flags.length === 0 ? '-' : flags.join(' ')],
    ['ProVerif', version],
    ['SHA-256', digest],
  ]
  const head = facts.map(([fact = '', value = '']) => `${fact.padEnd(9)}${value}`)
  return `${[...head, '', ...results.map(result => `RESULT ${result}`), '', 'Verification summary:', summary].join('\n')}\n`
}

/** What is wrong with a variant's record. Undefined as record: there is none. */
export function checkRecord(variant: Variant, record: string | undefined): readonly string[] {
  if (record === undefined) return ['not recorded; npm run formal -- --record does it']
  const digest = /^SHA-256 +([0-9a-f]{64})$/m.exec(record)?.[1]
  if (digest !== variant.digest) {
    return ['the record is of another text: the model was changed since; npm run formal -- --record does it anew']
  }
  return compare(variant, answerOf(record)).differences
}
