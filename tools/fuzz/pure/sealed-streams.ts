/**
 * Sealed streams whose bytes were changed on their way. A reader may get less than was sent, never anything else, and
 * must not take a stream for finished that was cut.
 */
import assert from 'node:assert/strict'
import { type ByteStream, codeOf, concatBytes, StreamError, systemClock } from '#base'
import { acceptSealedStream, openSealedStream } from '#protocol'
import { createSessionPair } from '../../../test/support/session-pair.ts'
import type { Chance } from '../lib/chance.ts'
import type { Fuzzer } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'

const PROTOCOL = '/koinon/stage/1'

export const sealedStreams: Fuzzer = { name: 'sealed-streams', kind: 'pure', open: () => ({ run }) }

async function run(chance: Chance): Promise<string> {
  const pair = createSessionPair({ seed: chance.uint32(), rekey: { channel: { frames: chance.pick([2, 1000]) } } })
  const frames: Uint8Array[] = []
  const writes = Array.from({ length: chance.below(6) }, () => chance.bytes(1 + chance.size(4000)))
  const out = recorder(frames)
  const stream = openSealedStream({ stream: out, session: pair.dialler, onFault: () => undefined })
  for (const write of writes) stream.send(write)
  await stream.close()
  const honest = concatBytes(frames)
  const arrived = chance.isOneIn(5) ? honest : changed(chance, frames, honest)
  const isWhole = Buffer.from(arrived).equals(honest)

  const faults: string[] = []
  const read: Uint8Array[] = []
  let ending = 'ended'
  try {
    const sealed = await acceptSealedStream(
      // Real time bounds the wait; the session's own clock stands still.
      { clock: systemClock },
      {
        stream: player(cut(chance, arrived)),
        session: pair.listener,
        onFault: fault => void faults.push(fault.reason),
      },
    )
    for await (const piece of sealed.received) read.push(piece.slice())
  } catch (error) {
    if (!(error instanceof StreamError)) throw error
    ending = `${codeOf(error)} ${faults[0] ?? ''}`
  }
  const sent = concatBytes(writes)
  const got = concatBytes(read)
  assert.ok(Buffer.from(sent.subarray(0, got.byteLength)).equals(got), 'a reader got what was not sent')
  // What comes behind the end of a stream is nobody's.
  const isExtended =
    arrived.byteLength > honest.byteLength && Buffer.from(arrived).subarray(0, honest.byteLength).equals(honest)
  if (isWhole) assert.equal(ending, 'ended')
  if (ending === 'ended') assert.ok(isWhole || isExtended, 'a stream that was cut or changed looked finished')
  if (ending === 'ended') assert.equal(got.byteLength, sent.byteLength)
  return ending
}

function changed(chance: Chance, frames: readonly Uint8Array[], honest: Uint8Array): Uint8Array {
  const i = chance.below(frames.length)
  return chance.pick([
    () => mutateBytes(chance, honest, frames),
    () => concatBytes(frames.filter((_, at) => at !== i)),
    () => concatBytes([...frames.slice(0, i), chance.pick(frames), ...frames.slice(i)]),
    () => concatBytes(frames.slice(0, i)),
    () => concatBytes([...frames].reverse()),
  ])()
}

function recorder(frames: Uint8Array[]): ByteStream {
  return { ...nothing(), send: bytes => frames.push(bytes.slice()) > 0 }
}

function player(pieces: readonly Uint8Array[]): ByteStream {
  async function* received(): AsyncGenerator<Uint8Array, void, undefined> {
    yield* pieces
  }
  return { ...nothing(), received: received() }
}

function nothing(): ByteStream {
  async function* received(): AsyncGenerator<Uint8Array, void, undefined> {}
  return {
    peer: 'peer',
    protocol: PROTOCOL,
    received: received(),
    send: () => true,
    sendParts: () => true,
    drained: () => Promise.resolve(),
    close: () => Promise.resolve(),
    abort: () => undefined,
  }
}
