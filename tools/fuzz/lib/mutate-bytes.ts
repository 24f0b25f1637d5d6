/** Changes bytes as accidents and attackers do: flips, cuts, repeats, splices, and numbers at their borders. */
import { concatBytes } from '#base'
import type { Chance } from './chance.ts'

type Change = (chance: Chance, bytes: Uint8Array, others: readonly Uint8Array[]) => Uint8Array

const CHANGES: readonly Change[] = [
  // One bit, several bytes, one byte at a border.
  (chance, bytes) => at(chance, bytes, (copy, i) => (copy[i] = (copy[i] ?? 0) ^ (1 << chance.below(8)))),
  (chance, bytes) =>
    at(chance, bytes, (copy, i) => copy.set(chance.bytes(Math.min(chance.between(1, 8), copy.length - i)), i)),
  (chance, bytes) => at(chance, bytes, (copy, i) => (copy[i] = chance.pick([0, 1, 0x7f, 0x80, 0xff]))),
  // A number in any place and form.
  (chance, bytes) =>
    at(chance, bytes, (copy, i) => {
      const view = new DataView(copy.buffer)
      const number = chance.border()
      const isLittle = chance.isOneIn(2)
      if (chance.isOneIn(3) && i + 8 <= copy.length) view.setBigInt64(i, BigInt(number), isLittle)
      else if (i + 4 <= copy.length) view.setInt32(i, number, isLittle)
      else copy[i] = number & 0xff
    }),
  // Lengths change.
  (chance, bytes) => bytes.slice(0, chance.below(bytes.byteLength + 1)),
  (chance, bytes) => bytes.slice(chance.size(bytes.byteLength)),
  (chance, bytes) => concatBytes([bytes, chance.bytes(chance.size(300))]),
  (chance, bytes) => {
    const [from, to] = range(chance, bytes)
    return concatBytes([bytes.subarray(0, from), bytes.subarray(to)])
  },
  (chance, bytes) => {
    const [from, to] = range(chance, bytes)
    const part = bytes.subarray(from, to)
    const again = Array.from({ length: chance.between(1, 4) }, () => part)
    return concatBytes([bytes.subarray(0, to), ...again, bytes.subarray(to)])
  },
  // Parts of another, in the place of or between parts of this one.
  (chance, bytes, others) => {
    const other = others.length === 0 ? chance.bytes(16) : chance.pick(others)
    const [from, to] = range(chance, other)
    const border = chance.below(bytes.byteLength + 1)
    const rest = chance.isOneIn(2) ? border : Math.min(bytes.byteLength, border + to - from)
    return concatBytes([bytes.subarray(0, border), other.subarray(from, to), bytes.subarray(rest)])
  },
  // Zeros and ones over a stretch.
  (chance, bytes) => {
    const [from, to] = range(chance, bytes)
    return bytes.slice().fill(chance.pick([0, 0xff]), from, to)
  },
]

/** @param others whose parts may be mixed in. @returns always a copy */
export function mutateBytes(chance: Chance, bytes: Uint8Array, others: readonly Uint8Array[] = []): Uint8Array {
  let changed: Uint8Array = bytes.slice()
  for (let left = chance.pick([1, 1, 1, 2, 3, 6]); left > 0; left--) {
    changed = chance.pick(CHANGES)(chance, changed, others)
  }
  return changed
}

/** The same bytes in pieces as a network might bring them. */
export function cut(chance: Chance, bytes: Uint8Array): Uint8Array[] {
  const most = chance.pick([1, 3, 50, 2000, 1e6])
  const pieces: Uint8Array[] = []
  for (let offset = 0; offset < bytes.byteLength; ) {
    const size = chance.between(1, Math.max(most, Math.ceil(bytes.byteLength / 200)))
    pieces.push(bytes.subarray(offset, offset + size))
    offset += size
  }
  return pieces
}

function at(chance: Chance, bytes: Uint8Array, change: (copy: Uint8Array, index: number) => void): Uint8Array {
  if (bytes.byteLength === 0) return chance.bytes(1)
  const copy = bytes.slice()
  change(copy, chance.below(copy.byteLength))
  return copy
}

function range(chance: Chance, bytes: Uint8Array): [from: number, to: number] {
  const from = chance.below(bytes.byteLength + 1)
  return [from, Math.min(bytes.byteLength, from + chance.size(bytes.byteLength))]
}
