import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import type { ModelSummary, NetworkFacts, NetworkStatus, NodeStatus, PeerSummary, PlanReport } from '#wire'
import { missingLayers, renderModels } from './models.ts'
import { renderNet } from './net.ts'
import { renderPeers } from './peers.ts'
import { renderPlan } from './plan.ts'
import { createProgress, renderBar } from './progress.ts'
import { renderStatus } from './status.ts'
import { renderFacts, renderTable, wrap } from './table.ts'
import { createPaint, printable, TextOutput, wantsColour } from './terminal.ts'
import { cut, widthOf } from './text-width.ts'
import { formatDuration, formatLatency, formatRate, shortPeer } from './units.ts'
import { createWordWrap } from './word-wrap.ts'

const plain = createPaint(false)
const PEER = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo'

function assertFits(text: string, width: number): void {
  for (const line of text.split('\n')) {
    // Addresses are there to be copied, so they are never broken.
    if (line.includes('/p2p/')) continue
    assert.ok(widthOf(line) <= width, `"${line}" takes ${widthOf(line)} columns`)
  }
}

test('a table aligns its columns and shrinks only those that may', () => {
  const rows = [
    { name: 'a name that is much too long for the table', count: '7' },
    { name: 'short', count: '1 234' },
  ]
  const columns = [
    { title: 'NAME', cell: (row: (typeof rows)[0]) => row.name, widthMin: 8 },
    { title: 'COUNT', cell: (row: (typeof rows)[0]) => row.count, align: 'right' as const },
  ]
  const text = renderTable(rows, columns, { width: 24, paint: plain })
  assert.equal(text, 'NAME               COUNT\na name that is m…      7\nshort              1 234\n')
  assertFits(text, 24)
})

test('the widest column gives way first, and optional ones go where that is not enough', () => {
  const rows = [{ name: 'a long name', text: 'an even longer text', count: 7 }]
  const columns = [
    { title: 'NAME', cell: (row: (typeof rows)[0]) => row.name, widthMin: 6 },
    { title: 'TEXT', cell: (row: (typeof rows)[0]) => row.text, widthMin: 6, optional: 2 },
    { title: 'COUNT', cell: (row: (typeof rows)[0]) => String(row.count), align: 'right' as const, optional: 1 },
  ]
  const at = (width: number): string | undefined => renderTable(rows, columns, { width, paint: plain }).split('\n')[1]
  assert.equal(at(39), 'a long name  an even longer text      7')
  assert.equal(at(33), 'a long name  an even long…      7')
  assert.equal(at(25), 'a long …  an even…      7')
  assert.equal(at(21), 'a lon…  an ev…      7')
  assert.equal(at(20), 'a long name      7')
  assert.equal(at(12), 'a long name')
  assert.equal(at(3), 'a lon…')
})

test('colours take no columns, wide characters take two', () => {
  const paint = createPaint(true)
  assert.equal(widthOf(paint.green('abc')), 3)
  assert.equal(widthOf('狐と灯'), 6)
  assert.equal(cut('狐と灯', 4), '狐…')
  assert.equal(cut('abc', 3), 'abc')
})

test('facts are aligned, and values of several lines stay under themselves', () => {
  assert.equal(
    renderFacts(
      [
        ['API', 'x'],
        ['Address', 'a\nb'],
      ],
      plain,
    ),
    '  API      x\n  Address  a\n           b\n',
  )
})

test('text wraps at spaces', () => {
  assert.equal(wrap('one two three four', 9), 'one two\nthree\nfour')
  assert.equal(wrap('unbreakable', 4), 'unbreakable')
})

test('a streamed answer wraps at words however it is cut', () => {
  const text = 'The fox carried the lantern up the hill.\nThen it was dark.'
  for (const size of [1, 2, 3, 7, 100]) {
    let out = ''
    const wordWrap = createWordWrap(piece => (out += piece), 16)
    for (let i = 0; i < text.length; i += size) wordWrap.write(text.slice(i, i + size))
    wordWrap.end()
    assert.equal(
      out,
      'The fox carried\nthe lantern up\nthe hill.\nThen it was dark.'.replace('was dark.', 'was\ndark.'),
    )
    assertFits(out, 16)
  }
})

test('numbers read well', () => {
  assert.deepEqual([850, 12_340, 59_999, 245_000, 12_000_000, 190_800_000].map(formatDuration), [
    '850 ms',
    '12.3 s',
    '60.0 s',
    '4 min 5 s',
    '3 h 20 min',
    '2 d 5 h',
  ])
  assert.deepEqual([0.4, 12.4, 1340].map(formatRate), ['0.4', '12', '1\u00a0340'])
  assert.deepEqual([0.123, 3.14, 120.4].map(formatLatency), ['0.12 ms', '3.1 ms', '120 ms'])
  assert.equal(shortPeer(PEER), '…SCVe2Xo'.replace('…', '…k'))
})

test('colour goes to terminals only, and never where NO_COLOR is set', () => {
  const tty = new TextOutput({ isTty: true })
  assert.equal(wantsColour(tty, {}), true)
  assert.equal(wantsColour(tty, { NO_COLOR: '1' }), false)
  assert.equal(wantsColour(tty, { TERM: 'dumb' }), false)
  assert.equal(wantsColour(new TextOutput(), {}), false)
  assert.equal(wantsColour(new TextOutput(), { FORCE_COLOR: '1' }), true)
})

test('control characters from elsewhere are not printed', () => {
  assert.equal(printable('a\u001b]0;owned\u0007b\tc\nd\u009b1m\r'), 'a]0;ownedb\tc\nd1m')
})

test('a bar is as wide as it says and as full as it should be', () => {
  assert.equal(renderBar(0, 8), '        ')
  assert.equal(renderBar(0.5, 8), '████    ')
  assert.equal(renderBar(0.55, 10), '█████▌    ')
  assert.equal(renderBar(2, 4), '████')
})

test('progress redraws one line on a terminal and cleans up after itself', () => {
  const output = new TextOutput({ isTty: true })
  const clock = new ManualClock()
  const progress = createProgress({ output, clock, paint: plain })
  progress.report('loading weights', { done: 0, total: 2e9 })
  progress.report('loading weights', { done: 1e9, total: 2e9 }) // too soon to be drawn
  clock.advance(100)
  progress.report('loading weights', { done: 1.5e9, total: 2e9 })
  progress.clear()
  assert.equal(
    output.text,
    '\r\u001b[KLoading weights                          0 B of 2.0 GB' +
      '\r\u001b[KLoading weights ██████████████████       1.5 GB of 2.0 GB\r\u001b[K',
  )
})

test('progress elsewhere is a line per phase and one every few seconds, after a quiet start', () => {
  const output = new TextOutput()
  const clock = new ManualClock()
  const progress = createProgress({ output, clock, paint: plain })
  for (let i = 0; i <= 100; i++) {
    progress.report('loading weights', { done: i * 1e7, total: 1e9 })
    clock.advance(100)
  }
  progress.report('waiting for nodes', { done: 1, total: 3 })
  assert.equal(
    output.text,
    'Loading weights (300 MB of 1.0 GB)\nLoading weights (800 MB of 1.0 GB)\nWaiting for nodes (1 of 3)\n',
  )
})

const model: ModelSummary = {
  id: 'ab'.repeat(32),
  name: 'A model with a long name \u001b[31m and a colour',
  architecture: 'llama',
  file: '/models/a.gguf',
  fileBytes: 4_700_000_000,
  createdAt: 0,
  layerCount: 32,
  width: 4096,
  contextTrain: 131_072,
  served: [
    { peer: PEER, layers: { first: 20, last: 30 } },
    { peer: PEER, layers: { first: 2, last: 12 } },
    { peer: PEER, layers: { first: 4, last: 8 } },
  ],
  isComplete: false,
}

test('what is missing of a model is named', () => {
  assert.deepEqual(missingLayers(model), ['0-2', '12-20', '30-32'])
  assert.deepEqual(missingLayers({ served: [], layerCount: 8 }), ['0-8'])
})

const status: NodeStatus = {
  peer: PEER,
  pid: 4242,
  agent: 'koinon/0.2.0',
  uptimeMs: 65_000,
  addresses: [`/ip4/127.0.0.1/tcp/4001/p2p/${PEER}`],
  api: 'http://127.0.0.1:11435',
  dataDir: '/home/someone/.local/share/koinon',
  placement: 'layers 0-12, automatic: nobody else serves the model',
  stages: [
    {
      model: model.id,
      name: model.name,
      layers: { first: 0, last: 12 },
      layerCount: 32,
      slots: 8,
      slotsFree: 7,
      kvRows: 1234,
      stepMs: 3.21,
    },
  ],
  engines: [
    { role: 'stage', state: 'ready', pid: 4243, device: 'CPU (zen4)', restarts: 0, weightBytes: 2e9, kvBytes: 5e8 },
    { role: 'edge', state: 'failed', restarts: 3, weightBytes: 0, kvBytes: 0, lastError: 'it ended with SIGSEGV' },
  ],
  generations: [
    {
      generation: '0123456789abcdef'.repeat(2),
      role: 'stage',
      model: model.id,
      ageMs: 1500,
      positions: 1234,
      positionsMax: 4096,
      layers: { first: 0, last: 12 },
      slot: 1,
    },
    {
      generation: 'fedcba9876543210'.repeat(2),
      role: 'entry',
      model: model.id,
      ageMs: 10,
      positions: 0,
      positionsMax: 4096,
      route: [],
    },
  ],
  kvRows: 1234,
  peers: 2,
}

const protocol = {
  version: 1,
  capabilities: ['commands', 'stage'],
  session: '6f1ed002-ab55-4d2c-9c3b-0a1f7d3c5e11',
  resumptions: 0,
  suite: 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256',
  rekeys: 2,
  key: PEER,
  clockOffsetMs: 3,
  streams: { plane: 2, libp2p: 0 },
  traffic: { bytesIn: 999_400_000, bytesOut: 12_345 },
} as const

const peers: readonly PeerSummary[] = [
  {
    ...protocol,
    peer: PEER,
    agent: 'koinon/0.2.0',
    addresses: [`/ip4/192.168.100.200/tcp/40001/p2p/${PEER}`],
    direction: 'outbound',
    state: 'connected',
    path: { kind: 'direct', transport: 'ws' },
    holds: ['kept', 'stage'],
    connectedMs: 7_260_000,
    rttMs: 0.321,
    stages: status.stages,
    memoryBytes: 34e9,
  },
  {
    ...protocol,
    peer: PEER,
    agent: '',
    addresses: [],
    direction: 'inbound',
    state: 'connecting',
    path: { kind: 'relayed', transport: 'tcp', via: PEER },
    holds: [],
    connectedMs: 10,
    stages: [],
    memoryBytes: 0,
  },
]

const network: NetworkStatus = {
  peer: PEER,
  listening: ['/ip4/0.0.0.0/tcp/4001'],
  addresses: [`/ip4/192.168.100.200/tcp/4001/p2p/${PEER}`, `/ip4/203.0.113.7/tcp/4001/p2p/${PEER}`],
  transports: ['tcp', 'quic'],
  planePort: 40_001,
  connections: peers.map(({ peer, state, direction, path, streams, traffic, holds }) => ({
    peer,
    state,
    direction,
    path,
    streams,
    traffic,
    holds,
    rttMs: 123.4,
    ageMs: 3_540_000,
    idleMs: 0,
  })),
  breakers: [
    { key: PEER, state: 'open', retryAfterMs: 12_300, round: 3 },
    { key: '/ip4/198.51.100.20/tcp/40001', state: 'half-open', retryAfterMs: 0, round: 0 },
  ],
  settings: { pingIntervalMs: 15_000, pingTimeoutMs: 10_000, pingFailuresMax: 3, idleLimitMs: 300_000, peersFloor: 32 },
}

const sections: NetworkFacts = {
  nat: {
    type: 'nat',
    kind: 'full cone',
    external: ['203.0.113.7', '\u001b[31m2001:db8::7'],
    mapping: 'UPnP, port 4001',
  },
  relay: { isServing: true, reservedAt: [PEER], reservations: 2, circuits: 1 },
  dht: { kadPeers: 1, mainlineNodes: 1234 },
}

const plan: PlanReport = {
  model: model.id,
  name: model.name,
  layerCount: 32,
  weightBytes: 4.2e9,
  edgeBytes: 5e8,
  kvBytesPerGeneration: 5e8,
  fits: true,
  summary: 'The layers fit on 2 nodes with memory to spare for eight generations of 4096 positions at once on each.',
  stages: [
    {
      peer: PEER,
      isSelf: true,
      layers: { first: 0, last: 20 },
      weightBytes: 2.6e9,
      kvBytes: 3e8,
      memoryBytes: 8e9,
      stepMs: 12,
    },
    {
      peer: PEER,
      isSelf: false,
      layers: { first: 20, last: 32 },
      weightBytes: 1.6e9,
      kvBytes: 2e8,
      memoryBytes: 6e9,
      stepMs: 9,
    },
  ],
  tokensPerSecond: 31.4,
  why: [
    '21 ms for the layers: 12 ms on this node and 9 ms on …k9SCVe2Xo, measured when they were loaded there',
    '1 ms for hops',
  ],
  current: { route: [{ peer: PEER, layers: { first: 0, last: 32 } }], tokensPerSecond: 20 },
}

test('every view fits in 80 columns and prints no control character of others', () => {
  const views = {
    models: renderModels([model, { ...model, isComplete: true }], 80, plain),
    peers: renderPeers(peers, 80, plain),
    status: renderStatus(status, 80, plain),
    network: renderNet({ ...network, ...sections }, 80, plain),
    quiet: renderNet({ ...network, connections: [], breakers: [] }, 80, plain),
    plan: renderPlan(plan, 80, plain),
  }
  for (const text of Object.values(views)) {
    assertFits(text, 80)
    assert.ok(!text.includes('\u001b'))
  }
  assert.match(views.models, /missing 0-2/)
  assert.match(views.models, /whole \(3 stages\)/)
  assert.match(views.peers, /connected +direct/)
  assert.match(renderPeers(peers, 140, plain), /→ \/ip4\/192/)
  assert.match(views.network, /Connections +2: 1 connected, 1 connecting; 1 direct, 1 relayed/)
  assert.match(views.network, /full cone[^]*UPnP, port 4001[^]*2 places held, 1 circuit[^]*1 peer\n/)
  assert.match(views.network, /in 12.3 s +3\n/)
  assert.doesNotMatch(views.quiet, /NAT|Relay|DHT|Left alone/)
  assert.match(views.status, /it ended with SIGSEGV/)
  assert.match(views.plan, /Expected 31 tokens\/s/)
})

test('a plan that does not fit promises no speed', () => {
  const text = renderPlan({ ...plan, fits: false, stages: [], why: [], summary: '3 GB are missing.' }, 80, plain)
  assert.match(text, /does not fit/)
  assert.match(text, /3 GB are missing/)
  assert.doesNotMatch(text, /tokens\/s, because/)
})
