/**
 * Progress while a node starts or bytes move: one line that redraws itself on a terminal; elsewhere a line per phase, and
 * at most one more every few seconds, so that a log stays readable.
 */
import { stripVTControlCharacters } from 'node:util'
import { type Clock, formatBytes } from '#base'
import type { NodeProgress } from '#node'
import type { Output, Paint } from './terminal.ts'
import { cut, widthOf } from './text-width.ts'

const REDRAW_PERIOD_MS = 50
const SPARSE_PERIOD_MS = 5_000
/** A start that is over this soon needs no words. */
const QUIET_MS = 3_000
const BAR_WIDTH = 24

/** "█████▌      ": eighths of a block, so that the bar moves smoothly. `fraction` is in [0, 1]. */
export function renderBar(fraction: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, fraction)) * width * 8)
  const rest = eighths % 8
  const partial = rest === 0 ? '' : (' ▏▎▍▌▋▊▉'[rest] ?? '')
  const full = '█'.repeat(Math.floor(eighths / 8))
  return (full + partial).padEnd(width)
}

/** What there is to show of one moment. */
export type ProgressView = {
  /** Another phase is shown at once. */
  readonly phase: string
  /** Whether the phase is done: that is shown at once, too. */
  readonly isLast: boolean
  /** For a terminal with so many columns; what is longer is cut. */
  readonly line: (columns: number) => string
  /** For a log. */
  readonly logLine: () => string
}

export interface ProgressLine {
  show(view: ProgressView): void
  /** Removes the line; what was printed sparsely stays. */
  clear(): void
}

type LineDeps = { readonly output: Output; readonly clock: Clock }

export function createProgressLine(deps: LineDeps): ProgressLine {
  return deps.output.isTty ? createLiveLine(deps) : createSparseLines(deps)
}

function createLiveLine({ output, clock }: LineDeps): ProgressLine {
  let drawnAt = -Infinity
  let drawnPhase: string | undefined
  return {
    show: ({ phase, isLast, line }) => {
      const now = clock.monotonic()
      if (phase === drawnPhase && !isLast && now - drawnAt < REDRAW_PERIOD_MS) return
      drawnAt = now
      drawnPhase = phase
      const text = line(output.columns - 1)
      const fitted = widthOf(text) < output.columns ? text : cut(stripVTControlCharacters(text), output.columns - 1)
      output.write(`\r\u001b[K${fitted}`)
    },
    clear: () => {
      if (drawnPhase !== undefined) output.write('\r\u001b[K')
      drawnPhase = undefined
    },
  }
}

function createSparseLines({ output, clock }: LineDeps): ProgressLine {
  const startedAt = clock.monotonic()
  let printedAt = -Infinity
  let printedLine = ''
  let phaseBefore = ''
  return {
    show: ({ phase, logLine }) => {
      const now = clock.monotonic()
      if (now - startedAt < QUIET_MS) return
      if (phase === phaseBefore && now - printedAt < SPARSE_PERIOD_MS) return
      const line = logLine()
      phaseBefore = phase
      printedAt = now
      if (line === printedLine) return
      printedLine = line
      output.write(`${line}\n`)
    },
    clear: () => undefined,
  }
}

/** "Loading" for "loading" and so on: phases are lower-case words. */
export function phaseTitle(phase: string): string {
  return phase.charAt(0).toUpperCase() + phase.slice(1)
}

/** Amounts are bytes, or, where they are small, nodes and other things that one counts. */
const COUNT_MAX = 10_000

function amountOf(done: number, total: number): string {
  return total <= COUNT_MAX ? `${done} of ${total}` : `${formatBytes(done)} of ${formatBytes(total)}`
}

export interface ProgressReporter {
  readonly report: NodeProgress
  /** Removes the line; what was printed sparsely stays. */
  clear(): void
}

export type ProgressDeps = LineDeps & { readonly paint: Paint }

export function createProgress(deps: ProgressDeps): ProgressReporter {
  const { paint } = deps
  const line = createProgressLine(deps)
  return {
    report: (phase, { done, total, text = '' }) => {
      const title = phaseTitle(phase)
      const hasTotal = done !== undefined && total !== undefined && total > 0
      line.show({
        phase,
        isLast: done !== undefined && done === total,
        line: () => {
          if (!hasTotal) return text === '' ? `${title} …` : `${title}: ${text}`
          return `${title} ${paint.cyan(renderBar(done / total, BAR_WIDTH))} ${amountOf(done, total)}`
        },
        logLine: () => {
          const amount = hasTotal ? ` (${amountOf(done, total)})` : ''
          return `${title}${text === '' ? '' : `: ${text}`}${amount}`
        },
      })
    },
    clear: () => line.clear(),
  }
}
