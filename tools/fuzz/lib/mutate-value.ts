/**
 * Changes values as messages hold them: wrong types in any field, numbers at borders, fields that are missing, unknown,
 * or named as no field should be, lists too long, levels too deep.
 */
import type { Chance } from './chance.ts'

/** Names that mean something to JavaScript, and should not to a schema. */
const NAMES = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'then',
  'length',
  '',
  '/',
  'extra',
  '\u0000',
  'kind',
]

const TEXTS = [
  '',
  ' ',
  '0',
  'null',
  '-1',
  'NaN',
  '\u0000',
  '\ufffd',
  '\u202e\u2066',
  '😀',
  '../../../etc/passwd',
  '%s%n',
  '${7*7}',
  '{{7*7}}',
  'a'.repeat(40),
  'f'.repeat(64),
  'F'.repeat(64),
  '/ip4/127.0.0.1/tcp/1',
  '/dns4/localhost/tcp/65536',
  'é'.repeat(301),
]

/** A value of any type that both dag-cbor and JSON can hold, apart from bytes in JSON. */
export function strangeValue(chance: Chance, depth = 0): unknown {
  const make = chance.pick([
    () => null,
    () => chance.isOneIn(2),
    () => chance.border(),
    () => chance.border() + 0.5,
    () => chance.pick([1e300, -1e-300, 5e-324, -0]),
    () => chance.pick(TEXTS),
    () => chance.pick(['x', 'ä', '\\', '"', '\n']).repeat(chance.size(2000)),
    () => chance.bytes(chance.pick([0, 1, 15, 16, 17, 31, 32, 33, 64, 512, 513])),
    () => [],
    () => ({}),
    () => Array.from({ length: chance.size(2000) }, () => chance.below(300)),
    () => nested(chance, chance.pick([2, 8, 40, 200, 900])),
    () => (depth > 2 ? 0 : Array.from({ length: chance.between(1, 4) }, () => strangeValue(chance, depth + 1))),
    () => (depth > 2 ? 0 : withField({}, chance.pick(NAMES), strangeValue(chance, depth + 1))),
  ])
  return make()
}

/** Lists in lists, or maps in maps. */
function nested(chance: Chance, levels: number): unknown {
  let value: unknown = chance.below(10)
  const isList = chance.isOneIn(2)
  for (let level = 0; level < levels; level++) value = isList ? [value] : { a: value }
  return value
}

/** Changes one to three places of a copy. */
export function mutateValue(chance: Chance, value: unknown): unknown {
  let changed = value
  for (let left = chance.pick([1, 1, 1, 2, 3]); left > 0; left--) changed = mutateOnce(chance, changed)
  return changed
}

function mutateOnce(chance: Chance, value: unknown): unknown {
  const isLeaf = typeof value !== 'object' || value === null || value instanceof Uint8Array
  const size = isLeaf ? 0 : Object.keys(value).length
  // Further down most of the time: that is where most of the fields are.
  if (!isLeaf && size > 0 && !chance.isOneIn(4)) {
    const key = chance.pick(Object.keys(value))
    const inner = mutateOnce(chance, (value as Record<string, unknown>)[key])
    if (Array.isArray(value)) return value.map((item, index) => (String(index) === key ? inner : item))
    return withField(value, key, inner)
  }
  if (Array.isArray(value)) return mutateList(chance, value)
  if (!isLeaf) return mutateMap(chance, value as Record<string, unknown>)
  return mutateLeaf(chance, value)
}

function mutateLeaf(chance: Chance, value: unknown): unknown {
  if (chance.isOneIn(3)) return strangeValue(chance)
  if (typeof value === 'number') return chance.isOneIn(2) ? chance.border() : value + chance.pick([-1, 1, 0.5])
  if (typeof value === 'boolean') return !value
  if (typeof value === 'string') {
    const place = chance.below(value.length + 1)
    return chance.pick([
      () => value.slice(0, place),
      () => value + value,
      () => `${value.slice(0, place)}${chance.pick(TEXTS)}${value.slice(place)}`,
      () => value.toUpperCase(),
      () => `${value} `,
      () => value.repeat(chance.between(2, 300)).slice(0, 100_000),
    ])()
  }
  if (value instanceof Uint8Array) {
    return chance.pick([
      () => value.slice(0, chance.below(value.byteLength + 1)),
      () => chance.bytes(value.byteLength),
      () => chance.bytes(value.byteLength + 1),
      () => new Uint8Array(value.byteLength),
      () => [...value.subarray(0, 100)],
    ])()
  }
  return strangeValue(chance)
}

function mutateList(chance: Chance, list: readonly unknown[]): unknown {
  return chance.pick([
    () => [],
    () => list.slice(0, chance.below(list.length + 1)),
    () => [...list, ...list],
    () => Array.from({ length: chance.pick([16, 17, 50, 51, 64, 65, 300]) }, () => list[0] ?? strangeValue(chance)),
    () => [...list, strangeValue(chance)],
    () => Object.fromEntries(list.entries()),
    () => strangeValue(chance),
  ])()
}

function mutateMap(chance: Chance, map: Record<string, unknown>): unknown {
  const keys = Object.keys(map)
  const key = keys.length === 0 ? 'a' : chance.pick(keys)
  return chance.pick([
    () => Object.fromEntries(Object.entries(map).filter(([name]) => name !== key)),
    () => withField(map, chance.pick(NAMES), strangeValue(chance)),
    () => withField(map, key, map[chance.pick(keys.length === 0 ? ['a'] : keys)]),
    () => withField(map, key, strangeValue(chance)),
    () => Object.entries(map).flat(),
    () => ({ [key]: map }),
    () => strangeValue(chance),
  ])()
}

/** As a decoder makes it: `__proto__` becomes a field like any other. */
function withField(map: object, key: string, value: unknown): object {
  return Object.fromEntries([...Object.entries(map).filter(([name]) => name !== key), [key, value]])
}
