/** How far a transfer of weights is: a bar with amount, rate, time left and sources, as much of it as the width allows. */
import { formatBytes } from '#base'
import type { TransferProgress } from '#wire'
import { createProgressLine, phaseTitle, type ProgressDeps, renderBar } from './progress.ts'
import type { Paint } from './terminal.ts'
import { countOf, formatAge } from './units.ts'

const BAR_WIDTH_MIN = 7
const BAR_WIDTH_MAX = 24

/** Columns that each fact is given, so that the bar does not jump when a number gains a digit. */
const WIDTHS = { title: 8, amount: 18, percent: 5, rate: 9, eta: 11, sources: 10 } as const

type FactName = Exclude<keyof typeof WIDTHS, 'title'>

/** In which order the facts are shown, and, where not all have room, which go first. */
const SHOWN: readonly FactName[] = ['amount', 'percent', 'rate', 'eta', 'sources']
const WANTED: readonly FactName[] = ['percent', 'rate', 'eta', 'amount', 'sources']

const GAP = 2

export interface TransferReporter {
  report(progress: TransferProgress): void
  /** Removes the line; what was printed sparsely stays. */
  clear(): void
}

export function createTransferProgress(deps: ProgressDeps): TransferReporter {
  const line = createProgressLine(deps)
  return {
    report: progress =>
      line.show({
        phase: progress.phase,
        isLast: progress.totalBytes > 0 && progress.doneBytes === progress.totalBytes,
        line: columns => renderTransfer(progress, columns, deps.paint),
        logLine: () => transferText(progress),
      }),
    clear: () => line.clear(),
  }
}

/** "Pulling ███▎          289 MB of 1.1 GB  26 %  48 MB/s  17 s left  3 peers", in at most so many columns. */
export function renderTransfer(progress: TransferProgress, columns: number, paint: Paint): string {
  const facts = factsOf(progress)
  const title = titleOf(progress)
  if (!hasBar(progress)) return [`${title} …`, facts.sources].filter(isSaid).join('  ')
  let room = columns - WIDTHS.title - 1 - BAR_WIDTH_MIN
  const fitting = new Set<FactName>()
  for (const name of WANTED) {
    if (room < WIDTHS[name] + GAP) break
    room -= WIDTHS[name] + GAP
    fitting.add(name)
  }
  const bar = renderBar(fractionOf(progress), Math.min(BAR_WIDTH_MAX, BAR_WIDTH_MIN + Math.max(0, room)))
  const shown = SHOWN.filter(name => fitting.has(name)).map(name => facts[name])
  return [`${title.padEnd(WIDTHS.title)} ${paint.cyan(bar)}`, ...shown].filter(isSaid).join(' '.repeat(GAP))
}

/** "Pulling: 289 MB of 1.1 GB, 26 %, 48 MB/s, 17 s left, 3 peers". */
function transferText(progress: TransferProgress): string {
  const facts = factsOf(progress)
  const shown = !hasBar(progress) ? [facts.sources] : SHOWN.map(name => facts[name])
  const text = shown.filter(isSaid).join(', ')
  return text === '' ? titleOf(progress) : `${titleOf(progress)}: ${text}`
}

function factsOf(progress: TransferProgress): Readonly<Record<FactName, string>> {
  const { doneBytes, totalBytes, rate, etaS } = progress
  return {
    amount: `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`,
    percent: `${Math.floor(fractionOf(progress) * 100)} %`,
    rate: rate > 0 ? `${formatBytes(rate)}/s` : '',
    eta: etaS === undefined || doneBytes >= totalBytes ? '' : `${formatAge(Math.ceil(etaS) * 1000)} left`,
    sources: sourcesText(progress),
  }
}

/** How long it takes to find a manifest nobody knows, and its bytes are few. */
function hasBar({ phase, totalBytes }: TransferProgress): boolean {
  return phase !== 'manifest' && totalBytes > 0
}

function titleOf({ phase }: TransferProgress): string {
  return phase === 'manifest' ? 'Looking for the manifest' : phaseTitle(phase)
}

/** Peers alone are called so; where web servers and the like give something too, all are sources. */
function sourcesText({ peers, sources }: TransferProgress): string {
  if (sources > peers) return countOf(sources, 'source')
  return peers === 0 ? '' : countOf(peers, 'peer')
}

function fractionOf({ doneBytes, totalBytes }: TransferProgress): number {
  return totalBytes === 0 ? 0 : Math.min(1, Math.max(0, doneBytes / totalBytes))
}

function isSaid(text: string): boolean {
  return text !== ''
}
