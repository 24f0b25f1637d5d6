import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom, systemRandom } from '#base'
import { TextStream } from './text-stream.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

/** Pushes pieces and ends. @returns each text that came out, the end's last */
function run(
  stops: readonly string[],
  pieces: readonly (string | Uint8Array)[],
): { texts: string[]; stopped: boolean } {
  const stream = new TextStream(stops)
  const outcomes = pieces.map(piece => stream.push(typeof piece === 'string' ? utf8(piece) : piece))
  const end = stream.end()
  return { texts: [...outcomes, end].map(({ text }) => text), stopped: end.stopped }
}

test('a character that is spread over tokens comes out whole', () => {
  const [a, b, c, d] = [...utf8('🦊')].map(byte => Uint8Array.of(byte))
  assert.ok(a && b && c && d)
  assert.deepEqual(run([], ['x', a, b, c, d, 'y']).texts, ['x', '', '', '', '🦊', 'y', ''])
})

test('bytes that are no UTF-8 become U+FFFD and nothing waits for them', () => {
  assert.deepEqual(run([], [Uint8Array.of(0xff), 'a']).texts, ['\ufffd', 'a', ''])
  assert.deepEqual(run([], [Uint8Array.of(0xc3), 'a']).texts, ['', '\ufffda', ''])
  assert.deepEqual(run([], ['a', Uint8Array.of(0xf0, 0x9f)]).texts, ['a', '', '\ufffd'], 'cut off at the end')
})

test('a byte order mark is text like any other', () => {
  assert.deepEqual(run([], ['\ufeffa']).texts, ['\ufeffa', ''])
})

test('text before a stop text is released and nothing after it', () => {
  const { texts, stopped } = run(['END'], ['one END two', ' three'])
  assert.deepEqual(texts, ['one ', '', ''])
  assert.equal(stopped, true)
})

test('a stop text that is spread over tokens is found', () => {
  const { texts, stopped } = run(['</s>'], ['hi<', '/', 's', '>there'])
  assert.deepEqual(texts, ['hi', '', '', '', ''])
  assert.equal(stopped, true)
})

test('what only looked like a stop text is released', () => {
  const { texts, stopped } = run(['</s>'], ['a<', '/', 'b>', '<'])
  assert.deepEqual(texts, ['a', '', '</b>', '', '<'])
  assert.equal(stopped, false)
})

test('no more is held back than could become a stop text', () => {
  assert.deepEqual(run(['aab'], ['aaaa', 'b']).texts, ['aa', '', ''])
  assert.deepEqual(run(['abc', 'b'], ['xa', 'z']).texts, ['x', 'az', ''])
})

test('the earliest of several stop texts counts', () => {
  assert.deepEqual(run(['three', 'two'], ['one two three']).texts, ['one ', ''])
})

test('a stop text of several bytes per character is found across tokens', () => {
  const bytes = utf8('ok→end')
  const { texts, stopped } = run(['→'], [bytes.subarray(0, 3), bytes.subarray(3, 4), bytes.subarray(4)])
  assert.equal(texts.join(''), 'ok')
  assert.equal(stopped, true)
})

test('empty stop texts stop nothing, and too many are refused', () => {
  assert.deepEqual(run([''], ['a']).texts, ['a', ''])
  assert.throws(() => new TextStream(Array.from({ length: 17 }, (_, i) => String(i))), { code: 'FORMAT_STOP_INVALID' })
  assert.throws(() => new TextStream(['x'.repeat(1025)]), { code: 'FORMAT_STOP_INVALID' })
})

test('however bytes are cut into tokens, the text is the same', () => {
  const seed = systemRandom.uint32()
  const random = seededRandom(seed)
  for (let round = 0; round < 500; round++) {
    const alphabet = ['a', 'b', '→', '🦊', 'ab']
    const pick = (count: number): string =>
      Array.from({ length: count }, () => alphabet[random.uint32() % alphabet.length]).join('')
    const text = pick(30)
    const stops = [pick(3), pick(4)]
    const cut = stops.map(stop => text.indexOf(stop)).filter(index => index >= 0)
    const bytes = utf8(text)
    const pieces: Uint8Array[] = []
    for (let at = 0; at < bytes.length; ) {
      const next = at + 1 + (random.uint32() % 5)
      pieces.push(bytes.subarray(at, next))
      at = next
    }
    const { texts, stopped } = run(stops, pieces)
    // The first stop text to be complete ends the stream, so a longer one that began before it may lose.
    const released = texts.join('')
    assert.equal(stopped, cut.length > 0, `seed ${seed}, round ${round}`)
    const isRight = stopped
      ? text.startsWith(released) && !stops.some(stop => released.includes(stop))
      : released === text
    assert.ok(isRight, `seed ${seed}, round ${round}`)
  }
})
