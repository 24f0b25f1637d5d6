/** Every fuzzer for a moment, with all inputs that were kept, against the code as it is and a running node. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { suspiciousLines } from '../tools/fuzz/live/live-node.ts'
import { FUZZERS } from '../tools/fuzz/registry.ts'

const COMMAND = fileURLToPath(new URL('../tools/fuzz.ts', import.meta.url))

type Ended = { readonly code: number | null; readonly output: string }

async function fuzz(...args: readonly string[]): Promise<Ended> {
  const child = spawn(process.execPath, [COMMAND, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const exit = new Promise<number | null>(resolve => {
    child.on('close', resolve)
  })
  const [code, out, err] = await Promise.all([exit, text(child.stdout), text(child.stderr)])
  return { code, output: `${out}${err}` }
}

test('a moment of every fuzzer finds nothing, and every fault that is there on purpose', async () => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  const { code, output } = await fuzz('--smoke', '--seed', String(seed))
  assert.equal(code, 0, output)
  for (const { name, kind } of FUZZERS) {
    const line = output.split('\n').find(text => text.split(/\s+/)[1] === name)
    assert.ok(line?.startsWith(kind === 'canary' ? 'found' : 'ok'), `${name}:\n${output}`)
  }
})

test('a failure ends with code 1 and says how to bring it back, and that brings it back', async () => {
  const found = await fuzz('--fuzzer', 'canary-throws', '--seed', '1')
  assert.equal(found.code, 1, found.output)
  const [, again = ''] = /again: npm run fuzz -- (.*)/.exec(found.output) ?? []
  assert.match(again, /^--fuzzer canary-throws --seed 1 --case \d+$/)
  const replayed = await fuzz(...again.split(' '))
  assert.equal(replayed.code, 1, replayed.output)
  assert.match(replayed.output, /RangeError: Offset is outside the bounds of the DataView/)
})

test('a node may say that a stream broke the protocol, and nothing else', () => {
  const lines = [
    '71 12:00:00.000 warn  net: a stream broke the protocol peer=12D3 reason=replay what=a sealed frame came twice',
    '71 12:00:00.000 warn  pipeline: a stream broke the protocol peer=12D3 what=an empty frame',
    '',
    '71 12:00:00.000 error commands: a command failed command=EXECUTE_TASK error=x is not a function',
    '71 12:00:00.000 warn  net: a stream was reset, its handler failed protocol=/koinon/stage/1',
    '71 (node:71) MaxListenersExceededWarning: Possible EventTarget memory leak detected.',
  ]
  assert.deepEqual(suspiciousLines(lines), lines.slice(3))
})
