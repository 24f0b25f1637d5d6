/** Network namespaces for tests: a client, its gateway, and a machine outside. What the gateway does is the test's. */
import { spawnSync } from 'node:child_process'
import { systemRandom } from '#base'

/** How often a link is looked at until it is up; each look takes milliseconds. */
const LOOKS_MAX = 2_000

/** Runs a program to its end. @throws Error with what it said where it fails */
export function runTool(program: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: 10_000 })
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`)
  return stdout
}

export type GatewayNamespaces = {
  readonly gateway: string
  readonly client: string
  /** A machine with the addresses 198.51.100.1 and 198.51.100.2. */
  readonly internet: string
  /** The gateway's interfaces. */
  readonly inside: string
  readonly outside: string
  remove(): void
}

/** Why namespaces cannot be made here; undefined where they can. Looks by making one. */
export function namespacesMissing(): string | undefined {
  const probe = `kn${systemRandom.uint32().toString(16)}`
  try {
    runTool('ip', 'netns', 'add', probe)
    try {
      runTool('ip', 'netns', 'exec', probe, 'nft', 'add', 'table', 'inet', 'probe')
    } finally {
      runTool('ip', 'netns', 'del', probe)
    }
    return undefined
  } catch (error) {
    return `network namespaces with nftables need root, ip and nft: ${error instanceof Error ? error.message : String(error)}`
  }
}

/** Client 192.168.77.2; its gateway 192.168.77.1, outside 198.51.100.7, which forwards but translates nothing yet. */
export function createGatewayNamespaces(): GatewayNamespaces {
  const id = systemRandom.uint32().toString(16)
  const [gateway, client, internet] = [`kg${id}`, `kc${id}`, `kn${id}`]
  const [inside, outside] = [`ki${id}`, `ko${id}`]
  runTool('ip', 'netns', 'add', gateway)
  runTool('ip', 'netns', 'add', client)
  runTool('ip', 'netns', 'add', internet)
  const remove = (): void => {
    runTool('ip', 'netns', 'del', internet)
    runTool('ip', 'netns', 'del', client)
    runTool('ip', 'netns', 'del', gateway)
  }
  const namespaces = { gateway, client, internet, inside, outside, remove }
  try {
    connect(namespaces, id)
    return namespaces
  } catch (error) {
    remove()
    throw error
  }
}

function connect({ gateway, client, internet, inside, outside }: GatewayNamespaces, id: string): void {
  const link = `kl${id}`
  const inGateway = (...args: string[]): string => runTool('ip', '-n', gateway, ...args)
  const inClient = (...args: string[]): string => runTool('ip', '-n', client, ...args)
  runTool('ip', 'link', 'add', inside, 'netns', gateway, 'type', 'veth', 'peer', 'name', link, 'netns', client)
  inGateway('addr', 'add', '192.168.77.1/24', 'dev', inside)
  inGateway('link', 'set', inside, 'up')
  inGateway('link', 'set', 'lo', 'up')
  const far = `kf${id}`
  runTool('ip', 'link', 'add', outside, 'netns', gateway, 'type', 'veth', 'peer', 'name', far, 'netns', internet)
  const inInternet = (...args: string[]): string => runTool('ip', '-n', internet, ...args)
  for (const address of ['198.51.100.1/24', '198.51.100.2/24']) inInternet('addr', 'add', address, 'dev', far)
  inInternet('link', 'set', far, 'up')
  inInternet('link', 'set', 'lo', 'up')
  // So that tests can do without translation too.
  inInternet('route', 'add', '192.168.77.0/24', 'via', '198.51.100.7')
  runTool('ip', 'netns', 'exec', gateway, 'sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
  inGateway('addr', 'add', '198.51.100.7/24', 'dev', outside)
  inGateway('link', 'set', outside, 'up')
  inClient('addr', 'add', '192.168.77.2/24', 'dev', link)
  inClient('link', 'set', link, 'up')
  inClient('link', 'set', 'lo', 'up')
  inClient('route', 'add', 'default', 'via', '192.168.77.1')
  // The kernel says a little later that a link is up, and programs do not see the interface before.
  const areUp = (): boolean => [inClient('link', 'show', link), inInternet('link', 'show', far)].every(isUp)
  for (let looks = 0; !areUp(); looks++) {
    if (looks === LOOKS_MAX) throw new Error('the links do not come up')
  }
}

function isUp(shown: string): boolean {
  return shown.includes('state UP')
}
