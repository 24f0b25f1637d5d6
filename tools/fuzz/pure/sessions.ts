/**
 * Control frames of a session with somebody between the two sides, who changes, repeats, holds back and reorders them.
 * What was changed must be refused; what was not must still be taken, whatever came before it.
 */
import assert from 'node:assert/strict'
import { encodeFrame, type Frame, FrameReader } from '#wire'
import { createSessionPair } from '../../../test/support/session-pair.ts'
import type { Chance } from '../lib/chance.ts'
import type { Fuzzer } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'

const FRAMES_COUNT = 24
const TYPE = 9

export const sessions: Fuzzer = { name: 'sessions', kind: 'pure', open: () => ({ run }) }

async function run(chance: Chance): Promise<string> {
  const { dialler, listener, clock } = createSessionPair({
    seed: chance.uint32(),
    rekey: { control: { frames: chance.pick([2, 1000]) } },
  })
  const bodies = Array.from({ length: FRAMES_COUNT }, () => chance.bytes(chance.size(3000)))
  const sent: Uint8Array[] = []
  for (const body of bodies) sent.push(await dialler.sealControl(TYPE, body))
  const outcomes = new Set<string>()
  for (const [index, bytes] of sent.entries()) {
    for (let tries = chance.below(4); tries > 0; tries--) {
      const forged = forge(chance, bytes, sent.slice(0, index + 1))
      if (forged === undefined) continue
      const opened = listener.openControl(forged)
      assert.ok('reason' in opened, 'a frame was taken that nobody has sent')
      outcomes.add(opened.reason)
    }
    if (chance.isOneIn(6)) clock.advance(chance.below(20_000 / FRAMES_COUNT))
    const [genuine] = framesIn(bytes)
    assert.ok(genuine !== undefined)
    const opened = listener.openControl(genuine)
    assert.ok('body' in opened, `a genuine frame was refused: ${JSON.stringify(opened)}`)
    assert.deepEqual(new Uint8Array(opened.body), bodies[index])
    const again = listener.openControl(genuine)
    assert.ok('reason' in again, 'a frame was taken twice')
  }
  return [...outcomes].toSorted().join(' ')
}

/** A frame of somebody who sees all and has no key. Undefined: what came out is no frame, or one that was not changed. */
function forge(chance: Chance, bytes: Uint8Array, seen: readonly Uint8Array[]): Frame | undefined {
  const from = chance.isOneIn(3) ? chance.pick(seen) : bytes
  const [frame] = framesIn(from)
  if (frame === undefined) return undefined
  const other = framesIn(chance.pick(seen))[0] ?? frame
  const forged = chance.pick([
    () => mutateBytes(chance, from, seen),
    () => encodeFrame(frame.prefix, other.signature, frame.payload),
    () => encodeFrame(other.prefix, frame.signature, frame.payload),
    () => encodeFrame(frame.prefix, chance.bytes(64), mutateBytes(chance, frame.payload)),
    () => from.with(3, from[3] === undefined ? 0 : from[3] ^ (1 << chance.below(8))),
  ])()
  if (seen.some(known => Buffer.from(known).equals(forged))) return undefined
  const found = framesIn(forged)
  // A frame behind which other bytes follow is as it was.
  return found.find(({ prefix, signature, payload }) => {
    const whole = Buffer.from(encodeFrame(prefix, signature, payload))
    return !seen.some(known => whole.equals(known))
  })
}

function framesIn(bytes: Uint8Array): Frame[] {
  const found = [...new FrameReader(() => 2 ** 20).push(bytes.slice())]
  return found.flatMap(item => ('code' in item ? [] : [item]))
}
