/** CBOR that is small and asks for much, or that dag-cbor does not allow: what no encoder of ours would write. */
import { concatBytes } from '#base'
import type { Chance } from './chance.ts'

const HEADS = [0x00, 0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xe0] as const

/** @param bytesMax the longest that the message may be */
export function cborBomb(chance: Chance, bytesMax: number): Uint8Array {
  const levels = chance.pick([10, 500, 3000, bytesMax])
  return chance
    .pick([
      // Levels without end: lists, maps with one key, tags.
      () => new Uint8Array(Math.min(levels, bytesMax)).fill(0x81),
      () => repeated([0xa1, 0x61, 0x61], Math.min(levels, Math.floor(bytesMax / 3))),
      () => repeated([0xd8, 0x2a], Math.min(levels, Math.floor(bytesMax / 2))),
      // The same, closed, so that they are whole.
      () => concatBytes([new Uint8Array(Math.min(levels, bytesMax - 1)).fill(0x81), Uint8Array.of(0x80)]),
      () =>
        concatBytes([repeated([0xa1, 0x61, 0x61], Math.min(levels, Math.floor(bytesMax / 3) - 1)), Uint8Array.of(0)]),
      // Lengths that nothing follows.
      () => Uint8Array.of(chance.pick(HEADS) | 27, 0, chance.pick([0, 0xff]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
      () => Uint8Array.of(chance.pick(HEADS) | 26, 0xff, 0xff, 0xff, 0xff, ...chance.bytes(chance.below(20))),
      // Many values of one byte each.
      () =>
        concatBytes([
          listOf(bytesMax - 5),
          new Uint8Array(bytesMax - 5).fill(chance.pick([0, 0x80, 0xa0, 0x60, 0xf6])),
        ]),
      // A key many times, keys out of order, keys that are no text.
      () => Uint8Array.of(0xa2, 0x61, 0x61, 0, 0x61, 0x61, 1),
      () => Uint8Array.of(0xa1, chance.below(256), chance.below(256)),
      // Numbers in longer forms than they need, half floats, undefined, reserved values, indefinite lengths.
      () => Uint8Array.of(0xa1, 0x62, 0x69, 0x64, 0x1b, 0, 0, 0, 0, 0, 0, 0, 1),
      () =>
        Uint8Array.of(chance.pick([0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xff, 0x9f, 0xbf, 0x5f, 0x7f]), ...chance.bytes(9)),
      () => Uint8Array.of(0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
      () => Uint8Array.of(0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0),
      // Text that is no UTF-8.
      () => Uint8Array.of(0x63, 0xed, 0xa0, 0x80),
    ])()
    .subarray(0, bytesMax)
}

function listOf(count: number): Uint8Array {
  if (count < 0x1_0000) return Uint8Array.of(0x99, count >> 8, count & 0xff)
  return Uint8Array.of(0x9a, count >>> 24, (count >> 16) & 0xff, (count >> 8) & 0xff, count & 0xff)
}

function repeated(part: readonly number[], count: number): Uint8Array {
  const bytes = new Uint8Array(part.length * count)
  for (let i = 0; i < bytes.length; i++) bytes[i] = part[i % part.length] ?? 0
  return bytes
}
