/**
 * Progress while a node starts: one line that redraws itself on a terminal; elsewhere a line per phase, and at most
 * one more every few seconds, so that a log stays readable.
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

/** "Loading" for "loading" and so on: phases are lower-case words. */
function phaseTitle(phase: string): string {
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

export type ProgressDeps = { readonly output: Output; readonly clock: Clock; readonly paint: Paint }

export function createProgress(deps: ProgressDeps): ProgressReporter {
  return deps.output.isTty ? createLiveProgress(deps) : createSparseProgress(deps)
}

function createLiveProgress({ output, clock, paint }: ProgressDeps): ProgressReporter {
  let drawnAt = -Infinity
  let drawnPhase = ''
  return {
    report: (phase, facts) => {
      const now = clock.monotonic()
      const isLast = facts.done !== undefined && facts.done === facts.total
      if (phase === drawnPhase && !isLast && now - drawnAt < REDRAW_PERIOD_MS) return
      drawnAt = now
      drawnPhase = phase
      const title = phaseTitle(phase)
      let line = (facts.text ?? '') === '' ? `${title} …` : `${title}: ${facts.text}`
      if (facts.done !== undefined && facts.total !== undefined && facts.total > 0) {
        const bar = paint.cyan(renderBar(facts.done / facts.total, BAR_WIDTH))
        line = `${title} ${bar} ${amountOf(facts.done, facts.total)}`
      }
      output.write(
        `\r\u001b[K${widthOf(line) < output.columns ? line : cut(stripVTControlCharacters(line), output.columns - 1)}`,
      )
    },
    clear: () => {
      if (drawnPhase !== '') output.write('\r\u001b[K')
      drawnPhase = ''
    },
  }
}

function createSparseProgress({ output, clock }: ProgressDeps): ProgressReporter {
  const startedAt = clock.monotonic()
  let printedAt = -Infinity
  let printedLine = ''
  let phaseBefore = ''
  return {
    report: (phase, facts) => {
      const now = clock.monotonic()
      if (now - startedAt < QUIET_MS) return
      if (phase === phaseBefore && now - printedAt < SPARSE_PERIOD_MS) return
      const hasTotal = facts.done !== undefined && facts.total !== undefined && facts.total > 0
      const amount = hasTotal ? ` (${amountOf(facts.done ?? 0, facts.total ?? 0)})` : ''
      const line = `${phaseTitle(phase)}${(facts.text ?? '') === '' ? '' : `: ${facts.text}`}${amount}`
      phaseBefore = phase
      printedAt = now
      if (line === printedLine) return
      printedLine = line
      output.write(`${line}\n`)
    },
    clear: () => undefined,
  }
}
