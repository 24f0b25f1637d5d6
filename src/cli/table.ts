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
}

export type TableOptions = { readonly width: number; readonly paint: Paint }

const GAP = 2

/** One line per row under a line of titles, each ended by a line end; columns shrink to fit the width where they may. */
export function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], options: TableOptions): string {
  const cells = rows.map(row => columns.map(column => column.cell(row)))
  const widths = columns.map((column, i) =>
    Math.max(widthOf(column.title), ...cells.map(line => widthOf(line[i] ?? ''))),
  )
  let excess = widths.reduce((sum, width) => sum + width + GAP, -GAP) - options.width
  for (const [i, column] of columns.entries()) {
    const width = widths[i] ?? 0
    if (excess <= 0 || column.widthMin === undefined) continue
    const shrunk = Math.max(Math.min(width, column.widthMin), width - excess)
    excess -= width - shrunk
    widths[i] = shrunk
  }
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
