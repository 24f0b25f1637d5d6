/**
 * A disk that gets full: a small file system in memory, in a mount namespace of the one node that runs on it. It goes away with
 * the node, however that ends. Needs no rights where users may make namespaces.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { systemClock } from '#base'
import { createLocalClient } from '#cli'
import type { SwarmNode } from '../../tools/swarm.ts'
import { temporaryDir } from './command.ts'

/** DIRECTORY SIZE BALLAST COMMAND...: mounts, takes room with something that may go, and becomes the command. */
const SCRIPT = `
set -e
mount -t tmpfs -o "size=$2,mode=0700" tmpfs "$1"
head -c "$3" /dev/zero > "$1/ballast"
shift 3
exec "$@"`

export type SmallDisk = {
  /** Where it is, for the node alone. */
  readonly path: string
  /** Starts a node that sees it. */
  readonly wrapper: readonly string[]
  /** The same node, as it is reached from here. */
  from(node: SwarmNode): Pick<SwarmNode, 'ready' | 'client'>
  /** Ends what takes room on it beside the node's own files. */
  makeRoom(node: SwarmNode): void
}

/** Why there is none; false where there is. Looks by making one. */
export function smallDiskMissing(t: TestContext): string | false {
  const { status, stderr, error } = inNamespace([temporaryDir(t), '1m', '1', 'true'])
  if (status === 0) return false
  return `a file system in memory needs Linux, unshare and mount: ${error?.message ?? stderr.trim()}`
}

/** @param sizes in bytes; the ballast is a part of the whole */
export function makeSmallDisk(t: TestContext, sizes: { readonly size: number; readonly ballast: number }): SmallDisk {
  const path = join(temporaryDir(t), 'disk')
  mkdirSync(path)
  const seenBy = ({ ready }: SwarmNode, inside: string): string => `/proc/${ready.pid}/root${inside}`
  return {
    path,
    wrapper: wrapperOf([path, String(sizes.size), String(sizes.ballast)]),
    from: node => {
      const socket = seenBy(node, node.ready.socket)
      const dataDir = seenBy(node, node.ready.dataDir)
      const client = createLocalClient({ clock: systemClock }, { socket, dataDir })
      return { ready: { ...node.ready, socket, dataDir }, client }
    },
    makeRoom: node => rmSync(seenBy(node, join(path, 'ballast'))),
  }
}

function wrapperOf(args: readonly string[]): string[] {
  // As root it works where users may make no namespaces; as another user one has to be root within them.
  const namespaces = process.getuid?.() === 0 ? ['--mount'] : ['--mount', '--map-root-user']
  return ['unshare', ...namespaces, 'sh', '-c', SCRIPT, 'sh', ...args]
}

function inNamespace(args: readonly string[]): ReturnType<typeof spawnSync> & { readonly stderr: string } {
  const [program = '', ...rest] = wrapperOf(args)
  return spawnSync(program, rest, { encoding: 'utf8', timeout: 10_000 })
}
