/** `koinon models`, `pull` and `share` over a node's local socket: what people type, and what they see. */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { abortable } from '#base'
import type { ModelDetails } from '#wire'
import { widthOf } from '../src/cli/text-width.ts'
import { type CliBench, type CliBenchOptions, createCliBench } from './support/cli-bench.ts'
import { createHeldModels, type HeldModels, type HeldModelsOptions, heldModel } from './support/held-models.ts'
import { createScriptedNode, MODEL } from './support/scripted-node.ts'

const PEER = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo'

/** Some layers of it are here; what strangers wrote about it would do harm to a terminal. */
const PULLED = heldModel({
  name: 'Qwen3\u001b[31m 8B',
  layerCount: 36,
  heldLayers: [
    { first: 8, last: 16 },
    { first: 20, last: 21 },
  ],
  hasEdges: false,
  licence: 'Apache-2.0',
  signer: PEER,
  createdAt: Date.UTC(2026, 10, 20),
  previous: 'ef'.repeat(32),
  benchmarks: [{ name: 'MMLU-Pro', score: 56.7, unit: '%' }],
  hasTestVector: true,
  votes: [
    {
      peer: PEER,
      isTrusted: true,
      comment: 'same\nanswers\u009b31m \u202eas the original, word for word',
      at: Date.UTC(2026, 10, 21),
    },
    { peer: PEER, isTrusted: false, comment: '', at: 1e300 },
  ],
})

/** A file of the user's, which the node answers with. */
const OWN = heldModel({ id: MODEL.id, name: MODEL.name, file: '/models/storyteller.gguf', peers: 3 })

type Setup = CliBench & { readonly weights: HeldModels }

async function setUp(t: TestContext, options: CliBenchOptions & HeldModelsOptions = {}): Promise<Setup> {
  const weights = createHeldModels({ models: [PULLED, OWN], ...options })
  return { ...(await createCliBench(t, { ...createScriptedNode(), weights }, options)), weights }
}

function assertHarmless(text: string): void {
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  assert.doesNotMatch(text.replaceAll('\r\u001b[K', ''), /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
}

/** Without ids, links, paths and commands, which are there to be copied, so they are never broken. */
function assertFits(text: string, width: number): void {
  for (const line of text.replaceAll('\r\u001b[K', '\n').split('\n')) {
    if (/[0-9a-f]{64}|magnet:|\/models\//.test(line)) continue
    assert.ok(widthOf(line) <= width, `"${line}" takes ${widthOf(line)} of ${width} columns`)
  }
}

test('models lists what the node answers with and what it holds, once each', async t => {
  const { stdout, run } = await setUp(t, { columns: 120 })
  assert.equal(await run('models'), 0)
  const [head, first, second] = stdout.text.split('\n')
  assert.match(head ?? '', /^NAME +ID +TYPE +LAYERS +SIZE +HELD +SERVED +PEERS$/)
  assert.match(first ?? '', /^Storyteller 2M +abababab +llama +8 +8\.5 MB +all +whole \(1 stage\) +3$/)
  assert.match(second ?? '', /77ab01cd .*36 .*8-16, 20-21 .*by nobody +2$/)
  assertHarmless(stdout.text)
  stdout.text = ''
  assert.equal(await run('models', '--json'), 0)
  const models = JSON.parse(stdout.text) as { id: string; contextTrain?: number; holding?: ModelDetails }[]
  assert.deepEqual(
    models.map(({ id, contextTrain, holding }) => [id, contextTrain, holding?.heldBytes]),
    [
      [MODEL.id, MODEL.contextTrain, OWN.heldBytes],
      [PULLED.id, undefined, PULLED.heldBytes],
    ],
  )
  assertHarmless(stdout.text)
})

test('every screen fits its terminal, and nothing that strangers wrote reaches it as it is', async t => {
  for (const columns of [50, 80, 120]) {
    const bench = await setUp(t, { columns, isTty: true })
    const commands = [
      ['models'],
      ['models', 'show', '77ab01cd'],
      ['models', 'verify', '77ab01cd'],
      ['models', 'vote', '77ab01cd', '--distrust'],
      ['pull', '77ab01cd', '--layers', '0-8', '--edges'],
      ['pull', '77ab01cd', '--layers', '8-16'],
      ['share', '77ab01cd'],
      ['share', '77ab01cd', '--off'],
      ['models', 'rm', '77ab01cd', '--yes'],
      ['models', 'rm', MODEL.id, '--yes'],
    ]
    for (const args of commands) {
      assert.equal(await bench.run(...args), 0, args.join(' '))
      assertFits(bench.stdout.text, columns)
      assertFits(bench.stderr.text, columns)
    }
    assertHarmless(bench.stdout.text)
    assertHarmless(bench.stderr.text)
  }
})

test('models show says everything, votes and layers among it', async t => {
  const { stdout, run } = await setUp(t)
  assert.equal(await run('models', 'show', '77ab01cd'), 0)
  const { text } = stdout
  assert.match(text, /^Qwen3\[31m 8B\n {2}Id +(?:77ab01cd){8}\n/)
  assert.match(text, /Type +qwen3, 36 layers, 36\.5 MB/)
  assert.match(text, /Signed by +…kSCVe2Xo, 2026-11-20/)
  assert.match(text, /Held +9\.0\sMB of 36\.5\sMB: layers 8-16, 20-21, no edges\n +·{8}█{8}·{4}█·{15}\n/)
  assert.match(text, /MMLU-Pro 56\.7 %/)
  // The newest first: a time that no calendar knows is left out.
  assert.match(text, /1 trusts it, 1 does not\n +- …kSCVe2Xo\n +\+ …kSCVe2Xo 2026-11-21 same answers31m as/)
  assert.match(text, /Magnet +magnet:\?xt=urn:btmh:1220[0-9a-f]{64}&dn=Qwen3\+8B\n/)
  assert.doesNotMatch(text, /File/)
  assert.equal(await run('models', 'show', 'nobody'), 1)
})

test('models add hashes a file, with what is said about it', async t => {
  const { dataDir, stdout, stderr, weights, run } = await setUp(t)
  const [file, card] = [join(dataDir, 'm.gguf'), join(dataDir, 'card.json')]
  await writeFile(file, 'weights')
  await writeFile(card, JSON.stringify({ benchmarks: [{ name: 'MMLU', score: 1, unit: '%' }] }))
  const said = ['--name', 'Mine', '--licence', 'Apache-2.0', '--card', card, '--previous', '77ab01cd']
  assert.equal(await run('models', 'add', file, ...said), 0)
  assert.deepEqual(weights.asked, [
    {
      file,
      name: 'Mine',
      licence: 'Apache-2.0',
      benchmarks: [{ name: 'MMLU', score: 1, unit: '%' }],
      previous: PULLED.id,
    },
  ])
  assert.match(stdout.text, /^Mine is here and shared\.\n {2}Id +[0-9a-f]{64}\n {2}Magnet +magnet:/)
  assert.equal(stderr.text, '')
  await writeFile(card, '{"benchmark": []}')
  assert.equal(await run('models', 'add', file, '--card', card), 2)
  assert.match(stderr.text, /card\.json is no card/)
  assert.equal(await run('models', 'add', join(dataDir, 'none.gguf')), 1)
  assert.equal(await run('models', 'add', file, '--licence', '<b>'), 2)
})

test('models verify exits with 1 where pieces were bad', async t => {
  const { stdout, weights, run } = await setUp(t)
  assert.equal(await run('models', 'verify', '77ab01cd'), 0)
  assert.equal(stdout.text, '9.0 MB are as they should be.\n')
  weights.badPieces.push(4, 9)
  stdout.text = ''
  assert.equal(await run('models', 'verify', '77ab01cd'), 1)
  assert.equal(
    stdout.text,
    '8.5 MB are as they should be.\n2 bad pieces dropped; `koinon pull` fetches what is missing again.\n',
  )
  weights.badPieces.push(4)
  stdout.text = ''
  assert.equal(await run('models', 'verify', '77ab01cd', '--json'), 1)
  const last = JSON.parse(stdout.text.trimEnd().split('\n').at(-1) ?? '') as object
  assert.deepEqual(last, { kind: 'verified', goodBytes: 8_250_000, badPieces: [4] })
})

test('models rm asks first, on a terminal; elsewhere it wants --yes', async t => {
  const piped = await setUp(t)
  assert.equal(await piped.run('models', 'rm', '77ab01cd'), 2)
  assert.match(piped.stderr.text, /This deletes 9\.0 MB of Qwen3\[31m 8B here\. Confirm with --yes/)
  assert.equal(piped.weights.list().length, 2)
  assert.equal(await piped.run('models', 'rm', MODEL.id, '--yes'), 0)
  assert.equal(piped.stdout.text, 'Storyteller 2M is forgotten; /models/storyteller.gguf is where it was.\n')
  const terminal = await setUp(t, { isTty: true })
  terminal.type('no\r')
  assert.equal(await terminal.run('models', 'rm', '77ab01cd'), 2)
  assert.match(terminal.stderr.text, /nothing was done/)
  assert.equal(terminal.weights.list().length, 2)
  terminal.type('yes\r')
  assert.equal(await terminal.run('models', 'rm', '77ab01cd'), 0)
  assert.match(terminal.stdout.text, /is forgotten; 9\.0 MB are free now\.\n$/)
  assert.deepEqual(
    terminal.weights.list().map(({ id }) => id),
    [MODEL.id],
  )
})

test('models vote takes one side', async t => {
  const { stdout, weights, run } = await setUp(t)
  assert.equal(await run('models', 'vote', MODEL.id), 2)
  assert.equal(await run('models', 'vote', MODEL.id, '--trust', '--distrust'), 2)
  assert.equal(await run('models', 'vote', MODEL.id, '--trust', '--comment', 'x'.repeat(501)), 2)
  assert.equal(await run('models', 'vote', MODEL.id, '--trust', '--comment', 'good'), 0)
  assert.equal(stdout.text, 'You said that you trust Storyteller 2M. So far 1 trusts it, 0 do not.\n')
  assert.deepEqual(weights.details(MODEL.id).votes, [{ peer: 'self', at: 0, isTrusted: true, comment: 'good' }])
})

test('pull fetches what is asked for, and says what came from whom', async t => {
  const { stdout, stderr, weights, run } = await setUp(t)
  const from = [
    '--from',
    '/ip4/10.0.0.1/tcp/4001',
    '--from',
    'bt:10.0.0.2:6881',
    '--source',
    'mirror',
    '--source',
    '/mnt/m',
  ]
  assert.equal(await run('pull', '77ab01cd', '--layers', '0-4', '--edges', ...from), 0)
  assert.deepEqual(weights.asked, [
    {
      model: '77ab01cd',
      layers: { first: 0, last: 4 },
      edges: true,
      from: ['/ip4/10.0.0.1/tcp/4001', 'bt:10.0.0.2:6881'],
      sources: ['mirror', '/mnt/m'],
    },
  ])
  assert.equal(
    stdout.text,
    `Qwen3[31m 8B: layers 0-4 are here.
  Wanted    4.5 MB, 0 B here before
  Received  4.5 MB in 4.5 s (1.0 MB/s)
  Wasted    0 B (0.0 %)
  FROM     BYTES  SHARE
  mirror  4.5 MB  100 %
`,
  )
  assert.equal(stderr.text, 'A node serves it that is started with: --model 77ab01cd --layers 0-4\n')
  stdout.text = ''
  assert.equal(await run('pull', '77ab01cd', '--layers', '8-16', '--json'), 0)
  const events = stdout.text
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as { kind: string })
  assert.equal(events.at(-1)?.kind, 'pulled')
  assert.ok(events.slice(0, -1).every(({ kind }) => kind === 'progress'))
})

test('pull takes a magnet link and a .torrent file', async t => {
  const { dataDir, stderr, weights, run } = await setUp(t)
  const file = join(dataDir, 'm.torrent')
  await writeFile(file, 'd1:ae')
  const magnet = 'magnet:?xt=urn:btmh:1220ab&dn=a.torrent'
  assert.equal(await run('pull', file), 1)
  assert.equal(await run('pull', magnet), 1)
  assert.deepEqual(weights.asked, [
    { model: 'm.torrent', torrent: Buffer.from('d1:ae').toString('base64') },
    { model: magnet },
  ])
  assert.match(stderr.text, /NODE_MODEL_UNKNOWN/)
  assert.equal(await run('pull', join(dataDir, 'none.torrent')), 2)
})

test('Ctrl-C ends a pull at the node and says how to go on', async t => {
  for (const isJson of [false, true]) {
    const started = Promise.withResolvers<void>()
    const pace = async (step: number, signal: AbortSignal): Promise<void> => {
      if (step < 3) return
      started.resolve()
      await abortable(new Promise<never>(() => undefined), signal)
    }
    // On a terminal the bar shows that what was told has arrived.
    const { stdout, stderr, weights, run, interrupt } = await setUp(t, { pace, isTty: true })
    const ended = run('pull', '77ab01cd', '--layers', '8-16', ...(isJson ? ['--json'] : []))
    await started.promise
    const shown = isJson ? stdout : stderr
    for (let turn = 0; !/pulling|Pulling/.test(shown.text) && turn < 1e5; turn++) await new Promise(setImmediate)
    interrupt()
    assert.equal(await ended, 130)
    const [signal] = weights.signals
    for (let turn = 0; signal?.aborted === false && turn < 1e5; turn++) await new Promise(setImmediate)
    assert.equal(signal?.aborted, true)
    assert.deepEqual(weights.details('77ab01cd').heldLayers, PULLED.heldLayers)
    if (isJson) assert.equal(stderr.text, '')
    else
      assert.match(
        stderr.text,
        /Stopped at 8\.0 MB of 8\.0 MB\. What came is kept: the same command goes on from\nthere\.\n$/,
      )
  }
})

test('a pull that fails on its way says what is kept, and with --json why, as an event', async t => {
  const pace = async (step: number): Promise<void> => {
    if (step === 4) throw new Error('the disk is full')
  }
  const { stdout, stderr, run } = await setUp(t, { pace, models: [{ ...PULLED, heldLayers: [{ first: 0, last: 8 }] }] })
  assert.equal(await run('pull', '77ab01cd', '--layers', '0-8'), 1)
  assert.match(
    stderr.text,
    /^Stopped at 8\.0 MB of 8\.0 MB\. What came is kept: the same command goes on from there\.\nkoinon: .*\[INTERNAL\]\n$/,
  )
  assert.equal(await run('pull', '77ab01cd', '--layers', '0-8', '--json'), 1)
  const last = JSON.parse(stdout.text.trimEnd().split('\n').at(-1) ?? '') as { kind: string; code: string }
  assert.deepEqual([last.kind, last.code], ['error', 'INTERNAL'])
})

test('share prints links and writes a torrent, over nothing that is there', async t => {
  const { dataDir, stdout, weights, run } = await setUp(t)
  const file = join(dataDir, 'm.torrent')
  assert.equal(await run('share', '77ab01cd', '--torrent', file), 0)
  assert.match(
    stdout.text,
    /is shared\.\n {2}Magnet +magnet:\S+\n {2}Info-hash +[0-9a-f]{64}\n {2}Torrent +\S+ \(72 B\)\n$/,
  )
  assert.deepEqual(await readFile(file), weights.torrent('77ab01cd'))
  assert.equal(await run('share', '77ab01cd', '--torrent', file), 0)
  await writeFile(file, 'precious')
  assert.equal(await run('share', '77ab01cd', '--torrent', file), 2)
  assert.equal(await readFile(file, 'utf8'), 'precious')
  assert.equal(await run('share', '77ab01cd', '--off', '--torrent', file), 2)
  stdout.text = ''
  assert.equal(await run('share', '77ab01cd', '--off', '--json'), 0)
  assert.equal((JSON.parse(stdout.text) as ModelDetails).isShared, false)
  assertHarmless(stdout.text)
})

test('a command under models that nobody knows is named', async t => {
  const { stderr, run } = await setUp(t)
  assert.equal(await run('models', 'shwo'), 2)
  assert.match(stderr.text, /models has no command "shwo"/)
})
