/** Messages of `/json-message/1.0`: the bodies, and the lengths in front of them. */
import assert from 'node:assert/strict'
import { concatBytes } from '#base'
import { LengthPrefixReader, withLengthPrefix } from '#wire'
import { decodeJsonRequest, encodeJson } from '../../../src/node/json/messages.ts'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { byInputs, type Fuzzer, type Outcome } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'
import { mutateValue, strangeValue } from '../lib/mutate-value.ts'
import { COMMANDS, requestOf } from './bodies.ts'

const BODY_BYTES_MAX = 4096

export const jsonMessages: Fuzzer = {
  name: 'json-messages',
  kind: 'pure',
  open: ({ corpus }) => byInputs({ make: chance => jsonBody(chance, corpus), check }),
}

/** A body that is right, or nearly, or not at all. */
export function jsonBody(chance: Chance, corpus: readonly Uint8Array[]): Uint8Array {
  if (corpus.length > 0 && chance.isOneIn(8)) return mutateBytes(chance, chance.pick(corpus), corpus)
  if (chance.isOneIn(20)) return jsonBomb(chance)
  const command = chance.pick(COMMANDS)
  const message = {
    id: chance.pick(['a', 'b', '1', 'x'.repeat(64)]),
    command: chance.pick([command.name, command.name, command.name, 'HELLO', 'AUTH', 'CANCEL', 'NOTHING']),
    params: requestOf(chance, command),
    ...(chance.isOneIn(3) ? { version: '1.0' } : {}),
    ...(chance.isOneIn(3) ? { deadline_ms: chance.between(1, 10_000) } : {}),
    ...(chance.isOneIn(5) ? { attachment: Buffer.from(chance.bytes(chance.size(200))).toString('base64') } : {}),
  }
  const text = JSON.stringify(chance.isOneIn(3) ? message : mutateValue(chance, message), withBytes) ?? 'null'
  const bytes = new TextEncoder().encode(text)
  return chance.isOneIn(4) ? mutateBytes(chance, bytes, corpus) : bytes
}

function jsonBomb(chance: Chance): Uint8Array {
  const count = chance.pick([10, 40, 1000, 60_000])
  const text = chance.pick([
    '['.repeat(count),
    `${'['.repeat(count)}${']'.repeat(count)}`,
    '{"a":'.repeat(count),
    `[${'0,'.repeat(count)}0]`,
    `"${'\\'.repeat(count)}"`,
    `"${'\\u0000'.repeat(count)}"`,
    `{"id":"a","command":"A","params":{"__proto__":{"x":${count}},"constructor":{"prototype":{}}}}`,
    `{"id":"a","command":"A","params":${'{"/":{"bytes":'.repeat(3)}"AA"${'}}'.repeat(3)}}`,
    JSON.stringify(strangeValue(chance), withBytes) ?? '',
    '9'.repeat(count),
    `1e${count}`,
  ])
  return new TextEncoder().encode(text)
}

function withBytes(_key: string, value: unknown): unknown {
  return value instanceof Uint8Array ? { '/': { bytes: Buffer.from(value).toString('base64') } } : value
}

function check(input: Uint8Array): Outcome {
  lengths(input)
  const request = decodeJsonRequest(input)
  assert.equal(Object.keys(Object.prototype).length, 0, 'a message has changed Object.prototype')
  if ('fault' in request) {
    assert.ok(request.fault.message.length <= 400)
    return request.fault.code
  }
  const { id = 'a', command, params } = request
  const written = encodeJson({ id, command, params }).subarray(4)
  const again = decodeJsonRequest(written)
  assert.ok('params' in again, 'what was read cannot be written and read again')
  assert.deepEqual(again.params, params)
  const known = COMMANDS.find(({ name }) => name === command)
  if (known === undefined) return 'another command'
  return `${command} ${known.request.safeParse(params).success ? 'good' : 'refused'}`
}

/** The same bytes as messages behind their lengths, and as a stream of their own. */
function lengths(input: Uint8Array): void {
  const chance = new Chance(seedOfBytes(input))
  const stream = concatBytes([withLengthPrefix(input), input])
  const whole = read([stream])
  const pieces = read(cut(chance, stream))
  // What comes in one piece with a length that is not taken is lost with it.
  const isFaulty = whole.at(-1)?.startsWith('{') === true
  assert.deepEqual(isFaulty ? pieces.slice(-1) : pieces, whole, 'the cuts of a stream changed what was read from it')
}

function read(pieces: readonly Uint8Array[]): string[] {
  const reader = new LengthPrefixReader(BODY_BYTES_MAX)
  const found: string[] = []
  let pushed = 0
  for (const piece of pieces) {
    pushed += piece.byteLength
    const bodies = reader.push(piece)
    if ('code' in bodies) return [...found, JSON.stringify(bodies)]
    found.push(...bodies.map(body => Buffer.from(body).toString('hex')))
    assert.ok(reader.pendingBytes <= pushed)
  }
  return found
}
