import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import type { TransferProgress } from '#wire'
import { createPaint, TextOutput } from './terminal.ts'
import { widthOf } from './text-width.ts'
import { createTransferProgress, renderTransfer } from './transfer-progress.ts'

const paint = createPaint(false)

const HALF: TransferProgress = {
  phase: 'pulling',
  doneBytes: 500e6,
  totalBytes: 1e9,
  rate: 48.2e6,
  etaS: 10.4,
  sources: 3,
  peers: 3,
}

test('a wide terminal shows everything, a narrow one the most needed', () => {
  assert.equal(
    renderTransfer(HALF, 109, paint),
    'Pulling  ████████████              500 MB of 1.0 GB  50 %  48.2 MB/s  11 s left  3 peers',
  )
  assert.match(
    renderTransfer(HALF, 79, paint),
    /^Pulling {2}█+[▏▎▍▌▋▊▉]? +500 MB of 1.0 GB {2}50 % {2}48.2 MB\/s {2}11 s left {2}3 peers$/,
  )
  assert.match(renderTransfer(HALF, 49, paint), /^Pulling {2}█+▌ +50 % {2}48.2 MB\/s {2}11 s left$/)
  assert.match(renderTransfer(HALF, 30, paint), /^Pulling {2}███████ +50 %$/)
})

test('no number that comes makes the line longer than its terminal', () => {
  const large = { ...HALF, doneBytes: 999.4e9, totalBytes: 999.9e9, rate: 999.6e6, etaS: 3_599, peers: 90, sources: 99 }
  for (const phase of ['hashing', 'pulling', 'checking'] as const) {
    for (const columns of [30, 40, 49, 60, 79, 100, 200]) {
      const line = renderTransfer({ ...large, phase }, columns, paint)
      assert.ok(widthOf(line) <= columns, `${columns}: ${widthOf(line)} "${line}"`)
    }
  }
})

test('the bar keeps its place while numbers change', () => {
  const ends = [0.2, 0.5, 0.999].map(part => {
    const line = renderTransfer({ ...HALF, doneBytes: Math.round(part * 1e9), rate: part * 1e8 }, 79, paint)
    return line.search(/\d/)
  })
  assert.equal(new Set(ends).size, 1)
})

test('what nobody knows is left out, and the end has no time left', () => {
  const { etaS: _, ...unknown } = HALF
  assert.doesNotMatch(renderTransfer({ ...unknown, rate: 0 }, 100, paint), /left|\/s/)
  assert.doesNotMatch(renderTransfer({ ...HALF, doneBytes: HALF.totalBytes }, 100, paint), /left/)
  const looking = { ...HALF, phase: 'manifest', doneBytes: 0, totalBytes: 0, peers: 1, sources: 1 } as const
  assert.equal(renderTransfer(looking, 79, paint), 'Looking for the manifest …  1 peer')
  assert.equal(renderTransfer({ ...looking, peers: 0, sources: 0 }, 79, paint), 'Looking for the manifest …')
  // A web server among them: not all are peers.
  assert.match(renderTransfer({ ...HALF, sources: 4 }, 100, paint), /4 sources$/)
})

test('elsewhere it is a line now and then, in words', () => {
  const output = new TextOutput()
  const clock = new ManualClock()
  const reporter = createTransferProgress({ output, clock, paint })
  for (let i = 0; i <= 100; i++) {
    reporter.report({ ...HALF, doneBytes: i * 1e7 })
    clock.advance(100)
  }
  reporter.clear()
  assert.equal(
    output.text,
    'Pulling: 300 MB of 1.0 GB, 30 %, 48.2 MB/s, 11 s left, 3 peers\n' +
      'Pulling: 800 MB of 1.0 GB, 80 %, 48.2 MB/s, 11 s left, 3 peers\n',
  )
})
