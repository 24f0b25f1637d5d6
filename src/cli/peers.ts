/** `koinon peers`: which nodes this one is connected to, and what they serve. */
import type { Command } from 'commander'
import { formatBytes, formatLayers } from '#base'
import type { PeerSummary } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { pathText, rttText, stateText, streamsText } from './net.ts'
import { type Column, renderTable, sentenceFor } from './table.ts'
import { createPaint, type Paint, printable, printJson, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { formatAge, shortPeer } from './units.ts'

export function addPeers(program: Command, deps: CliDeps): void {
  const command = program
    .command('peers')
    .description('list the nodes that the running node is connected to')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  $ koinon peers\n  $ koinon peers --json | jq ".[].peer"')
  addDataDirOption(command).action(async (flags: DataDirFlags & { readonly json?: boolean }) => {
    const peers = await (await clientOf(deps, flags)).peers()
    if (flags.json === true) {
      printJson(deps.stdout, peers)
      return
    }
    const paint = createPaint(wantsColour(deps.stdout, deps.env))
    const text =
      peers.length === 0 ? `${sentenceFor(deps.stdout, NO_PEERS)}\n` : renderPeers(peers, deps.stdout.columns, paint)
    deps.stdout.write(text)
  })
}

const NO_PEERS =
  'No peers. Another node joins with `koinon up --peer ADDRESS`; `koinon status` shows the addresses of this one.'

/** From here on there is room for what people look for less often. */
const WIDE_COLUMNS = 110

export function renderPeers(peers: readonly PeerSummary[], width: number, paint: Paint): string {
  const wide: Column<PeerSummary>[] = [
    { title: 'STREAMS', cell: streamsText, align: 'right' },
    { title: 'MEMORY', cell: peer => formatBytes(peer.memoryBytes), align: 'right' },
    { title: 'ADDRESS', cell: addressText, widthMin: 10 },
  ]
  return renderTable(
    peers,
    [
      { title: 'PEER', cell: peer => paint.bold(shortPeer(printable(peer.peer))) },
      { title: 'STATE', cell: peer => stateText(peer, paint) },
      { title: 'PATH', cell: pathText, widthMin: 7 },
      { title: 'SERVES', cell: servesText, widthMin: width < WIDE_COLUMNS ? 9 : 24 },
      { title: 'RTT', cell: rttText, align: 'right' },
      { title: 'AGE', cell: peer => formatAge(peer.connectedMs), align: 'right' },
      { title: 'IN', cell: peer => formatBytes(peer.traffic.bytesIn), align: 'right' },
      { title: 'OUT', cell: peer => formatBytes(peer.traffic.bytesOut), align: 'right' },
      ...(width < WIDE_COLUMNS ? [] : wide),
    ],
    { width, paint },
  )
}

function servesText(peer: PeerSummary): string {
  if (peer.stages.length === 0) return 'no layers'
  return peer.stages.map(stage => `${printable(stage.name)} ${formatLayers(stage.layers)}`).join(', ')
}

/** The first address without the peer id that it ends in, with an arrow for who dialled. */
function addressText(peer: PeerSummary): string {
  const address = printable(peer.addresses[0] ?? 'unknown').replace(/\/p2p\/[^/]+$/, '')
  return `${peer.direction === 'inbound' ? '←' : '→'} ${address}`
}
