import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { ManualClock, seededRandom, silentLogger, systemClock } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import type { KoinonNode, NodeConfig } from '#node'
import type { CompletionEvent, CompletionRequest, ModelSummary, NodeStatus } from '#wire'
import { createHeldModels } from '../../test/support/held-models.ts'
import { runCli } from './program.ts'
import { TextOutput } from './terminal.ts'
import type { CliDeps, Served, ServeOptions } from './types.ts'

const model: ModelSummary = {
  id: 'cd'.repeat(32),
  name: 'Storyteller',
  architecture: 'llama',
  file: '/nowhere/storyteller.gguf',
  fileBytes: 2e6,
  createdAt: 0,
  layerCount: 8,
  width: 128,
  contextTrain: 512,
  served: [{ peer: 'self', layers: { first: 0, last: 8 } }],
  isComplete: true,
}

const status: NodeStatus = {
  peer: '12D3KooWself',
  pid: 7,
  agent: 'koinon/test',
  uptimeMs: 0,
  addresses: ['/ip4/127.0.0.1/tcp/1/p2p/12D3KooWself'],
  dataDir: '/data',
  placement: 'all',
  stages: [
    {
      model: model.id,
      name: 'Storyteller',
      layers: { first: 0, last: 8 },
      layerCount: 8,
      slots: 1,
      slotsFree: 1,
      kvRows: 0,
      stepMs: 1,
    },
  ],
  engines: [],
  generations: [],
  kvRows: 0,
  peers: 0,
}

/** A node that answers with the words of its prompt, or waits for its signal where the prompt is "wait". */
class EchoNode implements KoinonNode {
  readonly peer = status.peer
  readonly socket = '/data/node.sock'
  readonly requests: CompletionRequest[] = []
  isStopped = false

  models = (): readonly ModelSummary[] => [model]
  peers = (): readonly never[] => []
  plan = (): never => assert.fail('not planned here')
  status = (): NodeStatus => status
  reachability = (): never => assert.fail('no network here')
  weights = createHeldModels()
  commands = (): readonly never[] => []
  find = async function* () {
    yield* [] as never[]
  }
  ask = async (): Promise<{ readonly body: unknown }> => ({ body: {} })
  rotateKey = async (): Promise<{ readonly from: string; readonly to: string }> => ({ from: 'a', to: 'b' })
  health = (): { readonly ok: boolean } => ({ ok: true })
  setApi = (): void => undefined
  network = (): never => assert.fail('not asked for here')
  drain = async (): Promise<void> => undefined

  async *complete(
    request: CompletionRequest,
    options: { readonly signal: AbortSignal },
  ): AsyncGenerator<CompletionEvent> {
    this.requests.push(request)
    const { prompt } = request
    const text =
      prompt.kind === 'text' ? prompt.text : prompt.kind === 'chat' ? (prompt.messages.at(-1)?.content ?? '') : ''
    yield { kind: 'start', generation: 'g', model: model.id, promptTokens: 3, route: model.served }
    if (text === 'wait') {
      yield { kind: 'delta', text: 'waiting', tokens: [] }
      await new Promise((_resolve, reject) => options.signal.addEventListener('abort', () => reject(new Error('left'))))
    }
    for (const word of text.split(' ')) yield { kind: 'delta', text: `${word} `, tokens: [] }
    yield { kind: 'end', reason: 'stop', usage: { promptTokens: 3, completionTokens: 2 } }
  }

  async stop(): Promise<void> {
    this.isStopped = true
  }
}

type Bench = {
  readonly deps: CliDeps
  readonly stdout: TextOutput
  readonly stderr: TextOutput
  readonly node: EchoNode
  readonly configs: NodeConfig[]
  readonly options: ServeOptions[]
  readonly exits: number[]
  /** Sends a signal, as Ctrl-C would. */
  readonly interrupt: (signal?: string) => void
  /** As `koinon stop` would. */
  readonly requestStop: () => void
  readonly dataDir: string
}

function bench(t: TestContext, overrides: Partial<CliDeps> = {}): Bench {
  const dataDir = mkdtempSync(join(tmpdir(), 'koinon-test-'))
  t.after(() => rmSync(dataDir, { recursive: true, force: true }))
  const stdout = new TextOutput()
  const stderr = new TextOutput()
  const node = new EchoNode()
  const configs: NodeConfig[] = []
  const options: ServeOptions[] = []
  const exits: number[] = []
  const listeners: ((signal: string) => void)[] = []
  let requestStop = (): void => undefined
  const stopRequested = new Promise<void>(resolve => {
    requestStop = resolve
  })
  const serve = async (config: NodeConfig, how: ServeOptions): Promise<Served> => {
    configs.push(config)
    options.push(how)
    return { node, api: 'http://127.0.0.1:1', stopRequested, stop: () => node.stop() }
  }
  const deps: CliDeps = {
    stdout,
    stderr,
    stdin: Readable.from([]),
    lineEditor: undefined,
    env: {},
    pid: 7,
    version: '1.2.3',
    clock: systemClock,
    random: seededRandom(1),
    signals: {
      outputClosed: () => undefined,
      listen: listener => {
        listeners.push(listener)
        return () => void listeners.splice(listeners.indexOf(listener), 1)
      },
    },
    exit: code => void exits.push(code),
    createLog: () => silentLogger,
    defaultDataDir: () => dataDir,
    findSocket: async directory => join(directory, 'node.sock'),
    builtInModel: '/built-in.gguf',
    serve,
    planFile: () => assert.fail('not planned here'),
    surveyNetwork: async () => ({ publicAddresses: [], paths: [], gateways: 0 }),
    describeEngine: () => assert.fail('not described here'),
    proveSandbox: async () => ({ text: 'no network', missing: [], attempts: [], escapes: [] }),
    ...overrides,
  }
  const interrupt = (signal = 'SIGINT'): void => listeners.at(-1)?.(signal)
  return { deps, stdout, stderr, node, configs, options, exits, interrupt, requestStop: () => requestStop(), dataDir }
}

/** Runs until `isDone` holds, one turn of the event loop at a time. */
async function until(isDone: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100_000; turn++) {
    if (isDone()) return
    await new Promise(resolve => setImmediate(resolve))
  }
  assert.fail('it never came to that')
}

test('help and version go to standard output and exit with 0', async t => {
  const commands = [
    ['--help'],
    ['up', '--help'],
    ['run', '--help'],
    ['pull', '--help'],
    ['share', '--help'],
    ['models', '--help'],
    ...['add', 'show', 'verify', 'rm', 'vote'].map(name => ['models', name, '--help']),
  ]
  for (const args of commands) {
    const { deps, stdout, stderr } = bench(t)
    assert.equal(await runCli(deps, args), 0)
    assert.match(stdout.text, /Examples:/)
    assert.equal(stderr.text, '')
    for (const line of stdout.text.split('\n')) assert.ok(line.length <= 90, line)
  }
  const { deps, stdout } = bench(t)
  assert.equal(await runCli(deps, ['--version']), 0)
  assert.equal(stdout.text, '1.2.3\n')
})

test('wrong usage is one sentence on standard error and exit code 2', async t => {
  const wrong = [
    ['nonsense'],
    ['up', '--layers', '3-1'],
    ['up', '--layers', '0-3', '--expect-nodes', '3'],
    ['up', '--api', 'nowhere'],
    ['up', '--peer', '10.0.0.1'],
    ['up', '--trust', '12D3KooWnobody'],
    ['ask', 'bob'],
    ['ask', 'bob', 'ECHO', '{'],
    ['ask', 'bob', 'ECHO', '--attach', '/nowhere/at/all'],
    ['ask', 'bob', 'ECHO', '--timeout', '0'],
    ['find'],
    ['find', 'Not A Name'],
    ['find', 'stage', '--timeout', '0'],
    ['up', '--unknown'],
    ['up', '--storage-max', 'much'],
    ['up', '--upload-max', '5Mbit/s'],
    ['up', '--bittorrent', '65536'],
    ['up', '--stage-only', '--layers', 'none'],
    ['pull'],
    ['pull', 'x', '--layers', '8'],
    ['pull', 'x', '--from', '10.0.0.1:6881'],
    ['pull', 'x', '--source', 'https://'],
    ['pull', '/no/such.torrent'],
    ['share'],
    ['share', 'x', '--off', '--torrent', 'x.torrent'],
    ['models', 'nonsense'],
    ['models', 'add'],
    ['models', 'add', '--card', '/no/such.json', resolve(import.meta.filename)],
    ['models', 'vote', 'x'],
    ['models', 'vote', 'x', '--trust', '--distrust'],
    ['up', 'surplus'],
    ['run'],
    ['run', 'm', 'p', '--temperature', '3'],
    ['run', 'm'],
    [],
  ]
  for (const args of wrong) {
    const { deps, stdout, stderr, configs } = bench(t)
    assert.equal(await runCli(deps, args), 2, args.join(' '))
    assert.equal(stdout.text, '', args.join(' '))
    assert.notEqual(stderr.text, '', args.join(' '))
    assert.equal(configs.length, 0)
  }
})

test('commands that need a node say in one sentence that there is none, and exit with 3', async t => {
  for (const args of [
    ['status'],
    ['peers'],
    ['models'],
    ['stop'],
    ['plan', 'x'],
    ['chat'],
    ['run', 'some-model', 'Hi'],
    ['ask', 'bob', 'ECHO'],
    ['ask', '--list'],
    ['find', 'stage'],
    ['pull', 'x'],
    ['share', 'x'],
    ['models', 'add', import.meta.filename],
    ['models', 'show', 'x'],
    ['models', 'verify', 'x'],
    ['models', 'rm', 'x', '--yes'],
    ['models', 'vote', 'x', '--trust'],
  ]) {
    const { deps, stdout, stderr, dataDir } = bench(t)
    assert.equal(await runCli(deps, args), 3, args.join(' '))
    assert.equal(stdout.text, '')
    assert.ok(stderr.text.startsWith(`koinon: no node runs in ${dataDir}; start one with \`koinon up\``), stderr.text)
    assert.match(stderr.text, /^[^\n]+ \[CLI_NO_NODE\]\n$/)
  }
})

test('up turns its options into the configuration of a node', async t => {
  const { deps, configs, options, requestStop } = bench(t, { env: { KOINON_SWARM_SECRET: 'a secret of 21 bytes.' } })
  requestStop()
  const args = ['up', '--layers', '2-5', '--peer', '/ip4/10.0.0.1/tcp/1', '--peer', '/dns/x/tcp/2', '--api', 'none']
  const trusted = [1, 2].map(seed => peerOfPublicKey(ed25519Signer(seededRandom(seed).bytes(32)).publicKey))
  args.push(...trusted.flatMap(peer => ['--trust', peer]), '--plugin', 'a.mjs', '--plugin', '/b.ts')
  assert.equal(await runCli(deps, [...args, '--threads', '2', '--ctx', '256', '--memory', '1GB', '--mdns']), 0)
  const [config] = configs
  assert.deepEqual(config?.layers, { kind: 'range', layers: { first: 2, last: 5 } })
  assert.deepEqual(config?.peers, ['/ip4/10.0.0.1/tcp/1', '/dns/x/tcp/2'])
  assert.deepEqual(config?.listen, ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/udp/0/quic-v1'])
  assert.deepEqual([config?.trust, config?.plugins], [trusted, [resolve('a.mjs'), '/b.ts']])
  assert.equal(config?.model, '/built-in.gguf')
  assert.deepEqual(config?.engine, { threads: 2, device: 'auto' })
  assert.deepEqual([config?.contextMax, config?.memoryMax, config?.slots, config?.mdns], [256, 1e9, 8, true])
  assert.equal(Buffer.from(config?.secret ?? []).toString(), 'a secret of 21 bytes.')
  assert.deepEqual([options[0]?.api, options[0]?.hasLocalSocket], [undefined, true])
})

test('up --json says when it is ready, and stops at a signal, at a request, and with its parent', async t => {
  for (const way of ['signal', 'request', 'parent']) {
    const stdin = new PassThrough()
    const { deps, stdout, interrupt, requestStop, node } = bench(t, { stdin })
    const ended = runCli(deps, ['up', '--json', '--exit-with-parent'])
    await until(() => stdout.text.includes('ready'))
    const ready = JSON.parse(stdout.text.split('\n')[0] ?? '') as Record<string, unknown>
    assert.deepEqual(ready, {
      event: 'ready',
      peer: node.peer,
      pid: 7,
      addresses: status.addresses,
      api: 'http://127.0.0.1:1',
      socket: node.socket,
      dataDir: deps.defaultDataDir(),
      layers: '0-8',
      model: 'Storyteller',
      modelId: model.id,
    })
    assert.equal(node.isStopped, false)
    if (way === 'signal') interrupt('SIGTERM')
    else if (way === 'request') requestStop()
    else stdin.end()
    assert.equal(await ended, 0)
    assert.equal(node.isStopped, true)
    assert.match(stdout.text, /"event":"stopping"/)
  }
})

test('a node that does not stop in time does not hold the command for ever', async t => {
  const clock = new ManualClock()
  const { deps, stdout, interrupt, node } = bench(t, { clock })
  node.stop = () => new Promise(() => undefined)
  const ended = runCli(deps, ['up', '--json', '--drain', '1'])
  await until(() => stdout.text.includes('ready'))
  interrupt()
  await until(() => stdout.text.includes('stopping'))
  clock.advance(11_000)
  assert.equal(await ended, 1)
})

test('a second Ctrl-C ends the process at once', async t => {
  const { deps, stdout, interrupt, exits, node } = bench(t)
  let stopped = (): void => undefined
  node.stop = () => new Promise(resolve => (stopped = resolve))
  const ended = runCli(deps, ['up', '--json'])
  await until(() => stdout.text.includes('ready'))
  interrupt()
  await until(() => stdout.text.includes('stopping'))
  interrupt()
  assert.deepEqual(exits, [130])
  stopped()
  await ended
})

test('a temporary node leaves nothing behind', async t => {
  const { deps, configs, requestStop } = bench(t)
  requestStop()
  assert.equal(await runCli(deps, ['up', '--temporary']), 0)
  assert.notEqual(configs[0]?.dataDir, deps.defaultDataDir())
  assert.equal(existsSync(configs[0]?.dataDir ?? ''), false)
})

test('a swarm secret that is too short is refused before anything starts', async t => {
  const { deps, dataDir, stderr, configs } = bench(t)
  const file = join(dataDir, 'secret.txt')
  writeFileSync(file, 'short\n')
  assert.equal(await runCli(deps, ['up', '--secret-file', file]), 2)
  assert.match(stderr.text, /16 to 1024 bytes, not 5/)
  assert.equal(readFileSync(file, 'utf8').length, 6)
  assert.equal(configs.length, 0)
})

test('run starts a node for a file, streams the answer alone to standard output, and stops the node', async t => {
  const { deps, dataDir, stdout, stderr, node, configs, options } = bench(t)
  const file = join(dataDir, 'm.gguf')
  writeFileSync(file, '')
  assert.equal(
    await runCli(deps, ['run', file, 'The fox.', '--temperature', '0', '--max-tokens', '9', '--seed', '4']),
    0,
  )
  assert.equal(stdout.text, 'The fox. \n')
  assert.equal(stderr.text, '')
  assert.equal(node.isStopped, true)
  assert.equal(configs[0]?.model, file)
  assert.deepEqual(configs[0]?.listen, [])
  assert.equal(options[0]?.hasLocalSocket, false)
  const [request] = node.requests
  assert.deepEqual(request?.prompt, { kind: 'chat', messages: [{ role: 'user', content: 'The fox.' }] })
  assert.deepEqual([request?.sampling.temperature, request?.tokensMax, request?.sampling.seed], [0, 9, 4])
})

test('run --raw sends the text as it is, read from standard input where none was given', async t => {
  const { deps, node } = bench(t, { stdin: Readable.from([Buffer.from('Once upon\n')]) })
  assert.equal(await runCli(deps, ['run', 'storyteller', '--raw']), 0)
  assert.deepEqual(node.requests[0]?.prompt, { kind: 'text', text: 'Once upon' })
})

test('run --json prints one object with the answer', async t => {
  const { deps, stdout } = bench(t)
  assert.equal(await runCli(deps, ['run', 'storyteller', 'Hi', '--json']), 0)
  const answer = JSON.parse(stdout.text) as Record<string, unknown>
  assert.equal(answer['text'], 'Hi ')
  assert.deepEqual(answer['usage'], { promptTokens: 3, completionTokens: 2 })
})

test('Ctrl-C cancels run with exit code 130 and no complaint', async t => {
  const { deps, stdout, stderr, node, interrupt } = bench(t)
  const ended = runCli(deps, ['run', 'storyteller', 'wait'])
  await until(() => stdout.text !== '')
  interrupt()
  assert.equal(await ended, 130)
  assert.equal(stdout.text, 'waiting\n')
  assert.equal(stderr.text, '')
  assert.equal(node.isStopped, true)
})

test('a file that is not there is named', async t => {
  const { deps, stderr } = bench(t)
  assert.equal(await runCli(deps, ['run', './no/such.gguf', 'Hi']), 1)
  assert.match(stderr.text, /^koinon: there is no file .*no\/such\.gguf \[CLI_MODEL_UNKNOWN\]\n$/)
})

test('chat answers piped lines one after the other and remembers them', async t => {
  const { deps, stdout, node } = bench(t, { stdin: Readable.from(['Hello there\n', '\n', '/stats\nAnd', ' you?\n']) })
  assert.equal(await runCli(deps, ['chat', 'storyteller']), 0)
  assert.equal(stdout.text, 'Hello there \nAnd you? \n')
  assert.deepEqual(
    node.requests.map(request => (request.prompt.kind === 'chat' ? request.prompt.messages.map(m => m.content) : [])),
    [['Hello there'], ['Hello there', 'Hello there ', 'And you?']],
  )
})

test('in a chat, Ctrl-C cancels the answer and not the program', async t => {
  const stdin = new PassThrough()
  const { deps, stdout, stderr, interrupt, node } = bench(t, { stdin })
  const ended = runCli(deps, ['chat', 'storyteller'])
  stdin.write('wait\n')
  await until(() => stdout.text.includes('waiting'))
  interrupt()
  await until(() => stderr.text.includes('cancelled'))
  stdin.write('Go on\n')
  await until(() => stdout.text.includes('Go on'))
  assert.equal(node.requests.length, 2)
  // The cancelled turn is not part of the conversation.
  assert.equal(node.requests[1]?.prompt.kind === 'chat' && node.requests[1].prompt.messages.length, 1)
  interrupt()
  assert.equal(await ended, 130)
})

test('chat commands do what they say', async t => {
  const { deps, stderr, node } = bench(t, {
    stdin: Readable.from(['One\n/reset\nTwo\n/stats\n/help\n/dance\n/exit\nThree\n']),
  })
  assert.equal(await runCli(deps, ['chat', 'storyteller', '--system', 'Be brief.']), 0)
  const asked = node.requests.map(request => (request.prompt.kind === 'chat' ? request.prompt.messages : []))
  assert.deepEqual(
    asked.map(messages => messages.map(message => message.content)),
    [
      ['Be brief.', 'One'],
      ['Be brief.', 'Two'],
    ],
  )
  assert.match(stderr.text, /2 tokens in/)
  assert.match(stderr.text, /\/reset {2}forget/)
  assert.match(stderr.text, /\/dance is no command/)
})

test('doctor exits with 1 where something is broken, and goes on to the end', async t => {
  const broken = bench(t, { describeEngine: () => Promise.reject(new Error('no engine package fits')) })
  assert.equal(await runCli(broken.deps, ['doctor', '--json']), 1)
  const report = JSON.parse(broken.stdout.text) as { ok: boolean; checks: { name: string; state: string }[] }
  assert.equal(report.ok, false)
  assert.equal(report.checks.find(check => check.name === 'Engine')?.state, 'fail')
  assert.deepEqual(
    report.checks.slice(-4).map(check => check.name),
    ['Built-in model', 'Reachable', 'NAT', 'Gateway'],
  )
  const healthy = bench(t, {
    describeEngine: async () => ({
      package: '@x/linux-x64 1.0.0',
      version: '0.4.0',
      commit: 'abc',
      cpuVariant: 'zen4',
      device: 'CPU (zen4)',
      devices: [],
    }),
  })
  assert.equal(await runCli(healthy.deps, ['doctor']), 0)
  assert.match(healthy.stdout.text, /llama\.cpp 0\.4\.0 \(ggml abc\), CPU code for zen4\n +@x\/linux-x64 1\.0\.0\n/)
  assert.match(healthy.stdout.text, /Engine sandbox +no network\n +0 of 0 attempts to break out were refused\n/)
})
