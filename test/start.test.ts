/** `npm start`: a swarm of three processes from one command, and nothing left of it afterwards. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isAlive, koinon, runProgram, temporaryDir, untilGone } from './support/command.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const START = fileURLToPath(new URL('../tools/start.ts', import.meta.url))
const PROMPT = 'Tell me a story about a fox and a lantern.'
const TIMEOUT = { timeout: 120_000 }

function nodeDirectories(tmp: string): readonly string[] {
  return readdirSync(tmp).filter(name => name.startsWith('koinon-'))
}

/** The nodes' process ids and layer ranges in the table on standard error. */
function nodesIn(stderr: string): { readonly pid: number; readonly layers: string }[] {
  return [...stderr.matchAll(/^ {2}\d +(\d+) +…\w{8} +(\d+-\d+)/gm)].map(match => ({
    pid: Number(match[1]),
    layers: match[2] ?? '',
  }))
}

test(
  'npm start --once prints the story alone, as one process tells it, and leaves nothing running',
  TIMEOUT,
  async t => {
    const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
    const started = await runProgram([npm, 'start', '-s', '--', '--once', PROMPT], { cwd: ROOT })
    assert.equal(started.code, 0, started.stderr)
    const nodes = nodesIn(started.stderr)
    assert.equal(nodes.length, 3, started.stderr)
    const bounds = nodes.flatMap(({ layers }) => layers.split('-').map(Number))
    assert.deepEqual([bounds[0], bounds[1], bounds[3], bounds[5]], [0, bounds[2], bounds[4], 8])
    assert.ok(!nodes.some(({ pid }) => isAlive(pid)))
    const alone = await koinon([
      'run',
      'storyteller',
      PROMPT,
      '--temperature',
      '0',
      '--threads',
      '1',
      '--data-dir',
      temporaryDir(t),
    ])
    assert.equal(started.stdout, alone.stdout)
    assert.match(started.stdout, /fox/)
    assert.match(started.stdout, /lantern/)
    assert.ok(started.stdout.endsWith('\n') && !started.stdout.includes('›'))
  },
)

test('npm start answers a first prompt and then piped lines, and ends with its input', TIMEOUT, async () => {
  const started = await runProgram([process.execPath, START], { input: 'What is 7 + 5?\n' })
  assert.equal(started.code, 0, started.stderr)
  assert.match(started.stdout, new RegExp(`^› ${PROMPT.replaceAll('.', '\\.')}\n.*lantern[^]*\n7 \\+ 5 = 12\\.\n$`))
  assert.match(started.stderr, /OpenAI-compatible API: http:\/\/127\.0\.0\.1:\d+\/v1/)
  assert.ok(!nodesIn(started.stderr).some(({ pid }) => isAlive(pid)))
})

test('nodes end by themselves when npm start is killed, and take their directories along', TIMEOUT, async t => {
  const tmp = temporaryDir(t)
  const child = spawn(process.execPath, [START], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...process.env, TMPDIR: tmp, NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache') },
  })
  let stderr = ''
  for await (const part of child.stderr.setEncoding('utf8') as AsyncIterable<string>) {
    stderr += part
    if (stderr.includes('API')) break
  }
  const nodes = nodesIn(stderr)
  assert.equal(nodes.length, 3, stderr)
  assert.ok(nodes.every(({ pid }) => isAlive(pid)))
  assert.equal(nodeDirectories(tmp).length, 3)
  child.kill('SIGKILL')
  await untilGone(nodes.map(({ pid }) => pid))
  assert.deepEqual(nodeDirectories(tmp), [])
})

test('wrong usage of npm start is said, with the right one', TIMEOUT, async () => {
  const started = await runProgram([process.execPath, START, '--twice'])
  assert.equal(started.code, 2)
  assert.match(started.stderr, /--once "PROMPT"/)
})
