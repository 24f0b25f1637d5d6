/**
 * Names and lives of network namespaces. A name carries the process that made it (its id and when it started, since ids
 * come again), so that any later lab can tell what was left by a test that was killed, and removes it.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { COMMAND_TIMEOUT_MS } from './limits.ts'
import { cutRules, ipv6Rules, natRules } from './nat-rules.ts'
import { finish, must } from './shell.ts'

const DIRECTORY = '/run/netns'
const PREFIX = 'koinon-lab'

/** Why no lab can be made here, or undefined where one can. */
export function labUnavailable(): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces are a thing of Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  for (const tool of ['sh', 'ip', 'nft', 'nsenter', 'unshare', 'setpriv', 'sysctl']) {
    if (spawnSync(tool, ['--version']).error !== undefined) return `${tool} is not installed`
  }
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun, which delayed links need'
  return kernelLacks()
}

/** Root in a container may not be allowed to, and a kernel may lack a part: so all parts are tried, in a namespace that goes at once. */
function kernelLacks(): string | undefined {
  const devices = 'ip link add b0 type bridge && ip link add v0 type veth peer name v1'
  const settings = { wan: '62.1.1.1', lan: '10.0.0.0/8', ports: 'assign', mappingSeconds: 1, zone: 1, seed: 0 } as const
  const rules = [
    natRules({ ...settings, kind: 'port-restricted', hairpin: true, forwards: [] }),
    natRules({ ...settings, kind: 'symmetric', hairpin: false, forwards: [] }),
    ipv6Rules({ firewall: true, zone: 1 }),
    cutRules('v0'),
  ]
  const { status, stderr } = spawnSync('unshare', ['--net', 'sh', '-c', `${devices} && nft -f -`], {
    input: rules.join('\n'),
    encoding: 'utf8',
    timeout: COMMAND_TIMEOUT_MS,
  })
  return status === 0 ? undefined : `the kernel refuses: ${stderr.split('\n')[0]?.slice(0, 200) ?? ''}`
}

let labCount = 0

/** What the names of one lab begin with. */
export function nextLabPrefix(): string {
  labCount += 1
  return `${PREFIX}-${process.pid}-${startedAt(process.pid) ?? 0}-${labCount}-`
}

export async function makeNamespace(name: string): Promise<void> {
  await must(['ip', 'netns', 'add', name])
}

/** Ends every process in the namespaces, then removes them. What is gone already counts as done. */
export async function removeNamespaces(names: readonly string[]): Promise<void> {
  await Promise.all(names.map(killAllIn))
  for (const name of names) {
    const { code, stderr } = await finish(['ip', 'netns', 'delete', name])
    if (code !== 0 && namespaces().includes(name)) throw new Error(`namespace ${name} stays: ${stderr}`)
  }
}

/** Removes the namespaces of labs whose process is dead. Several labs may do this at once. */
export async function removeStale(): Promise<void> {
  await removeNamespaces(namespaces().filter(isStale))
}

/** Every lab namespace of this machine. */
export function namespaces(): string[] {
  try {
    return readdirSync(DIRECTORY).filter(name => name.startsWith(`${PREFIX}-`))
  } catch {
    return [] // The directory comes with the first namespace.
  }
}

function isStale(name: string): boolean {
  const [pid, start] = name
    .slice(PREFIX.length + 1)
    .split('-')
    .map(Number)
  return pid !== undefined && Number.isSafeInteger(pid) && startedAt(pid) !== start
}

/** When a process started, in ticks since boot (`/proc/PID/stat`, field 22); undefined where there is none. */
function startedAt(pid: number): number | undefined {
  try {
    // The second field is the program's name in brackets and may hold anything, so count from the last bracket.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
  } catch {
    return undefined
  }
}

async function killAllIn(name: string): Promise<void> {
  const { stdout } = await finish(['ip', 'netns', 'pids', name])
  for (const pid of stdout.split('\n').map(Number)) {
    if (!Number.isSafeInteger(pid) || pid <= 1) continue
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It ended between the list and the signal.
    }
  }
}
