/** `koinon audit log`: what a node has recorded about security, and whether the record is as it was written. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { publicKeyOfPeer } from '#crypto'
import type { AuditKind } from '#protocol'
import { type AuditEntry, type AuditVerdict, readAuditLog } from '#storage'
import { addDataDirOption, type DataDirFlags, dataDirOf } from './data-dir.ts'
import { EXIT } from './exit-codes.ts'
import { integerIn, parsePeerId } from './parse.ts'
import { type Column, renderTable, sentenceFor, wrap } from './table.ts'
import { createPaint, type Paint, printable, printJson, wantsColour } from './terminal.ts'
import { widthOf } from './text-width.ts'
import type { CliDeps, SetExitCode } from './types.ts'
import { groupDigits, shortPeer } from './units.ts'

type AuditFlags = DataDirFlags & {
  readonly verify?: boolean
  readonly signer?: string
  readonly json?: boolean
  readonly limit: number
  readonly kind?: string
  readonly peer?: string
  readonly since?: number
}

/** As many as a log keeps, and some more. */
const ENTRIES_SHOWN_MAX = 200_000

const HELP_AFTER = `
Works while the node runs and while it does not. --verify exits with 1 where the log was changed.

Examples:
  $ koinon audit log --since 24h
  $ koinon audit log --kind banned --peer q1Zk9fQx
  $ koinon audit log --verify --signer 12D3KooW...
  $ koinon audit log --json --limit 1000 | jq '.[] | select(.kind == "refused")'`

export function addAudit(program: Command, deps: CliDeps, setExitCode: SetExitCode): void {
  const audit = program
    .command('audit')
    .description('read what the node has recorded about security')
    .helpCommand(false)
  const command = audit
    .command('log')
    .description('show the newest entries of the audit log, or check all of it')
    .option('--verify', 'check the whole log instead: chain, signatures, what was pruned')
    .option('--signer <peer>', 'peer id whose key must have signed (default: the one that the log names)', parsePeerId)
    .option('--limit <n>', 'entries to show', integerIn(1, ENTRIES_SHOWN_MAX), 50)
    .addOption(new Option('--kind <kind>', 'entries of this kind only').choices(Object.keys(KINDS)))
    .option('--peer <peer>', 'entries about this peer only: its id, or the end of it', parsePeer)
    .option('--since <time>', 'entries from then on: 30m, 24h, 7d, or 2026-11-21T10:00Z', text =>
      parseSince(text, deps.clock.now()),
    )
    .option('--json', 'print JSON')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action((flags: AuditFlags) => {
    const log = readAuditLog(dataDirOf(deps, flags))
    try {
      if (flags.verify !== true && flags.signer === undefined) {
        printEntries(deps, flags, log.entries(flags))
        return
      }
      const verdict = log.verify(flags.signer)
      printVerdict(deps, flags, verdict)
      if (!verdict.ok) setExitCode(EXIT.failed)
    } finally {
      log.close()
    }
  })
}

function printVerdict(deps: CliDeps, flags: AuditFlags, verdict: AuditVerdict): void {
  if (flags.json === true) {
    printJson(deps.stdout, verdict)
    return
  }
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  for (const line of renderVerdict(verdict)) {
    const text = sentenceFor(deps.stdout, line)
    deps.stdout.write(`${verdict.ok ? text : paint.red(text)}\n`)
  }
}

function printEntries(deps: CliDeps, flags: AuditFlags, entries: readonly AuditEntry[]): void {
  if (flags.json === true) {
    printJson(
      deps.stdout,
      entries.map(({ at, ...entry }) => ({ time: new Date(at).toISOString(), ...entry })),
    )
    return
  }
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  // A pipe has no width: whoever searches the lines needs all of each.
  const width = deps.stdout.isTty ? deps.stdout.columns : Number.POSITIVE_INFINITY
  deps.stdout.write(entries.length === 0 ? 'No entries.\n' : renderAuditLog(entries, width, paint))
}

/** Columns that facts need beside the others; with less they go below. */
const FACTS_WIDTH_MIN = 60

/** A table of entries. Facts are never cut: where the width has no room for them, they follow in lines of their own. */
export function renderAuditLog(entries: readonly AuditEntry[], width: number, paint: Paint): string {
  const columns: readonly Column<AuditEntry>[] = [
    { title: 'SEQ', cell: entry => String(entry.seq), align: 'right' },
    { title: 'TIME (UTC)', cell: entry => timeText(entry.at) },
    { title: 'KIND', cell: entry => kindText(entry, paint), widthMin: 10 },
    { title: 'PEER', cell: entry => peerText(entry), widthMin: 9 },
  ]
  const text = renderTable(entries, columns, { width, paint })
  const [head = '', ...rows] = text.trimEnd().split('\n')
  const before = Math.max(...[head, ...rows].map(widthOf)) + 2
  if (width - before < FACTS_WIDTH_MIN) {
    const indent = ' '.repeat(2 + Math.max(3, ...entries.map(entry => String(entry.seq).length)))
    const below = (entry: AuditEntry): string =>
      wrap(factsText(entry), width - indent.length)
        .split('\n')
        .map(line => (line === '' ? '' : `${indent}${paint.dim(line)}\n`))
        .join('')
    return `${head}\n${rows.map((row, i) => `${row}\n${entries[i] === undefined ? '' : below(entries[i])}`).join('')}`
  }
  const beside = (row: string, facts: string): string =>
    `${row}${' '.repeat(before - widthOf(row))}${wrap(facts, width - before).replaceAll('\n', `\n${' '.repeat(before)}`)}`
  const lines = rows.map((row, i) => beside(row, entries[i] === undefined ? '' : factsText(entries[i])).trimEnd())
  return [beside(head, paint.dim('FACTS')), ...lines].map(line => `${line}\n`).join('')
}

/** What the check found, a sentence or two an item. */
function renderVerdict(verdict: AuditVerdict): readonly string[] {
  const { firstBad, signer, lastCheckpoint, unsigned } = verdict
  if (firstBad !== undefined) {
    const good = `${entriesText(verdict.entries)} before it hold together.`
    return [`The audit log is NOT as it was written. Entry ${firstBad.seq}: ${oneLine(firstBad.what)}.`, good]
  }
  const whole = `The audit log holds together: ${entriesText(verdict.entries)}.`
  if (signer === undefined || lastCheckpoint === undefined)
    return [whole, `None is signed${signer === undefined ? '' : ` by ${signer}`}.`]
  return [
    whole,
    `Signed up to entry ${lastCheckpoint.seq}, ${timeText(lastCheckpoint.at)} UTC, by ${signer}.`,
    ...(unsigned === 0 ? [] : [`Not signed yet: the newest ${groupDigits(unsigned)}.`]),
    `To find out later whether the log was cut, keep this: entry ${lastCheckpoint.seq} is ${lastCheckpoint.hash}`,
  ]
}

/** How bad it is: for the colour. */
const KINDS: Readonly<Record<AuditKind, 'plain' | 'good' | 'bad' | 'worse'>> = {
  'authentication-failed': 'worse',
  refused: 'bad',
  banned: 'worse',
  replay: 'worse',
  'not-authorised': 'bad',
  'rate-limited': 'bad',
  'key-created': 'good',
  'key-rotated': 'good',
  'peer-key-rotated': 'good',
  'peer-key-refused': 'worse',
  command: 'plain',
  'log-pruned': 'plain',
  'node-started': 'plain',
  'node-stopped': 'plain',
}

function kindText({ kind }: AuditEntry, paint: Paint): string {
  const severity = Object.hasOwn(KINDS, kind) ? KINDS[kind as AuditKind] : 'plain'
  const text = oneLine(kind)
  if (severity === 'plain') return text
  return severity === 'good' ? paint.green(text) : severity === 'bad' ? paint.yellow(text) : paint.red(text)
}

/** Peer ids by their end; what else may stand there (an address) as it is. */
function peerText({ peer }: AuditEntry): string {
  if (peer === undefined) return '-'
  return publicKeyOfPeer(peer) === undefined ? oneLine(peer) : shortPeer(peer)
}

/** "attempt=3 reason=proof-wrong"; text with spaces in quotes. */
function factsText({ facts, isDamaged }: AuditEntry): string {
  const texts = Object.entries(facts).map(([name, value]) => {
    const text = String(value)
    return `${oneLine(name)}=${/^[\p{L}\p{N}_.:/@+-]+$/u.test(text) ? text : oneLine(JSON.stringify(value))}`
  })
  return [...(isDamaged === true ? ['DAMAGED'] : []), ...texts].join(' ')
}

/** "1 entry", "1 340 entries". */
function entriesText(count: number): string {
  return count === 1 ? '1 entry' : `${groupDigits(count)} entries`
}

/** "2026-11-21 10:54:46". */
function timeText(at: number): string {
  return new Date(at).toISOString().slice(0, 19).replace('T', ' ')
}

/** Text from elsewhere, for a line of a table. */
function oneLine(text: string): string {
  return printable(text.replace(/\s+/g, ' '))
}

/** A peer as a person has it: from a table with its ellipsis, or whole. */
function parsePeer(text: string): string {
  const peer = text.replace(/^…/, '')
  if (peer === '') throw new InvalidArgumentError('Expected a peer id, or the end of one.')
  return peer
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3 }

/** "30m", "7d": so long before now; else a date and time in ISO 8601. @returns Unix milliseconds */
function parseSince(text: string, now: number): number {
  const span = /^(\d{1,6})([smhd])$/.exec(text)
  if (span !== null) return Math.max(0, now - Number(span[1]) * (UNIT_MS[span[2] ?? ''] ?? 0))
  const time = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(time)) {
    throw new InvalidArgumentError('Expected a span, such as 30m, 24h or 7d, or a time, such as 2026-11-21T10:00Z.')
  }
  return Math.max(0, time)
}
