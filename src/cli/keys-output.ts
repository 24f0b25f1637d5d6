/** What `koinon keys` prints: facts about a key, and its words where they were asked for. */
import { renderFacts, sentenceFor } from './table.ts'
import { createPaint, printJson, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'

type OutputDeps = Pick<CliDeps, 'stdout' | 'stderr' | 'env'>

/** Nothing here is secret, but for `words`. */
export type KeyReport = {
  readonly peer: string
  readonly stableId: string
  readonly publicKey: string
  /** Where the key lies. */
  readonly kind: 'file' | 'environment' | 'pkcs11' | 'kms'
  /** Of a key file. */
  readonly file?: string
  readonly isEncrypted?: boolean
  /** Whether 24 words restore it; not known of keys that lie elsewhere. */
  readonly hasPhrase?: boolean
  /** Which key of the phrase it is. */
  readonly number?: number
  /** How often the node has changed its key. */
  readonly handovers: number
  /** When it did so last, Unix milliseconds. */
  readonly handedOverAt?: number
  /** The key that this one has handed over to. */
  readonly successor?: string
  readonly words?: string
}

export function printKey(deps: OutputDeps, report: KeyReport, { json }: { readonly json?: boolean }): void {
  if (json === true) {
    printJson(deps.stdout, report)
    return
  }
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  const facts: (readonly [string, string])[] = [
    ['Peer id', paint.bold(report.peer)],
    ['Stable id', report.stableId],
    ['Public key', report.publicKey],
    ['Kept in', keptIn(report)],
    ...(report.hasPhrase === undefined ? [] : [['Seed phrase', phraseText(report)] as const]),
    ['Hand-overs', handoverText(report)],
    ...(report.successor === undefined ? [] : [['Given up for', paint.yellow(report.successor)] as const]),
  ]
  deps.stdout.write(renderFacts(facts, paint))
}

function keptIn({ kind, file, isEncrypted }: KeyReport): string {
  if (kind === 'environment') return 'the environment'
  if (kind === 'pkcs11') return 'a token (PKCS #11)'
  if (kind === 'kms') return 'a key service (AWS KMS)'
  return `${file ?? ''}\n${isEncrypted === true ? 'encrypted' : 'in the clear'}`
}

function phraseText({ hasPhrase, number }: KeyReport): string {
  return hasPhrase === true ? `24 words restore it, as key number ${number ?? 0}` : 'none: it was imported without one'
}

function handoverText({ handovers, handedOverAt }: KeyReport): string {
  if (handovers === 0 || handedOverAt === undefined) return 'none known'
  return `${handovers}, the last on ${new Date(handedOverAt).toISOString().slice(0, 10)}`
}

/** The words to standard output, four lines of six; what to do with them to standard error. */
export function printPhrase(deps: OutputDeps, words: string, number = 0): void {
  const list = words.split(' ')
  const lines = [0, 6, 12, 18].map(first => list.slice(first, first + 6).join(' '))
  const which = number === 0 ? '' : `, with --number ${number}`
  say(
    deps,
    `\nWhoever has these words can act as this node. \`koinon keys import --words\` restores it from them${which}:\n`,
  )
  deps.stdout.write(`${lines.join('\n')}\n`)
}

export type RotationReport = {
  readonly from: string
  readonly to: string
  /** Whether a running node has done it. */
  readonly isRunning: boolean
  readonly hasNewPhrase: boolean
  /** Whether the new key lies elsewhere than in the data directory. */
  readonly isElsewhere: boolean
}

export function printRotation(deps: OutputDeps, report: RotationReport, { json }: { readonly json?: boolean }): void {
  const { from, to, isRunning, hasNewPhrase, isElsewhere } = report
  if (json === true) {
    printJson(deps.stdout, { from, to, isRunning })
    return
  }
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  deps.stdout.write(
    renderFacts(
      [
        ['Old peer id', from],
        ['New peer id', paint.bold(to)],
      ],
      paint,
    ),
  )
  if (isRunning)
    say(deps, 'The node goes on, and its peers know. From its next start they reach it under the new peer id.')
  else say(deps, 'Peers learn of it when the node connects to them.')
  if (isElsewhere) say(deps, 'Start the node with --key for the new key from now on: the old one is given up.')
  if (hasNewPhrase) say(deps, 'There is a new seed phrase: `koinon keys export --words` shows it.')
}

function say(deps: OutputDeps, text: string): void {
  deps.stderr.write(`${sentenceFor(deps.stderr, text)}\n`)
}
