/** What every simulation gives, and how it is printed: a line a row for people, and one line of JSON at the end. */

export type SimOptions = {
  readonly nodes: number
  readonly seed: number
  /** Of the nodes, in an hour: one row for each. */
  readonly churnPercents: readonly number[]
  /** Each row as it is there. */
  readonly onRow?: (row: Readonly<Record<string, number>>) => void
}

export type SimResult = {
  readonly sim: string
  readonly seed: number
  readonly nodes: number
  readonly rows: readonly Readonly<Record<string, number>>[]
}

const COLUMN_WIDTH_MIN = 8

/** The names of the columns, as wide as the numbers below them. */
export function headLine(row: Readonly<Record<string, number>>): string {
  return `${Object.keys(row)
    .map(name => name.padStart(COLUMN_WIDTH_MIN))
    .join('  ')}\n`
}

export function rowLine(row: Readonly<Record<string, number>>): string {
  return `${Object.entries(row)
    .map(([name, value]) => String(value).padStart(Math.max(COLUMN_WIDTH_MIN, name.length)))
    .join('  ')}\n`
}

/** Four digits that count. */
export function rounded(value: number): number {
  return Number(value.toPrecision(4))
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
