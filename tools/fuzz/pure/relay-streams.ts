/** Streams of `/koinon/relay/1`: messages and bytes of circuits, in pieces. */
import assert from 'node:assert/strict'
import { concatBytes } from '#base'
import { encodeRelayMessage, relayDataHead, RelayFrameReader, type RelayMessage } from '#wire'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { byInputs, type Fuzzer } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'

export const relayStreams: Fuzzer = {
  name: 'relay-streams',
  kind: 'pure',
  open: ({ corpus }) =>
    byInputs({
      make: chance => {
        const bytes = concatBytes(relayFrames(chance))
        return chance.isOneIn(8) ? bytes : mutateBytes(chance, chance.pick([bytes, bytes, ...corpus]), corpus)
      },
      check,
    }),
}

function relayFrames(chance: Chance): Uint8Array[] {
  const frames: Uint8Array[] = []
  for (let left = 1 + chance.below(6); left > 0; left--) {
    if (chance.isOneIn(3)) frames.push(relayDataHead(chance.below(300)), chance.bytes(chance.below(300)))
    else frames.push(encodeRelayMessage(message(chance)))
  }
  return frames
}

function message(chance: Chance): RelayMessage {
  const session = chance.bytes(16)
  const limits = { bytes: chance.uint32(), durationMs: chance.below(1e6), bytesPerSecond: chance.below(1e6) }
  const addresses = Array.from({ length: chance.below(4) }, () => '/ip4/192.0.2.1/tcp/4001')
  return chance.pick<RelayMessage>([
    { type: 'reserve' },
    { type: 'reserved', session, expiresInMs: chance.uint32(), addresses, limits },
    { type: 'refused', reason: chance.pick(['full', 'rate', 'loop']), retryAfterMs: chance.uint32() },
    { type: 'keepalive', id: chance.uint32() },
    { type: 'connect', peer: 'x'.repeat(1 + chance.below(100)) },
    { type: 'connect', session },
    { type: 'incoming', peer: 'a', session, limits },
    { type: 'cut', reason: chance.pick(['bytes', 'duration', 'lost']) },
  ])
}

function check(input: Uint8Array): string {
  const whole = read([input])
  const pieces = read(cut(new Chance(seedOfBytes(input)), input))
  assert.deepEqual(pieces, whole, 'the cuts of a stream changed what was read from it')
  return whole.at(-1)?.split(' ')[0] ?? 'nothing'
}

/** What a stream says; the bytes of a circuit that come in several pieces are one. */
function read(pieces: readonly Uint8Array[]): string[] {
  const found: string[] = []
  const reader = new RelayFrameReader()
  let [data, fault] = ['', '']
  const flush = (): void => {
    if (data !== '') found.push(`data ${data}`)
    data = ''
  }
  for (const piece of pieces) {
    const frames = reader.push(piece)
    if ('code' in frames) {
      fault = `fault ${frames.problem}`
      break
    }
    assert.equal(fault, '', 'no way leads back from a fault')
    for (const frame of frames) {
      if (frame.kind === 'data') data += Buffer.from(frame.bytes).toString('hex')
      else {
        flush()
        found.push(`${frame.message.type} ${JSON.stringify(frame.message)}`)
      }
    }
  }
  // What lies in one piece with a fault is lost with it, so only the fault is the same however the stream is cut.
  if (fault !== '') return [fault]
  flush()
  return found
}
