/** Streams of the peer wire protocol, in pieces: what a peer sends after the greeting or the handshake; and greetings. */
import assert from 'node:assert/strict'
import { concatBytes } from '#base'
import { decodeGreeting, decodeRefusal, encodeGreeting, encodeRefusal } from '../../../src/swarm/wire/greeting.ts'
import { encodeMessage } from '../../../src/swarm/wire/messages.ts'
import { EXTENSION_IDS } from '../../../src/swarm/wire/protocol.ts'
import type { PeerMessage } from '../../../src/swarm/wire/types.ts'
import { Recorder } from '../../../test/support/wire-recorder.ts'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { byInputs, type Fuzzer } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'

const PLAIN = ['choke', 'unchoke', 'interested', 'not-interested', 'have-all', 'have-none', 'keep-alive'] as const

export const pieceStreams: Fuzzer = {
  name: 'piece-streams',
  kind: 'pure',
  open: ({ corpus }) =>
    byInputs({
      make: chance => {
        const bytes = chance.isOneIn(6) ? greeting(chance) : stream(chance)
        return chance.isOneIn(8) ? bytes : mutateBytes(chance, chance.pick([bytes, bytes, ...corpus]), corpus)
      },
      check,
    }),
}

function greeting(chance: Chance): Uint8Array {
  const bytes = chance.pick([
    encodeGreeting(chance.bytes(32)),
    encodeRefusal('busy'),
    encodeRefusal('version'),
    encodeRefusal('unknown-model'),
  ])
  return bytes.slice(4)
}

function stream(chance: Chance): Uint8Array {
  const messages = Array.from({ length: chance.between(1, 5) }, () => message(chance))
  return concatBytes(
    messages.flatMap(each => encodeMessage(each, { ids: EXTENSION_IDS, offered: ['metadata', 'core', 'votes'] })),
  )
}

function message(chance: Chance): PeerMessage {
  const span = { piece: chance.uint32(), offset: chance.uint32(), length: chance.uint32() }
  const length = 2 ** chance.below(4)
  const range = { root: chance.bytes(32), baseLayer: chance.below(12), index: length * chance.below(99), length }
  const proofLayers = chance.below(12)
  const chunk = { chunk: 0, totalBytes: 40, bytes: chance.bytes(40) } as const
  return chance.pick<PeerMessage>([
    { kind: chance.pick([...PLAIN]) },
    { kind: 'have', piece: chance.uint32() },
    { kind: 'bitfield', bytes: chance.bytes(chance.below(50)) },
    { kind: chance.pick(['request', 'cancel', 'reject']), ...span },
    { kind: 'piece', piece: 1, offset: 0, bytes: chance.bytes(1 + chance.below(400)) },
    { kind: chance.pick(['hash-request', 'hash-reject']), ...range, proofLayers },
    { kind: 'hashes', ...range, proofLayers: 0, hashes: chance.bytes(32 * length) },
    { kind: 'extended-handshake', metadataBytes: 200, requestsMax: chance.below(900), agent: 'koinon' },
    { kind: 'metadata', what: chance.pick(['request', 'reject']), chunk: chance.below(9) },
    { kind: 'metadata', what: 'data', ...chunk },
    { kind: 'core', document: chance.pick(['core', 'manifest']), what: 'data', ...chunk },
    { kind: 'votes-request', from: chance.below(99) },
    { kind: 'votes', from: 0, total: 9, records: [chance.bytes(30), chance.bytes(1)] },
  ])
}

function check(input: Uint8Array): string {
  decodeGreeting(input)
  decodeRefusal(input)
  const whole = read([input])
  const pieces = read(cut(new Chance(seedOfBytes(input)), input))
  assert.equal(pieces, whole, 'the cuts of a stream changed what was read from it')
  return whole.split('\n').at(-1)?.split(' ')[0] ?? 'nothing'
}

/** Every message on a line, then what was wrong. */
function read(pieces: readonly Uint8Array[]): string {
  const recorder = new Recorder()
  for (const piece of pieces) {
    recorder.push(piece)
    assert.ok(recorder.reader.heldBytes <= Recorder.heldBytesMax, 'the reader holds more than was allowed')
  }
  const lines = recorder.messages.map(found => JSON.stringify(found))
  const last = recorder.fault === undefined ? 'ok' : `${recorder.fault.code} ${recorder.fault.what}`
  return [...lines, last].join('\n')
}
