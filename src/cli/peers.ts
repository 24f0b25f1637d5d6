/** `koinon peers`: which nodes this one is connected to, and what they serve. */
import type { Command } from 'commander'
import { formatBytes, formatLayers } from '#base'
import type { PeerSummary } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { renderTable, sentenceFor } from './table.ts'
import { createPaint, type Paint, printable, printJson, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { formatDuration, formatLatency, shortPeer } from './units.ts'

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

export function renderPeers(peers: readonly PeerSummary[], width: number, paint: Paint): string {
  return renderTable(
    peers,
    [
      { title: 'PEER', cell: peer => paint.bold(shortPeer(printable(peer.peer))) },
      { title: 'SERVES', cell: servesText, widthMin: 10 },
      { title: 'MEMORY', cell: peer => formatBytes(peer.memoryBytes), align: 'right' },
      { title: 'RTT', cell: peer => (peer.rttMs === undefined ? '-' : formatLatency(peer.rttMs)), align: 'right' },
      { title: 'UP', cell: peer => formatDuration(peer.connectedMs), align: 'right' },
      { title: 'ADDRESS', cell: peer => addressText(peer), widthMin: 10 },
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
