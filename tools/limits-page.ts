/**
 * Writes `docs/reference/limits.md` from the code: every constant of every `src/MODULE/limits.ts` (and of those of its
 * parts), with its value and the comment above it; and the table of settings in `docs/reference/transports.md`. `npm run
 * docs` writes both; a test of each fails where it is out of date.
 */
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { SETTINGS } from '../src/net/settings.ts'

const HEADER = `# Limits

Everything that grows is bounded. This page is made from the code (\`npm run docs\`), so it says what is in force. What is
a setting instead of a limit says so.
`

/** The whole page as text. */
export async function limitsPage(): Promise<string> {
  const files = globSync('src/*/{,*/}limits.ts').map(path => path.replaceAll('\\', '/'))
  const sections = await Promise.all(files.sort().map(section))
  return `${HEADER}\n${sections.join('\n')}`
}

async function section(path: string): Promise<string> {
  const values = (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>
  const comments = commentsIn(readFileSync(path, 'utf8'))
  const rows = Object.entries(values)
    .filter((entry): entry is [string, number] => typeof entry[1] === 'number')
    .map(([name, value]) => `| \`${name}\` | ${format(name, value)} | ${comments.get(name) ?? ''} |`)
  return `## ${path.split('/').slice(1, -1).join('/')}\n\n| limit | value | what it bounds |\n|---|---|---|\n${rows.join('\n')}\n`
}

function commentsIn(text: string): Map<string, string> {
  const pattern = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*export const ([A-Z][A-Z0-9_]*)\b/g
  const tidyLine = (line: string): string => line.replace(/^\s*\*?\s?/, '').trim()
  return new Map(
    [...text.matchAll(pattern)].map(match => {
      const comment = (match[1] ?? '').split('\n').map(tidyLine).filter(Boolean).join(' ')
      return [match[2] ?? '', comment.replaceAll('|', '\\|')]
    }),
  )
}

function format(name: string, value: number): string {
  if (/_MS(?:_|$)/.test(name)) return value >= 1000 ? `${value / 1000} s` : `${value} ms`
  if (/BYTES/.test(name)) {
    for (const [unit, size] of [
      ['GiB', 2 ** 30],
      ['MiB', 2 ** 20],
      ['KiB', 2 ** 10],
    ] as const) {
      if (value >= size && value % (size / 4) === 0) return `${value / size} ${unit}`
    }
    return `${value} bytes`
  }
  return value >= 10_000 ? value.toLocaleString('en-US').replaceAll(',', ' ') : String(value)
}

/** The page of transports with its table of settings as they are in `src/net/settings.ts`. */
export function withSettings(page: string): string {
  const rows = Object.entries(SETTINGS).map(([name, spec]) => {
    const bounds =
      'min' in spec ? `${spec.min} to ${spec.max}` : 'choices' in spec ? spec.choices.join(', ') : 'true, false'
    return `| \`${name}\` | ${spec.default} | ${bounds} | ${spec.why} |\n`
  })
  return page.replace(/(\| setting \| default \| bounds \| why \|\n\|[-|]+\|\n)(?:\|.*\n)*/, `$1${rows.join('')}`)
}

if (import.meta.main) {
  writeFileSync('docs/reference/limits.md', await limitsPage())
  const transports = 'docs/reference/transports.md'
  writeFileSync(transports, withSettings(readFileSync(transports, 'utf8')))
}
