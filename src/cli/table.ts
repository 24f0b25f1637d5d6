/** Tables and lists of facts for a terminal. Pure: values in, text out. */
import { stripVTControlCharacters } from 'node:util'
import type { Output, Paint } from './terminal.ts'
import { cut, widthOf } from './text-width.ts'

export type Column<Row> = {
  readonly title: string
  readonly cell: (row: Row) => string
  readonly align?: 'left' | 'right'
  /** May be cut down to this many columns to fit the width; others never are. */
  readonly widthMin?: number
  /** May be left out where even so not all fit: the highest number first. */
  readonly optional?: number
}

export type TableOptions = { readonly width: number; readonly paint: Paint }

const GAP = 2

/**
 * One line per row under a line of titles, each ended by a line end; columns shrink to fit the width where they may, and
 * are left out where that is not enough.
 */
export function renderTable<Row>(rows: readonly Row[], all: readonly Column<Row>[], options: TableOptions): string {
  const columns = fittingColumns(rows, all, options.width)
  const cells = rows.map(row => columns.map(column => column.cell(row)))
  const widths = columns.map((column, i) =>
    Math.max(widthOf(column.title), ...cells.map(line => widthOf(line[i] ?? ''))),
  )
  shrink(widths, columns, options.width)
  const line = (texts: readonly string[]): string =>
    columns
      .map((column, i) => {
        const width = widths[i] ?? 0
        const text = texts[i] ?? ''
        const fitted = widthOf(text) > width ? cut(stripVTControlCharacters(text), width) : text
        const padding = ' '.repeat(width - widthOf(fitted))
        return column.align === 'right' ? padding + fitted : fitted + padding
      })
      .join(' '.repeat(GAP))
      .trimEnd()
  const head = options.paint.dim(line(columns.map(column => column.title)))
  return [head, ...cells.map(line)].map(text => `${text}\n`).join('')
}

/** Takes columns off those that may lose some, the widest first, until the line fits or none is left to take from. */
function shrink<Row>(widths: number[], columns: readonly Column<Row>[], width: number): void {
  let excess = widths.reduce((sum, one) => sum + one + GAP, -GAP) - width
  for (; excess > 0; excess--) {
    const shrinkable = columns.flatMap(({ widthMin }, i) =>
      widthMin !== undefined && (widths[i] ?? 0) > widthMin ? [i] : [],
    )
    if (shrinkable.length === 0) return
    const widest = shrinkable.reduce((best, i) => ((widths[i] ?? 0) > (widths[best] ?? 0) ? i : best))
    widths[widest] = (widths[widest] ?? 0) - 1
  }
}

/** Without the optional columns that have no room, when the others are as narrow as they may be. */
function fittingColumns<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  width: number,
): readonly Column<Row>[] {
  const least = columns.map(({ title, cell, widthMin = Infinity }) =>
    Math.min(Math.max(widthOf(title), ...rows.map(row => widthOf(cell(row)))), Math.max(widthMin, widthOf(title))),
  )
  const kept = new Set(columns.keys())
  const byOption = [...columns.entries()].sort(([, a], [, b]) => (b.optional ?? 0) - (a.optional ?? 0))
  for (const [i, { optional }] of byOption) {
    const needed = [...kept].reduce((sum, index) => sum + (least[index] ?? 0) + GAP, -GAP)
    if (optional === undefined || needed <= width) break
    kept.delete(i)
  }
  return columns.filter((_, i) => kept.has(i))
}

/** "  Name   value" lines, names aligned; a value of several lines is indented under itself. */
export function renderFacts(facts: readonly (readonly [name: string, value: string])[], paint: Paint): string {
  const width = Math.max(0, ...facts.map(([name]) => widthOf(name)))
  const indent = ' '.repeat(2 + width + GAP)
  return facts
    .map(([name, value]) => {
      const padding = ' '.repeat(width - widthOf(name) + GAP)
      return `  ${paint.dim(name)}${padding}${value.split('\n').join(`\n${indent}`)}\n`
    })
    .join('')
}

/** A sentence as an output shows it: wrapped on a terminal, in one line elsewhere. */
export function sentenceFor(output: Pick<Output, 'isTty' | 'columns'>, text: string): string {
  return output.isTty ? wrap(text, output.columns) : text
}

/** Breaks plain text at spaces so that no line is longer than `width`; a longer word stays whole. */
export function wrap(text: string, width: number): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  return [...lines, line].join('\n')
}
