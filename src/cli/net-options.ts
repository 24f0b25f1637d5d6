/** The options of `up` that say how the node reaches others, and whom. */
import { type Command, Option } from 'commander'
import { z } from 'zod'
import type { NodeConfig } from '#node'
import { isOfThisMachine, type RelayMode } from '#wire'
import type { StunName } from '#reach'
import { usageError } from './errors.ts'
import { readJsonFile } from './json-file.ts'
import { NET_CONFIG_BYTES_MAX } from './limits.ts'
import {
  collect,
  integerIn,
  parseListen,
  parseMultiaddr,
  parsePeerId,
  parsePlanePort,
  parseRegion,
  parseStun,
  parseSwitch,
  parseTopic,
} from './parse.ts'

/** As commander hands them over. */
export type NetFlags = {
  readonly transport: NonNullable<NodeConfig['transport']>
  readonly peer?: readonly string[]
  readonly listen?: readonly string[]
  readonly port?: number
  readonly planePort: number | 'off'
  readonly relay: RelayMode
  readonly region?: string
  readonly mapPorts: boolean
  readonly stun?: readonly StunName[]
  readonly external?: readonly string[]
  readonly turn?: string
  readonly dht: boolean
  readonly mainline?: number
  readonly mainlineBootstrap?: readonly StunName[]
  readonly topic?: string
  readonly allow?: readonly string[]
  readonly netConfig?: string
}

const turnSchema = z.strictObject({
  server: z.string().max(260),
  username: z.string().min(1).max(500),
  password: z.string().min(1).max(500),
})

/** Where `--port` listens when no number follows. */
const PORT_DEFAULT = 30_906

const MODES = ['dual', 'quic', 'tcp'] as const

/** Nodes of the Mainline DHT that are known to everybody. */
const MAINLINE_ROUTERS = ['router.bittorrent.com:6881', 'dht.transmissionbt.com:6881', 'dht.libtorrent.org:25401']

export function addNetOptions(command: Command): Command {
  const parsePort = integerIn(1, 65_535)
  return command
    .option('--peer <address>', 'connect to this node, and stay connected (repeatable)', collect(parseMultiaddr))
    .addOption(
      new Option('--transport <mode>', 'connect over QUIC and TCP, whichever does better, or over one of them')
        .choices(MODES)
        .default('dual'),
    )
    .option(
      '--listen <address>',
      'accept peers here (repeatable; default: free ports of 127.0.0.1), or none',
      collect(parseListen),
    )
    .addOption(
      new Option('--port [port]', `accept peers at this port of every IPv4 address (${PORT_DEFAULT} without a number)`)
        .argParser(parsePort)
        .preset(String(PORT_DEFAULT))
        .conflicts('listen'),
    )
    .addOption(
      new Option('--plane-port <port>', 'take fast streams of peers at this TCP port; 0: any that is free; or off')
        .argParser(parsePlanePort)
        .default(0, '0'),
    )
    .addOption(
      new Option('--relay <mode>', 'carry the bytes of nodes that others cannot dial; auto: once this node is public')
        .choices(['on', 'off', 'auto'] satisfies RelayMode[])
        .default('auto' satisfies RelayMode),
    )
    .option(
      '--region <name>',
      'where this node is, in your words: relays of the region are liked a bit more',
      parseRegion,
    )
    .addOption(
      new Option('--map-ports <on|off>', 'have the router let peers in, where this machine has a private address')
        .argParser(parseSwitch)
        .default(true, 'on'),
    )
    .option('--external <address>', 'peers outside reach this node here (repeatable)', collect(parseMultiaddr))
    .option('--stun <host:port>', 'ask this server, too, what the NAT does (repeatable)', collect(parseStun))
    .option(
      '--turn <file>',
      'a TURN server for paths that no NAT allows: JSON with "server" (HOST:PORT), "username" and "password"',
    )
    .addOption(
      new Option('--dht <on|off>', 'find nodes and services through a DHT of the nodes of the swarm')
        .argParser(parseSwitch)
        .default(true, 'on'),
    )
    .addOption(
      new Option('--mainline [port]', "find and be found through BitTorrent's DHT, at this UDP port (any that is free)")
        .argParser(integerIn(0, 65_535))
        .preset('0'),
    )
    .option(
      '--mainline-bootstrap <host:port>',
      `where to join it (repeatable; default: ${MAINLINE_ROUTERS.join(', ')})`,
      collect(parseStun),
    )
    .option('--topic <name>', 'what nodes look for one another by in DHTs (default: koinon-mesh)', parseTopic)
    .option('--allow <peer>', 'connect to these peers and to nobody else (repeatable)', collect(parsePeerId))
    .option('--net-config <file>', 'settings of the network, as a JSON object (docs/reference/transports.md)')
}

type NetConfig = Required<
  Pick<
    NodeConfig,
    'peers' | 'listen' | 'planePort' | 'transport' | 'allow' | 'relay' | 'mapPorts' | 'stun' | 'external' | 'dht'
  >
> &
  Pick<NodeConfig, 'settings' | 'region' | 'mainline' | 'topic' | 'turn'>

/** The parts of a node's configuration that these options decide. @throws CliError CLI_USAGE; NetError NET_SETTINGS_INVALID */
export async function netConfig(flags: NetFlags): Promise<NetConfig> {
  const settings = flags.netConfig === undefined ? undefined : await readSettings(flags.netConfig)
  return {
    peers: flags.peer ?? [],
    listen: flags.listen?.includes('none') === true ? [] : (flags.listen ?? listenAddresses(flags)),
    planePort: flags.planePort,
    transport: flags.transport,
    relay: flags.relay,
    ...(flags.region === undefined ? {} : { region: flags.region }),
    mapPorts: flags.mapPorts,
    stun: flags.stun ?? [],
    external: flags.external ?? [],
    ...(flags.turn === undefined ? {} : { turn: readTurn(flags.turn) }),
    dht: flags.dht,
    ...mainlineConfig(flags),
    ...(flags.topic === undefined ? {} : { topic: flags.topic }),
    allow: flags.allow ?? [],
    ...(settings === undefined ? {} : { settings }),
  }
}

/** Where the node takes peers of the local machine alone, its place in the DHT is there too. */
function mainlineConfig(flags: NetFlags): Pick<NodeConfig, 'mainline'> {
  const { mainline: port, mainlineBootstrap, listen = listenAddresses(flags) } = flags
  if (port === undefined) {
    if (mainlineBootstrap !== undefined) throw usageError('--mainline-bootstrap needs --mainline')
    return {}
  }
  const isLocal = listen.length > 0 && listen.every(isOfThisMachine)
  const bootstrap = mainlineBootstrap?.map(nameText) ?? MAINLINE_ROUTERS
  return { mainline: { port, hosts: isLocal ? ['127.0.0.1'] : ['0.0.0.0', '::'], bootstrap } }
}

function nameText({ host, port }: StunName): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** TCP first: it is the address that people copy. */
function listenAddresses({ transport, port }: NetFlags): readonly string[] {
  const [host, at] = port === undefined ? ['127.0.0.1', 0] : ['0.0.0.0', port]
  return [
    ...(transport === 'quic' ? [] : [`/ip4/${host}/tcp/${at}`]),
    ...(transport === 'tcp' ? [] : [`/ip4/${host}/udp/${at}/quic-v1`]),
  ]
}

/** In a file, and not among the arguments, which others can see. */
function readTurn(file: string): NonNullable<NodeConfig['turn']> {
  const given = turnSchema.safeParse(readJsonFile(file, { bytesMax: NET_CONFIG_BYTES_MAX }))
  if (given.success) {
    const { server, ...account } = given.data
    return { ...parseStun(server), ...account }
  }
  const [issue] = given.error.issues
  throw usageError(`${file} names no TURN server: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`.trim())
}

async function readSettings(file: string): Promise<NodeConfig['settings']> {
  const given = readJsonFile(file, { bytesMax: NET_CONFIG_BYTES_MAX })
  // Checked before anything is started. The module brings libp2p along, which other commands do without.
  const { checkSettings } = await import('#net')
  checkSettings(given)
  return given as NonNullable<NodeConfig['settings']>
}
