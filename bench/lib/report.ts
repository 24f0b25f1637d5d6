/** What every benchmark prints at its end: figures, ratios to a reference of the same run, goals, and whether they are met. */

export type Goal = {
  /** The name of a figure or a ratio. */
  readonly name: string
  readonly atLeast?: number
  readonly atMost?: number
}

export type Result = {
  readonly bench: string
  readonly figures: Readonly<Record<string, number>>
  readonly ratios: Readonly<Record<string, number>>
  readonly goals: readonly Goal[]
  /** Lines for people, already rounded. */
  readonly notes?: readonly string[]
}

/** Prints the result: a table for people, and with `json` one line for programs as the last line of stdout. */
export function report(result: Result, options: { readonly json: boolean }): void {
  const values: Readonly<Record<string, number>> = { ...result.figures, ...result.ratios }
  const verdicts = result.goals.map(goal => ({ goal, met: isMet(goal, values[goal.name]) }))
  const say = options.json ? console.error : console.log
  for (const note of result.notes ?? []) say(note)
  for (const [name, value] of Object.entries(values)) say(`${name.padEnd(28)} ${round(value)}`)
  for (const { goal, met } of verdicts) say(`goal ${describe(goal)}: ${met ? 'met' : 'NOT met'}`)
  const met = verdicts.every(verdict => verdict.met)
  if (options.json) {
    const goals = Object.fromEntries(result.goals.map(g => [g.name, g.atLeast ?? g.atMost ?? 0]))
    const { bench, figures, ratios } = result
    console.log(JSON.stringify({ bench, figures: rounded(figures), ratios: rounded(ratios), goals, met }))
  }
}

function isMet(goal: Goal, value: number | undefined): boolean {
  if (value === undefined) return false
  return value >= (goal.atLeast ?? -Infinity) && value <= (goal.atMost ?? Infinity)
}

function describe(goal: Goal): string {
  return goal.atLeast === undefined ? `${goal.name} at most ${goal.atMost}` : `${goal.name} at least ${goal.atLeast}`
}

function rounded(values: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, round(value)]))
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}

/** The middle value; the mean of the two middle ones of an even count. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const high = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? Number.NaN) + high) / 2
}

/** The value that so many percent lie at or below; NaN for none. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * percent) / 100) - 1)] ?? Number.NaN
}
