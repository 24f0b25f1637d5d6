/** What peers may ask of this node, by whichever way they ask: registry, dispatcher, transfers, and both surfaces. */
import { join } from 'node:path'
import type { Clock, Logger, Random } from '#base'
import type { Host } from '#net'
import {
  type Answer,
  type Command,
  CommandRegistry,
  Dispatcher,
  type Penalties,
  RateLimits,
  Requester,
  type RequestOptions,
  Transfers,
} from '#protocol'
import { type DataDir, openTransferFiles } from '#storage'
import { type CommandSummary, PROTOCOLS } from '#wire'
import { CommandLink } from './command-link.ts'
import { NodeError } from './errors.ts'
import { createOlderServer } from './json/older-exchange.ts'
import { createOlderMetrics } from './json/older-metrics.ts'
import { answerOlderTorrent } from './json/older-torrent.ts'
import { serveJson } from './json/serve-json.ts'
import { DRAIN_MS, TRANSFER_QUOTA_BYTES } from './limits.ts'
import { loadPlugins } from './plugins.ts'
import type { Stopper } from './stopper.ts'
import type { NodeConfig } from './types.ts'

export type CommandStackDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly config: Pick<NodeConfig, 'drainMs' | 'plugins' | 'secret' | 'trust'>
  readonly dataDir: DataDir
  readonly host: Host
  readonly penalties: Penalties
  readonly stopper: Stopper
}

export interface CommandStack {
  readonly registry: CommandRegistry
  /** What is registered now, for people. */
  summaries(): readonly CommandSummary[]
  /** Asks a joined peer. @throws ProtocolError, SessionError, NodeError NODE_COMMAND_UNKNOWN, NODE_PEER_UNKNOWN */
  ask(
    peer: string,
    asked: { readonly name: string; readonly body: unknown },
    options: RequestOptions,
  ): Promise<Answer<unknown>>
}

/** Peers find no command until the registry has some. */
export async function createCommandStack(deps: CommandStackDeps): Promise<CommandStack> {
  const { clock, random, host, dataDir, penalties, stopper } = deps
  const log = deps.log.child('commands')
  const registry = new CommandRegistry()
  const limiter = new RateLimits({ clock })
  const dispatcher = new Dispatcher({
    clock,
    log,
    audit: dataDir.audit,
    registry,
    limiter,
    penalties,
  })
  const requester = new Requester({ clock, random, penalties })
  const store = await openTransferFiles(
    join(dataDir.path, 'transfers'),
    { clock, log },
    { quotaBytes: TRANSFER_QUOTA_BYTES },
  )
  const transfers = new Transfers({
    clock,
    random,
    log,
    store,
    openStream: (peer, signal) => host.open(peer, PROTOCOLS.bulk, { signal }),
    blame: peer => void penalties.add(peer, 'bad-response'),
  })
  stopper.add('the store of transfers', () => store.close())
  stopper.add('transfers', () => transfers.stop())
  stopper.addDrain(() => dispatcher.drain({ timeoutMs: deps.config.drainMs ?? DRAIN_MS }))
  const isTrusted = (peer: string): boolean => {
    const { peerKeys } = dataDir
    // A key that was handed over takes its owner's trust with it.
    return (deps.config.trust ?? []).some(trusted => peerKeys.current(trusted) === peerKeys.current(peer))
  }
  const link = new CommandLink({
    clock,
    log,
    host,
    registry,
    dispatcher,
    requester,
    transfers,
    limiter,
    penalties,
    isTrusted,
  })
  host.handle(PROTOCOLS.bulk, stream => transfers.accept(stream))
  serveGuests(deps, { dispatcher, isTrusted, log })
  await loadPlugins({ clock, registry }, deps.config.plugins ?? [])
  return {
    registry,
    summaries: () => registry.list().map(summaryOf),
    ask: async (peer, { name, body }, options) => {
      const command = commandFor(registry, host, { peer, name })
      return requester.request(link.connectionTo(peer), { command, body }, options)
    },
  }
}

type GuestsDeps = {
  readonly dispatcher: Dispatcher
  readonly isTrusted: (peer: string) => boolean
  readonly log: Logger
}

/** The protocols of peers that do not speak ours. */
function serveGuests(
  { clock, random, host, penalties, config: { secret } }: CommandStackDeps,
  { dispatcher, isTrusted, log }: GuestsDeps,
): void {
  const rightOf = (peer: string): 'trusted' | 'member' => (isTrusted(peer) ? 'trusted' : 'member')
  host.handleGuests(PROTOCOLS.json, stream =>
    serveJson(stream, {
      clock,
      random,
      log: log.child('json'),
      dispatcher,
      self: host.id,
      secret,
      rightOf,
      misbehaved: (peer, what) => void penalties.add(peer, what === 'malformed' ? 'malformed' : 'bad-handshake'),
    }),
  )
  // The older ones cannot prove a secret: where there is one, they answer those alone who are in the swarm anyway.
  const isAdmitted = (peer: string): boolean => secret === undefined || host.peers().some(({ id }) => id === peer)
  const older = {
    clock,
    random,
    log: log.child('older'),
    dispatcher,
    rightOf: (peer: string) => (isAdmitted(peer) ? rightOf(peer) : undefined),
    misbehaved: (peer: string) => void penalties.add(peer, 'malformed'),
  }
  host.handleGuests(PROTOCOLS.olderTorrent, createOlderServer(older, answerOlderTorrent))
  const metrics = createOlderMetrics({ counts: () => dispatcher.counts(), peers: () => host.peers() })
  host.handleGuests(PROTOCOLS.olderMetrics, createOlderServer(older, metrics))
}

function commandFor(
  registry: CommandRegistry,
  host: Pick<Host, 'peers'>,
  { peer, name }: { readonly peer: string; readonly name: string },
): Command {
  const command = registry.byName(name)
  if (command === undefined) {
    throw new NodeError({ code: 'NODE_COMMAND_UNKNOWN', command: name }, `this node knows no command ${name}`)
  }
  if (host.peers().some(({ id }) => id === peer)) return command
  throw new NodeError({ code: 'NODE_PEER_UNKNOWN', peer }, `${peer} is not connected; \`koinon peers\` lists who is`)
}

function summaryOf({ name, type, right, cost, attachmentBytesMax = 0 }: Command): CommandSummary {
  return { name, type, right, cost, attachmentBytesMax }
}
