/** `koinon net`: addresses, connections and how they live, on one page. */
import type { Command } from 'commander'
import { formatBytes } from '#base'
import type { BreakerSummary, ConnectionSummary, NetworkFacts, NetworkStatus } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { type Column, renderFacts, renderTable, type TableOptions } from './table.ts'
import { createPaint, type Paint, printable, printJson, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { countOf, formatAge, formatDuration, formatLatency, groupDigits, shortPeer } from './units.ts'

export function addNet(program: Command, deps: CliDeps): void {
  const command = program
    .command('net')
    .description('show the running node’s addresses and connections')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  $ koinon net\n  $ koinon net --json | jq ".connections[].path"')
  addDataDirOption(command).action(async (flags: DataDirFlags & { readonly json?: boolean }) => {
    const network = await (await clientOf(deps, flags)).network()
    if (flags.json === true) printJson(deps.stdout, network)
    else deps.stdout.write(renderNet(network, deps.stdout.columns, createPaint(wantsColour(deps.stdout, deps.env))))
  })
}

export function renderNet(network: NetworkStatus, width: number, paint: Paint): string {
  const { connections, breakers } = network
  const options = { width, paint }
  const parts = [
    `${paint.bold(`Network of ${shortPeer(printable(network.peer))}`)}\n${renderFacts(factsOf(network), paint)}`,
    ...sectionsOf(network).map(([title, facts]) => heading(title, paint) + renderFacts(facts, paint)),
  ]
  const none = '  none; another node joins with `koinon up --peer ADDRESS`\n'
  parts.push(
    heading('Connections', paint) + (connections.length === 0 ? none : renderConnections(connections, options)),
  )
  if (breakers.length > 0) parts.push(heading('Left alone for now', paint) + renderBreakers(breakers, options))
  return parts.join('\n')
}

type FactLine = readonly [name: string, value: string]

function factsOf({ listening, addresses, transports, planePort, connections, settings }: NetworkStatus): FactLine[] {
  const { pingIntervalMs, pingTimeoutMs, pingFailuresMax, idleLimitMs, peersFloor } = settings
  return [
    ['Listens at', linesOf(listening)],
    ['Reached at', linesOf(addresses.map(withoutPeer))],
    ['Transports', transports.length === 0 ? 'none' : transports.map(name => TRANSPORTS[name]).join(', ')],
    ['Data plane', planePort === undefined ? 'off' : `TCP port ${planePort}`],
    ['Connections', connections.length === 0 ? 'none' : countsText(connections)],
    [
      'Pings',
      `every ${formatAge(pingIntervalMs)}; ${pingFailuresMax} without an answer in ${formatAge(pingTimeoutMs)} end a connection`,
    ],
    ['Idle', `closed after ${formatAge(idleLimitMs)} where there are more than ${countOf(peersFloor, 'peer')}`],
  ]
}

const TRANSPORTS = { tcp: 'TCP', quic: 'QUIC', ws: 'WebSocket' } as const

/** "3: 2 connected, 1 idle; 2 direct, 1 relayed". */
function countsText(connections: readonly ConnectionSummary[]): string {
  const count = (key: (connection: ConnectionSummary) => string): string =>
    [...Map.groupBy(connections, key)].map(([name, all]) => `${all.length} ${name}`).join(', ')
  return `${groupDigits(connections.length)}: ${count(({ state }) => state)}; ${count(({ path }) => path.kind)}`
}

const REACHED = {
  public: 'can dial this node',
  nat: 'cannot dial this node: they come through relays, or by punching',
  local: 'cannot dial this node: it listens on this machine only',
  unknown: 'have not tried yet whether they can dial this node',
} as const

/** What parts that a node may lack have to say. */
function sectionsOf({ nat, relay, discovery, dht }: NetworkFacts): (readonly [title: string, facts: FactLine[]])[] {
  const sections: (readonly [string, FactLine[]])[] = []
  if (nat !== undefined) {
    const { type, kind, external, mapping } = nat
    sections.push([
      'NAT',
      known([
        ['Others', REACHED[type]],
        ['Kind', kind],
        ['Seen as', external && linesOf(external)],
        ['Mapping', mapping],
      ]),
    ])
  }
  if (relay !== undefined) {
    const { isServing, reservedAt, reservations, circuits } = relay
    const forOthers = isServing ? `${countOf(reservations, 'place')} held, ${countOf(circuits, 'circuit')}` : undefined
    sections.push([
      'Relay',
      known([
        ['Through', reservedAt.length === 0 ? undefined : linesOf(reservedAt.map(shortPeer))],
        ['For others', forOthers],
      ]),
    ])
  }
  if (discovery !== undefined && discovery.knownPeers > 0) {
    const { knownPeers, metPeers, exchanges, sentBytes, receivedBytes } = discovery
    const last = `the last ${formatBytes(sentBytes)} out, ${formatBytes(receivedBytes)} in`
    sections.push([
      'Peers',
      known([
        ['Known', `${knownPeers}, of which ${metPeers} were met`],
        ['Exchanges', exchanges === 0 ? undefined : `${exchanges}; ${last}`],
      ]),
    ])
  }
  if (dht !== undefined) {
    const { kadPeers, mainlineNodes } = dht
    const facts = known([
      ['Kademlia', kadPeers === undefined ? undefined : countOf(kadPeers, 'peer')],
      ['Mainline', mainlineNodes === undefined ? undefined : countOf(mainlineNodes, 'node')],
    ])
    sections.push(['DHT', facts])
  }
  return sections.filter(([, facts]) => facts.length > 0)
}

function known(facts: readonly (readonly [name: string, value: string | undefined])[]): FactLine[] {
  return facts.flatMap(([name, value]) => (value === undefined ? [] : [[name, printable(value)] as const]))
}

function renderConnections(connections: readonly ConnectionSummary[], options: TableOptions): string {
  const { paint } = options
  const bytes = (pick: (one: ConnectionSummary) => number) => (one: ConnectionSummary) => formatBytes(pick(one))
  const columns: Column<ConnectionSummary>[] = [
    { title: '  PEER', cell: one => `  ${paint.bold(shortPeer(printable(one.peer)))}` },
    { title: 'STATE', cell: one => stateText(one, paint) },
    { title: 'PATH', cell: pathText, widthMin: 7 },
    { title: 'RTT', cell: rttText, align: 'right' },
    { title: 'AGE', cell: one => formatAge(one.ageMs), align: 'right' },
    { title: 'STREAMS', cell: streamsText, align: 'right' },
    { title: 'IN', cell: bytes(({ traffic }) => traffic.bytesIn), align: 'right' },
    { title: 'OUT', cell: bytes(({ traffic }) => traffic.bytesOut), align: 'right' },
    { title: 'HELD', cell: one => (one.holds.length === 0 ? '-' : one.holds.join(', ')), widthMin: 4 },
  ]
  return renderTable(connections, columns, options)
}

function renderBreakers(breakers: readonly BreakerSummary[], options: TableOptions): string {
  const columns: Column<BreakerSummary>[] = [
    {
      title: '  WHO',
      cell: ({ key }) => `  ${key.startsWith('/') ? printable(key) : shortPeer(printable(key))}`,
      widthMin: 12,
    },
    { title: 'NEXT TRY', cell: nextTryText, align: 'right' },
    { title: 'FAILED TRIES', cell: ({ round }) => groupDigits(round), align: 'right' },
  ]
  return renderTable(breakers, columns, options)
}

function nextTryText({ state, retryAfterMs }: BreakerSummary): string {
  if (state === 'half-open') return 'now'
  return retryAfterMs === 0 ? 'when wanted' : `in ${formatDuration(retryAfterMs)}`
}

/** The state of a connection, in the colour of how well it is. */
export function stateText({ state }: Pick<ConnectionSummary, 'state'>, paint: Paint): string {
  if (state === 'connected') return paint.green(state)
  return state === 'idle' ? state : paint.yellow(state)
}

/** "direct", "punched", "ICE", "via …q1Zk9fQx"; with the transport where that is not TCP. */
export function pathText({ path }: Pick<ConnectionSummary, 'path'>): string {
  const { kind, transport, via } = path
  if (kind === 'relayed') return via === undefined ? kind : `via ${shortPeer(printable(via))}`
  const name = kind === 'ice' ? 'ICE' : kind
  return transport === 'tcp' || kind === 'ice' ? name : `${name} ${TRANSPORTS[transport]}`
}

export function rttText({ rttMs }: Pick<ConnectionSummary, 'rttMs'>): string {
  return rttMs === undefined ? '-' : formatLatency(rttMs)
}

/** All open streams of services. */
export function streamsText({ streams }: Pick<ConnectionSummary, 'streams'>): string {
  return groupDigits(streams.plane + streams.libp2p)
}

function withoutPeer(address: string): string {
  return address.replace(/\/p2p\/[^/]+$/, '')
}

function linesOf(values: readonly string[]): string {
  return values.length === 0 ? 'none' : values.map(printable).join('\n')
}

function heading(text: string, paint: Paint): string {
  return `${paint.bold(text)}\n`
}
