/** The options of `up` that say how the node reaches others, and whom. */
import { readFileSync, statSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { messageOf } from '#base'
import type { NodeConfig } from '#node'
import type { RelayMode } from '#wire'
import { usageError } from './errors.ts'
import { NET_CONFIG_BYTES_MAX } from './limits.ts'
import { collect, integerIn, parseListen, parseMultiaddr, parsePeerId, parsePlanePort, parseRegion } from './parse.ts'

/** As commander hands them over. */
export type NetFlags = {
  readonly transport: NonNullable<NodeConfig['transport']>
  readonly peer?: readonly string[]
  readonly listen?: readonly string[]
  readonly port?: number
  readonly planePort: number | 'off'
  readonly relay: RelayMode
  readonly region?: string
  readonly allow?: readonly string[]
  readonly netConfig?: string
}

/** Where `--port` listens when no number follows. */
const PORT_DEFAULT = 30_906

const MODES = ['dual', 'quic', 'tcp'] as const

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
    .option('--allow <peer>', 'connect to these peers and to nobody else (repeatable)', collect(parsePeerId))
    .option('--net-config <file>', 'settings of the network, as a JSON object (docs/reference/transports.md)')
}

type NetConfig = Required<Pick<NodeConfig, 'peers' | 'listen' | 'planePort' | 'transport' | 'allow' | 'relay'>> &
  Pick<NodeConfig, 'settings' | 'region'>

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
    allow: flags.allow ?? [],
    ...(settings === undefined ? {} : { settings }),
  }
}

/** TCP first: it is the address that people copy. */
function listenAddresses({ transport, port }: NetFlags): readonly string[] {
  const [host, at] = port === undefined ? ['127.0.0.1', 0] : ['0.0.0.0', port]
  return [
    ...(transport === 'quic' ? [] : [`/ip4/${host}/tcp/${at}`]),
    ...(transport === 'tcp' ? [] : [`/ip4/${host}/udp/${at}/quic-v1`]),
  ]
}

async function readSettings(file: string): Promise<NodeConfig['settings']> {
  const given = readJson(file)
  // Checked before anything is started. The module brings libp2p along, which other commands do without.
  const { checkSettings } = await import('#net')
  checkSettings(given)
  return given as NonNullable<NodeConfig['settings']>
}

function readJson(file: string): unknown {
  try {
    if (statSync(file).size > NET_CONFIG_BYTES_MAX) throw new Error('it is too large')
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw usageError(`the settings of the network cannot be read from ${file}: ${messageOf(error)}`)
  }
}
