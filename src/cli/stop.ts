/** `koinon stop`: asks the running node to stop and waits until it has. */
import type { Command } from 'commander'
import { sleep } from '#base'
import { lockHolder } from '#storage'
import { addDataDirOption, clientOf, type DataDirFlags, dataDirOf } from './data-dir.ts'
import { CliError } from './errors.ts'
import { DRAIN_S_MAX, STOP_MS_MAX } from './limits.ts'
import type { LocalClient } from './local-client.ts'
import type { CliDeps } from './types.ts'

const POLL_PERIOD_MS = 50

/** Whatever the node's `--drain` is. */
const WAIT_MS_MAX = DRAIN_S_MAX * 1000 + STOP_MS_MAX

export function addStop(program: Command, deps: CliDeps): void {
  const command = program
    .command('stop')
    .description('stop the running node')
    .addHelpText('after', '\nExamples:\n  $ koinon stop\n  $ koinon stop --data-dir ./node-b')
  addDataDirOption(command).action(async (flags: DataDirFlags) => {
    const client = await clientOf(deps, flags)
    const { pid } = await client.status()
    // The process of a node in a container goes by another id there: no process of ours says how that one fares.
    const isOurs = isRunning(pid)
    const dataDir = dataDirOf(deps, flags)
    const isLocked = (): boolean => lockHolder(dataDir) === pid && (!isOurs || isRunning(pid))
    await client.stop()
    await waitUntilGone(deps, client, isLocked)
    deps.stderr.write(`The node (process ${pid}) has stopped.\n`)
  })
}

/** Until nobody listens at the socket and, which is later, another node may use the data directory. */
async function waitUntilGone(deps: CliDeps, client: LocalClient, isLocked: () => boolean): Promise<void> {
  const deadline = deps.clock.monotonic() + WAIT_MS_MAX
  while (deps.clock.monotonic() < deadline) {
    try {
      await client.status()
    } catch (error) {
      // A connection that breaks off half-way is a node on its way out: the next turn finds no socket.
      if (error instanceof CliError && error.code === 'CLI_NO_NODE' && !isLocked()) return
    }
    await sleep(deps.clock, POLL_PERIOD_MS)
  }
  const fault = { code: 'CLI_NODE_SILENT', timeoutMs: WAIT_MS_MAX } as const
  throw new CliError(fault, 'the node agreed to stop but is still there')
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM' // It is another user's.
  }
}
