/** Values that a zod schema takes, by chance: what mutations start from, so that they get past the first check. */
import { z } from 'zod'
import { toHex } from '#base'
import type { Chance } from './chance.ts'

/** What strings of our schemas look like. The first that a pattern takes is used. */
const TEXT_FORMS: readonly ((chance: Chance) => string)[] = [
  chance => chance.pick(['a', 'fox', 'Storyteller', 'default', 'koinon/0.2.0', 'ä\u0000']),
  chance => toHex(chance.bytes(32)),
  chance => toHex(chance.bytes(20)),
  chance => chance.pick(['PROTOCOL_BUSY', 'STAGE_BUSY', 'A']),
  () => '12D3KooWH8cdLxfJxjxEJF7Ee3waDRUs27yb6YzD6cq4n7gpeY3Z',
  chance => `/ip4/127.0.0.1/tcp/${chance.between(1, 65_535)}`,
  () => '',
]

/** What the schemas take that are functions: prompts, biases, stop texts. */
const CUSTOM_VALUES = ['Once upon a time', [1, 2, 3], ['a'], { '5': -100, '7': 100 }, { '10000000': 1 }] as const

const BYTE_COUNTS = [16, 32, 64, 0, 20, 8, 1, 12] as const

/** What a definition holds, of all kinds of schema together. */
type Definition = {
  readonly type: string
  readonly shape?: Readonly<Record<string, z.ZodType>>
  readonly element?: z.ZodType
  readonly innerType?: z.ZodType
  readonly in?: z.ZodType
  readonly options?: readonly z.ZodType[]
  readonly items?: readonly z.ZodType[]
  readonly values?: readonly unknown[]
  readonly entries?: Readonly<Record<string, unknown>>
  readonly valueType?: z.ZodType
}

/** Not always valid: refinements are not seen. `Symbol` never comes out, nor `undefined` but for optional fields. */
export function fromSchema(chance: Chance, schema: z.ZodType): unknown {
  const definition = schema.def as unknown as Definition
  const inner = definition.innerType ?? definition.in
  switch (definition.type) {
    case 'object':
      return fromShape(chance, definition.shape ?? {})
    case 'array':
      return Array.from({ length: chance.pick([0, 1, 1, 2, 3]) }, () =>
        fromSchema(chance, definition.element ?? z.null()),
      )
    case 'tuple':
      return (definition.items ?? []).map(item => fromSchema(chance, item))
    case 'string':
      return fromText(chance, schema)
    case 'number':
    case 'int':
      return fromNumber(chance, schema as z.ZodNumber)
    case 'boolean':
      return chance.isOneIn(2)
    case 'literal':
      return chance.pick(definition.values ?? [null])
    case 'enum':
      return chance.pick(Object.values(definition.entries ?? {}))
    case 'union':
      return fromSchema(chance, chance.pick(definition.options ?? [z.null()]))
    case 'optional':
    case 'default':
    case 'prefault':
    case 'nullable':
      return inner === undefined || chance.isOneIn(3) ? undefined : fromSchema(chance, inner)
    case 'custom':
      return fromCustom(chance, schema)
    case 'record':
      return { [chance.pick(['a', 'b', '1'])]: fromSchema(chance, definition.valueType ?? z.null()) }
    case 'null':
      return null
    default:
      return inner === undefined ? chance.pick([null, 1, 'a', {}]) : fromSchema(chance, inner)
  }
}

function fromShape(chance: Chance, shape: Readonly<Record<string, z.ZodType>>): object {
  const entries = Object.entries(shape).map(([key, field]) => [key, fromSchema(chance, field)] as const)
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined))
}

function fromText(chance: Chance, schema: z.ZodType): string {
  const form = TEXT_FORMS[(chance.below(2) * chance.below(TEXT_FORMS.length)) % TEXT_FORMS.length] ?? TEXT_FORMS[0]
  const first = form?.(chance) ?? ''
  if (schema.safeParse(first).success) return first
  return TEXT_FORMS.map(make => make(chance)).find(text => schema.safeParse(text).success) ?? first
}

function fromNumber(chance: Chance, schema: z.ZodNumber): number {
  const least = Math.max(schema.minValue ?? -1e6, -Number.MAX_SAFE_INTEGER)
  const most = Math.min(schema.maxValue ?? 1e6, Number.MAX_SAFE_INTEGER)
  const isWhole = schema.isInt || schema.format?.includes('int') === true
  const number = chance.pick([
    least,
    most,
    least + (most - least) / 2,
    Math.min(most, Math.max(least, chance.below(20))),
  ])
  const fitting = isWhole ? Math.floor(number) : number
  // A bound that is not itself taken.
  return schema.safeParse(fitting).success ? fitting : Math.min(most, Math.max(least, 1))
}

/** Bytes of some length are what most of these are; the others are tried out. */
function fromCustom(chance: Chance, schema: z.ZodType): unknown {
  const count = BYTE_COUNTS.find(bytes => schema.safeParse(new Uint8Array(bytes)).success)
  if (count !== undefined) return chance.bytes(count)
  const fitting = CUSTOM_VALUES.filter(value => schema.safeParse(value).success)
  return fitting.length === 0 ? null : chance.pick(fitting)
}
