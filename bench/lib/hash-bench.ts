/**
 * Hashing a model file beside `sha256sum` on the same file: how fast a core of a node's adds a model. Both read from the
 * page cache and take turns, and the time that counts is the processor's, since other programs may run beside them.
 */
import { spawnSync } from 'node:child_process'
import { openFileSource } from '../../src/storage/index.ts'
import { median } from './report.ts'

export type HashBench = {
  /** Bytes of the file per second of processor time, all hashes of its tree included. */
  readonly bytesPerSecondPerCore: number
  readonly sha256sumBytesPerSecond: number
  /** The first over the second: the median of the turns' ratios. */
  readonly ratio: number
}

/** @param options.rounds turns of each, after one that fills the page cache @throws Error where there is no `sha256sum` */
export async function benchHash(path: string, { rounds }: { readonly rounds: number }): Promise<HashBench> {
  await ownRound(path)
  const turns: Array<{ own: number; theirs: number }> = []
  for (let round = 0; round < rounds; round++) {
    const theirs = sha256sumRound(path)
    turns.push({ own: await ownRound(path), theirs })
  }
  return {
    bytesPerSecondPerCore: median(turns.map(turn => turn.own)),
    sha256sumBytesPerSecond: median(turns.map(turn => turn.theirs)),
    ratio: median(turns.map(turn => turn.own / turn.theirs)),
  }
}

/** @returns bytes per second of processor time of all threads of this process, which does nothing else */
async function ownRound(path: string): Promise<number> {
  const source = await openFileSource(path)
  try {
    const before = process.cpuUsage()
    await source.hash()
    const { user, system } = process.cpuUsage(before)
    return (source.size / (user + system)) * 1e6
  } finally {
    await source.close()
  }
}

function sha256sumRound(path: string): number {
  // The shell's `times` names the processor time of what it has run: the second line, "0m1.234s 0m0.567s".
  const { stdout, stderr, status } = spawnSync(
    'bash',
    ['-c', 'sha256sum -- "$1" >&2 && stat -c %s -- "$1" && times', '-', path],
    {
      encoding: 'utf8',
    },
  )
  const [size, , children] = stdout.split('\n')
  const seconds = [...(children ?? '').matchAll(/(\d+)m([\d.]+)s/g)].map(
    match => Number(match[1]) * 60 + Number(match[2]),
  )
  if (status !== 0 || seconds.length !== 2) throw new Error(`cannot run sha256sum: ${stderr.trim()}`)
  return Number(size) / seconds.reduce((sum, value) => sum + value, 0)
}
