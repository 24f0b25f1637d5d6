/**
 * Checks of the code base itself that no off-the-shelf linter states as plainly: layer order, one public face per
 * module, packages with one owner, no dead files, no hidden clocks or dice. Each is a pure function of the files' text,
 * so each has a test; `tidy.test.ts` runs them over the project.
 */
import { ENTRY_POINTS, LAYERS, OWNED_PACKAGES, PORTABLE } from './layers.ts'

export type SourceFile = { readonly path: string; readonly text: string }
export type Finding = { readonly path: string; readonly line: number; readonly message: string }

const IMPORT =
  /^(?:import|export)\b[^'"`]*?from\s+['"]([^'"]+)['"]|^import\s+['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]|new URL\(\s*['"](\.[^'"]+\.ts)['"]\s*,\s*import\.meta\.url/gm

type Ban = readonly [pattern: RegExp, message: string]

/** Refused in `src/` outside `base/`, tests aside. */
const BANNED_IN_SOURCE: readonly Ban[] = [
  [
    /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(/,
    'read time from the Clock you were given, so a test can own it',
  ],
  [/\bMath\.random\(/, 'draw from the Random you were given, so a seed replays the run'],
  [/\bsetInterval\(/, 'use repeat() from #base: it stops with its AbortSignal'],
  // A socket's own limit on silence is not a timer of ours.
  [/(?<!socket\.)\bsetTimeout\(|node:timers/, 'use Clock.after() or sleep() from #base, so a test can own the timer'],
]

/** Refused in tests too. */
const BANNED_EVERYWHERE: readonly Ban[] = [
  [/\b(?:FIXME|XXX|TODO)\b/, 'leftover marker: resolve it before merging'],
  [/^export \{[^}]*\bas default\b|^export default\b/, 'no default exports'],
  [/\b(?:test|describe|it)\.only\(/, 'a test that hides the others'],
  [/node:timers\/promises/, 'no sleeps: wait for an event, or drive a ManualClock'],
]

/** The patterns of this file and its test name what they look for. */
const SELF = /^tools\/tidy(?:\.test)?\.ts$/

/** Everything that is wrong with these files. */
export function tidy(files: readonly SourceFile[]): Finding[] {
  const findings: Finding[] = []
  const imported = new Set<string>()
  for (const file of files) {
    for (const edge of importsOf(file)) {
      // A test does not keep the file beside it alive; what is under test/ is there for tests.
      const isBeside = isTest(file.path) && file.path.startsWith('src/') && !edge.target.startsWith('test/')
      if (!isBeside) imported.add(edge.target)
      const message = edgeFault(file, edge)
      if (message !== undefined) findings.push({ path: file.path, line: edge.line, message })
    }
    findings.push(...bannedIn(file))
  }
  for (const file of files) {
    if (!isEntryPoint(file.path) && !imported.has(file.path)) {
      findings.push({ path: file.path, line: 1, message: 'dead file: nothing imports it' })
    }
  }
  return findings
}

type Edge = { readonly specifier: string; readonly target: string; readonly line: number }

function edgeFault(file: SourceFile, edge: Edge): string | undefined {
  const from = moduleOf(file.path)
  if (from === undefined) return undefined
  if (edge.specifier.startsWith('node:') && PORTABLE.has(from) && !isTest(file.path)) {
    return `${from} must also run in a browser: no ${edge.specifier}`
  }
  return ownerFault(from, file.path, edge.specifier) ?? layerFault(from, edge)
}

function ownerFault(from: string, path: string, specifier: string): string | undefined {
  if (isTest(path)) return undefined
  for (const [pattern, ...owners] of OWNED_PACKAGES) {
    if (pattern.test(specifier) && !owners.includes(from)) return `only ${owners.join(' and ')} imports ${specifier}`
  }
  return undefined
}

function layerFault(from: string, edge: Edge): string | undefined {
  const to = moduleOf(edge.target)
  if (to === undefined || to === from) return undefined
  const fromRank = LAYERS[from]
  const toRank = LAYERS[to]
  if (fromRank === undefined || toRank === undefined) return `no layer given for ${fromRank === undefined ? from : to}`
  if (!edge.specifier.startsWith('#')) return `import ${to} through #${to}, not its inside (${edge.specifier})`
  if (toRank >= fromRank) return `${from} (layer ${fromRank}) may not import ${to} (layer ${toRank})`
  return undefined
}

function importsOf(file: SourceFile): Edge[] {
  const edges: Edge[] = []
  for (const match of file.text.matchAll(IMPORT)) {
    const specifier = match[1] ?? match[2] ?? match[3] ?? match[4] ?? ''
    edges.push({ specifier, target: resolve(file.path, specifier), line: lineOf(file.text, match.index) })
  }
  return edges
}

function resolve(fromPath: string, specifier: string): string {
  if (specifier.startsWith('#')) return `src/${specifier.slice(1)}/index.ts`
  if (!specifier.startsWith('.')) return specifier
  return new URL(specifier, `file:///${fromPath}`).pathname.slice(1)
}

function bannedIn(file: SourceFile): Finding[] {
  if (SELF.test(file.path)) return []
  const isSource = file.path.startsWith('src/') && !file.path.startsWith('src/base/') && !isTest(file.path)
  const bans = isSource ? [...BANNED_EVERYWHERE, ...BANNED_IN_SOURCE] : BANNED_EVERYWHERE
  const findings: Finding[] = []
  for (const [index, line] of file.text.split('\n').entries()) {
    for (const [pattern, message] of bans) {
      if (pattern.test(line)) findings.push({ path: file.path, line: index + 1, message })
    }
  }
  return findings
}

function moduleOf(path: string): string | undefined {
  return /^src\/([^/]+)\//.exec(path)?.[1]
}

function isTest(path: string): boolean {
  return path.endsWith('.test.ts') || path.startsWith('test/')
}

function isEntryPoint(path: string): boolean {
  // `npm test` does not run what ends with `.lab.ts` or `.soak.ts`; `npm run test:lab` and `test:soak` do.
  return /\.(?:test|lab|soak)\.ts$/.test(path) || ENTRY_POINTS.has(path) || /^(?:tools|bench)\/[^/]+\.ts$/.test(path)
}

function lineOf(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length
}

/** Error codes in a module's `errors.ts`: every quoted literal in capitals. */
export function errorCodesIn(file: SourceFile): string[] {
  const code = /\bcode:\s*((?:\|?\s*'[A-Z][A-Z0-9_]+'\s*)+)/g
  return [...file.text.matchAll(code)].flatMap(match =>
    [...(match[1] ?? '').matchAll(/'([A-Z0-9_]+)'/g)].map(literal => literal[1] ?? ''),
  )
}

/** The first column of every table row in a Markdown file that holds one code in backticks. */
export function documentedNames(markdown: string): string[] {
  return [...markdown.matchAll(/^\|\s*`([A-Z][A-Z0-9_]+)`\s*\|/gm)].map(match => match[1] ?? '')
}
