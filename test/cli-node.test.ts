/** The commands against a real node: what a person types, and what comes back. */
import assert from 'node:assert/strict'
import { existsSync, statSync } from 'node:fs'
import { test } from 'node:test'
import type { ModelSummary, NodeStatus, PeerSummary, PlanReport } from '#wire'
import { COMMAND, koinon, koinonUp, runProgram, temporaryDir } from './support/command.ts'

const TIMEOUT = { timeout: 120_000 }
const STORY = 'Tell me a story about a fox and a lantern.'
const GREEDY = ['--temperature', '0', '--max-tokens', '12']

test('every command works against a running node', TIMEOUT, async t => {
  const dir = temporaryDir(t)
  const here = ['--data-dir', dir]
  const node = await koinonUp(t, [...here, '--api', '127.0.0.1:0'])
  assert.equal(node.ready.pid, node.child.pid)
  assert.equal(node.ready.layers, '0-8')
  assert.match(node.ready.addresses[0] ?? '', new RegExp(`^/ip4/127\\.0\\.0\\.1/tcp/\\d+/p2p/${node.ready.peer}$`))
  assert.equal(statSync(node.ready.socket).mode & 0o777, 0o600)
  await node.event('serving')

  const status = JSON.parse((await koinon(['status', '--json', ...here])).stdout) as NodeStatus
  assert.equal(status.pid, node.ready.pid)
  assert.equal(status.peer, node.ready.peer)
  assert.equal(status.api, node.ready.api)
  assert.deepEqual(status.generations, [])
  assert.equal(status.kvRows, 0)
  assert.deepEqual(
    status.engines.map(engine => [engine.role, engine.state]),
    [
      ['edge', 'ready'],
      ['stage', 'ready'],
    ],
  )

  const models = JSON.parse((await koinon(['models', '--json', ...here])).stdout) as ModelSummary[]
  assert.deepEqual([models.length, models[0]?.name, models[0]?.isComplete], [1, 'Storyteller', true])
  assert.match((await koinon(['models', ...here])).stdout, /Storyteller .* whole \(1 stage\)/)
  assert.match((await koinon(['peers', ...here])).stdout, /^No peers/)
  assert.match((await koinon(['status', ...here])).stdout, /Storyteller +0-8 of 8 +0 of 8/)

  const plan = JSON.parse((await koinon(['plan', 'Storyteller', '--json', ...here])).stdout) as PlanReport
  assert.equal(plan.fits, true)
  assert.deepEqual(plan.stages[0]?.layers, { first: 0, last: 8 })
  assert.ok(plan.tokensPerSecond > 0 && plan.why.length > 0)

  const byName = await koinon(['run', 'storyteller', STORY, ...GREEDY, ...here])
  assert.deepEqual([byName.code, byName.stderr], [0, ''])
  const byId = await koinon(['run', models[0]?.id.slice(0, 8) ?? '', STORY, ...GREEDY, ...here, '--json'])
  assert.equal((JSON.parse(byId.stdout) as { text: string }).text.trim(), byName.stdout.trim())
  const chat = await koinon(['chat', ...GREEDY, ...here], { input: `${STORY}\n/reset\n${STORY}\n` })
  assert.equal(chat.stdout, byName.stdout + byName.stdout)

  const unknown = await koinon(['run', 'no-such-model', 'Hi', ...here])
  assert.equal(unknown.code, 1)
  assert.match(unknown.stderr, /^koinon: the running node does not serve "no-such-model"; it serves Storyteller \[/)

  const stop = await koinon(['stop', ...here])
  assert.deepEqual([stop.code, stop.stdout], [0, ''])
  assert.equal(await node.ended, 0)
  assert.equal(existsSync(node.ready.socket), false)
  assert.equal((await koinon(['status', ...here])).code, 3)
})

test(
  'without a node, run answers by itself, greedily the same as a node, and plan plans for this machine',
  TIMEOUT,
  async t => {
    const here = ['--data-dir', temporaryDir(t)]
    const alone = await koinon(['run', 'storyteller', STORY, ...GREEDY, '--threads', '1', ...here])
    assert.equal(alone.code, 0)
    assert.match(alone.stdout, /fox|[A-Z]/)
    const again = await koinon(['run', 'storyteller', '--threads', '1', ...GREEDY, ...here], { input: STORY })
    assert.equal(again.stdout, alone.stdout)
    const plan = JSON.parse((await koinon(['plan', 'storyteller', '--json', ...here])).stdout) as PlanReport
    assert.deepEqual([plan.fits, plan.stages.length, plan.current], [true, 1, undefined])
  },
)

test(
  'two nodes join by address: the second takes what is missing, and the first says that it can answer',
  TIMEOUT,
  async t => {
    const first = await koinonUp(t, ['--temporary', '--api', 'none', '--layers', '0-5'])
    assert.ok(!first.events.some(event => event.event === 'serving'))
    const secondDir = temporaryDir(t)
    const [address = ''] = first.ready.addresses
    const second = await koinonUp(t, ['--data-dir', secondDir, '--api', 'none', '--peer', address])
    assert.equal(second.ready.layers, '5-8')
    await Promise.all([first.event('serving'), second.event('serving')])
    const peers = JSON.parse((await koinon(['peers', '--json', '--data-dir', secondDir])).stdout) as PeerSummary[]
    assert.deepEqual(
      peers.map(({ peer, path, stages }) => [peer, path, stages.map(stage => stage.layers)]),
      [[first.ready.peer, { kind: 'direct', transport: 'tcp' }, [{ first: 0, last: 5 }]]],
    )
    const table = (await koinon(['peers', '--data-dir', secondDir])).stdout
    assert.match(table, /Storyteller 0-5/)
    const run = await koinon(['run', 'storyteller', STORY, ...GREEDY, '--verbose', '--data-dir', secondDir])
    assert.match(run.stderr, /through 2 stages/)
    // A temporary node takes its directory with it.
    first.child.kill('SIGTERM')
    assert.equal(await first.ended, 0)
    assert.equal(existsSync(first.ready.dataDir), false)
  },
)

test('a second node in the same data directory is refused in one sentence', TIMEOUT, async t => {
  const here = ['--data-dir', temporaryDir(t)]
  await koinonUp(t, [...here, '--api', 'none', '--layers', 'none'])
  const second = await koinon(['up', ...here, '--api', 'none', '--layers', 'none'])
  assert.equal(second.code, 1)
  assert.match(second.stderr, /^koinon: [^\n]+ \[STORAGE_LOCKED\]\n$/)
})

test('a file that is no model is refused in one sentence', TIMEOUT, async t => {
  const answer = await koinon(['run', COMMAND, 'Hi', '--data-dir', temporaryDir(t)])
  assert.equal(answer.code, 1)
  // A machine that takes seconds to come so far is told what it does meanwhile.
  assert.match(answer.stderr, /^(?:Reading the model\n)?koinon: [^\n]+ \[FORMAT_[A-Z_]+\]\n$/)
})

test('doctor finds this machine fit', TIMEOUT, async t => {
  const doctor = await koinon(['doctor', '--json', '--data-dir', temporaryDir(t)])
  const report = JSON.parse(doctor.stdout) as { ok: boolean; checks: { name: string; state: string; text: string }[] }
  assert.deepEqual([doctor.code, report.ok], [0, true], doctor.stdout)
  assert.match(report.checks.find(check => check.name === 'Engine')?.text ?? '', /llama\.cpp \d/)
  assert.match(report.checks.find(check => check.name === 'Built-in model')?.text ?? '', /answers on/)
})

test('a reader that goes away ends run without a complaint', TIMEOUT, async t => {
  const command = `"${process.execPath}" "${COMMAND}" run storyteller "${STORY}" --temperature 0 --data-dir "$DIR" | head -c 1`
  const result = await runProgram(['sh', '-c', command], { env: { DIR: temporaryDir(t) } })
  assert.equal(result.stdout.length, 1)
  assert.doesNotMatch(result.stderr, /koinon:|EPIPE/)
})
