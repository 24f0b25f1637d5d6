/**
 * Reads the ProVerif models of `formal/`: which variants there are, what is expected of each, and its text. One file holds
 * all variants of a model, so that they cannot drift apart; its first comment lists them.
 *
 *     @variant NAME FLAG...       one verification, with these flags set
 *     @expect QUERY true|false    what ProVerif must say of a query; queries that nothing is expected of are cut out
 *     (* @query NAME *)           stands before each query, which goes on to the line that ends with a full stop
 *     #if FLAG, #if !FLAG         what is kept where the flag is set, or not; may be nested
 *     #if query NAME              the same where the variant expects something of the query
 *     #else, #endif
 */
import { createHash } from 'node:crypto'

export type Expectation = { readonly query: string; readonly isTrue: boolean }

export type Variant = {
  /** Name of the model's file without its ending. */
  readonly model: string
  readonly name: string
  readonly flags: readonly string[]
  /** In the order of the queries in the text, which is the order of ProVerif's answers. */
  readonly expected: readonly Expectation[]
  /** What ProVerif gets. */
  readonly text: string
  /** SHA-256 of `text`, hexadecimal. The first comment is no part of it: explaining more makes no record stale. */
  readonly digest: string
}

const HEADER_END = '\n*)\n'
const DIRECTIVE = /^#(if|else|endif)\b\s*(.*)$/
const QUERY_MARK = /^\(\* @query (\S+) \*\)$/

/** All variants of a model. @throws Error where the header or a directive is wrong: a typing error must not pass for a check */
export function variantsOf(model: string, text: string): Variant[] {
  const headerEnd = text.indexOf(HEADER_END)
  if (headerEnd < 0) throw new Error(`${model}: no first comment that ends with *) on a line of its own`)
  const body = text.slice(headerEnd + HEADER_END.length)
  const queries = [...body.matchAll(new RegExp(QUERY_MARK, 'gm'))].map(match => match[1] ?? '')
  const conditions = [...body.matchAll(/^#if\s+(.*)$/gm)].map(match => (match[1] ?? '').trim().replace(/^!/, ''))
  const variants = headerOf(model, text.slice(0, headerEnd)).map(({ name, flags, expected }) => {
    const where = `${model}, variant ${name}`
    for (const flag of flags) {
      if (!conditions.includes(flag)) throw new Error(`${where}: no #if asks for ${flag}`)
    }
    const wanted = [...expected.keys()]
    const missing = wanted.find(query => !queries.includes(query))
    if (missing !== undefined) throw new Error(`${where}: there is no query ${missing}`)
    const cutText = cut(body, { flags, queries: wanted })
    return {
      model,
      name,
      flags,
      expected: queries.flatMap(query => {
        const isTrue = expected.get(query)
        return isTrue === undefined ? [] : [{ query, isTrue }]
      }),
      text: cutText,
      digest: createHash('sha256').update(cutText).digest('hex'),
    }
  })
  const doubled = variants.find(({ name }, index) => variants.findIndex(other => other.name === name) !== index)
  if (doubled !== undefined) throw new Error(`${model}: variant ${doubled.name} is there twice`)
  return variants
}

type HeaderEntry = { name: string; flags: readonly string[]; expected: Map<string, boolean> }

function headerOf(model: string, header: string): HeaderEntry[] {
  const entries: HeaderEntry[] = []
  for (const line of header.split('\n')) {
    const [tag, first, ...rest] = line.trim().split(/\s+/)
    if (tag === '@variant') {
      if (first === undefined) throw new Error(`${model}: a variant without a name`)
      entries.push({ name: first, flags: rest, expected: new Map() })
    } else if (tag === '@expect') {
      const entry = entries.at(-1)
      const [value, ...more] = rest
      if (entry === undefined || first === undefined || (value !== 'true' && value !== 'false') || more.length > 0) {
        throw new Error(`${model}: not an expectation: ${line.trim()}`)
      }
      if (entry.expected.has(first)) throw new Error(`${model}, variant ${entry.name}: ${first} is expected twice`)
      entry.expected.set(first, value === 'true')
    }
  }
  if (entries.length === 0) throw new Error(`${model}: no variants`)
  const empty = entries.find(({ expected }) => expected.size === 0)
  if (empty !== undefined) throw new Error(`${model}, variant ${empty.name}: nothing is expected`)
  return entries
}

type Choice = { readonly flags: readonly string[]; readonly queries: readonly string[] }

/** The text with only these flags set and only these queries. */
export function cut(text: string, { flags, queries }: Choice): string {
  const kept: string[] = []
  const stack: { isKept: boolean; hasElse: boolean }[] = []
  let isInCutQuery = false
  for (const line of text.split('\n')) {
    const directive = DIRECTIVE.exec(line)
    if (directive !== null) {
      const [, word, condition = ''] = directive
      if (word === 'if') stack.push({ isKept: holds(condition.trim(), { flags, queries }), hasElse: false })
      else leave(stack, word === 'else')
      continue
    }
    if (!stack.every(({ isKept }) => isKept)) continue
    const query = QUERY_MARK.exec(line)?.[1]
    if (query !== undefined) isInCutQuery = !queries.includes(query)
    if (!isInCutQuery) kept.push(line)
    else if (query === undefined && line.trimEnd().endsWith('.')) isInCutQuery = false
  }
  if (stack.length > 0) throw new Error('an #if without its #endif')
  return kept.join('\n')
}

function leave(stack: { isKept: boolean; hasElse: boolean }[], isElse: boolean): void {
  const top = isElse ? stack.at(-1) : stack.pop()
  if (top === undefined) throw new Error('an #else or #endif without its #if')
  if (!isElse) return
  if (top.hasElse) throw new Error('an #if with two #else')
  top.isKept = !top.isKept
  top.hasElse = true
}

function holds(condition: string, { flags, queries }: Choice): boolean {
  const asked = condition.replace(/^!/, '')
  const query = /^query (\S+)$/.exec(asked)?.[1]
  if (query === undefined && !/^[A-Z][A-Z0-9_]*$/.test(asked)) throw new Error(`not a condition: #if ${condition}`)
  const isSet = query === undefined ? flags.includes(asked) : queries.includes(query)
  return isSet !== condition.startsWith('!')
}
