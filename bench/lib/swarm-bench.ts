/**
 * Weights between real nodes on loopback, beside Debian's libtorrent with the same file in the same run: one seeder to one
 * leecher, one seeder to four at a capped upload, hashing beside sha256sum, and the memory of a node that pulls 4 GB.
 */
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { modelId, readGguf, torrentOf } from '#formats'
import { openFileSource } from '#storage'
import type { ModelDetails } from '#wire'
import { LibtorrentPeer } from '../../test/support/libtorrent-swarm.ts'
import { startSwarm, type Swarm, type SwarmNode } from '../../tools/swarm.ts'
import type { ModelLessOptions } from '../main.ts'
import { writeBigGguf } from './big-gguf.ts'
import { benchHash } from './hash-bench.ts'
import { median, type Result } from './report.ts'

const MIB = 1024 * 1024
/** Of the file that one leecher fetches from one seeder. */
const PAIR_BYTES = 512 * MIB
/** Of the file that four fetch at a cap: long enough that the start does not count. */
const FAN_BYTES = 320 * MIB
const FAN_CAP_MIB = 20
const FAN_LEECHERS = 4
/** Of the file whose puller's memory is looked at. */
const MEMORY_BYTES = 4000 * MIB

/** A model on a node that has it whole. */
type Seeder = { readonly swarm: Swarm; readonly node: SwarmNode; readonly details: ModelDetails }

export async function benchSwarm({ rounds }: Pick<ModelLessOptions, 'rounds'>): Promise<Result> {
  assertTools()
  const directory = await mkdtemp(join(tmpdir(), 'koinon-bench-swarm-'))
  try {
    const pair = await benchPair(directory, rounds)
    const fan = await benchFan(directory)
    const hash = await benchHash(pair.file, { rounds })
    say(`hash: ${hash.ratio.toFixed(2)} of sha256sum`)
    const rssMib = await benchMemory(directory)
    return {
      bench: 'swarm',
      figures: {
        koinon_mib_s: pair.ours,
        libtorrent_mib_s: pair.theirs,
        fanout4_s: fan.fourS,
        fanout1_s: fan.oneS,
        hash_mib_s: hash.bytesPerSecondPerCore / MIB,
        sha256sum_mib_s: hash.sha256sumBytesPerSecond / MIB,
        rss_mib: rssMib,
      },
      ratios: { vs_libtorrent: pair.ours / pair.theirs, fanout4: fan.fourS / fan.oneS, hash: hash.ratio },
      goals: [
        { name: 'vs_libtorrent', atLeast: 1 },
        { name: 'fanout4', atMost: 1.5 },
        { name: 'hash', atLeast: 0.8 },
        { name: 'rss_mib', atMost: 300 },
      ],
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** @throws Error that says what to install */
function assertTools(): void {
  const has = (command: string, ...args: string[]): boolean =>
    spawnSync(command, args, { stdio: 'ignore' }).status === 0
  if (!has('/usr/bin/python3', '-c', 'import libtorrent'))
    throw new Error('this needs libtorrent to compare with: apt-get install python3-libtorrent')
  if (!has('sha256sum', '--version')) throw new Error('this needs sha256sum to compare with')
}

/** Rounds of ours and of libtorrent's, in turn. MiB of verified bytes a second. */
async function benchPair(
  directory: string,
  rounds: number,
): Promise<{ readonly ours: number; readonly theirs: number; readonly file: string }> {
  const seedDir = join(directory, 'seed')
  const file = await writeSeedFolder(seedDir)
  const seeder = await startSeeder(file)
  try {
    const torrentFile = join(directory, 'pair.torrent')
    await writeFile(torrentFile, await seeder.node.client.weights.torrent(seeder.details.id))
    const leecher = await seeder.swarm.add({ layers: 'none' })
    const [ours, theirs]: [number[], number[]] = [[], []]
    for (let round = 0; round < rounds; round++) {
      const { bytes, seconds, secondsFromCall } = await pull(leecher, seeder.details.id)
      await leecher.client.weights.remove(seeder.details.id)
      ours.push(bytes / MIB / seconds)
      theirs.push(await libtorrentRound({ torrentFile, seedDir, target: join(directory, `libtorrent-${round}`) }))
      const rates = `${ours.at(-1)?.toFixed(0)} MiB/s, libtorrent ${theirs.at(-1)?.toFixed(0)} MiB/s`
      say(`pair, round ${round + 1}: ${rates}; ${(secondsFromCall - seconds).toFixed(2)} s before for the description`)
    }
    return { ours: median(ours), theirs: median(theirs), file }
  } finally {
    await seeder.swarm.stop()
  }
}

/** Seconds until four leechers, and until one leecher has it all, every upload capped. */
async function benchFan(directory: string): Promise<{ readonly fourS: number; readonly oneS: number }> {
  const args = ['--upload-max', `${FAN_CAP_MIB}MiB`]
  const file = join(directory, 'fan.gguf')
  await writeBigGguf(file, FAN_BYTES)
  const seeder = await startSeeder(file, args)
  try {
    const { id } = seeder.details
    const leechers: SwarmNode[] = []
    for (let i = 0; i < FAN_LEECHERS; i++) leechers.push(await seeder.swarm.add({ layers: 'none', args }))
    const [first] = leechers
    if (first === undefined) throw new TypeError('there is a leecher')
    const oneS = (await pull(first, id)).secondsFromCall
    await first.client.weights.remove(id)
    const ends = await Promise.all(leechers.map(leecher => pull(leecher, id)))
    const fourS = Math.max(...ends.map(({ secondsFromCall }) => secondsFromCall))
    say(`fan-out: one ${oneS.toFixed(1)} s, four ${fourS.toFixed(1)} s`)
    return { oneS, fourS }
  } finally {
    await seeder.swarm.stop()
  }
}

/** MiB that the puller's process had in memory at its highest (VmHWM); NaN where the system does not tell. */
async function benchMemory(directory: string): Promise<number> {
  const file = join(directory, 'memory.gguf')
  await writeBigGguf(file, MEMORY_BYTES)
  const seeder = await startSeeder(file)
  try {
    const leecher = await seeder.swarm.add({ layers: 'none' })
    await pull(leecher, seeder.details.id)
    const { pid } = await leecher.client.status()
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    const kib = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1])
    say(`memory: ${(kib / 1024).toFixed(0)} MiB`)
    return kib / 1024
  } finally {
    await seeder.swarm.stop()
  }
}

async function startSeeder(file: string, args: readonly string[] = []): Promise<Seeder> {
  const swarm = await startSwarm({ nodes: [{ layers: 'auto', args }] })
  try {
    const [node] = swarm.nodes
    if (node === undefined) throw new TypeError('a swarm has a node')
    const { signal } = new AbortController()
    for await (const answer of node.client.weights.add({ file }, { signal })) {
      if (answer.kind === 'added') return { swarm, node, details: answer.model }
    }
    throw new Error('the model was not added')
  } catch (error) {
    await swarm.stop()
    throw error
  }
}

type Pulled = {
  readonly bytes: number
  /**
   * From the moment on when the model's description is known, with nobody connected about it, until every byte is verified and
   * stored: what a client counts that was given a .torrent file. The trial of what has come is no part of it.
   */
  readonly seconds: number
  /** The same from the call on, so with the description's way here. */
  readonly secondsFromCall: number
}

async function pull(node: SwarmNode, model: string): Promise<Pulled> {
  const startedAt = performance.now()
  let secondsFromCall = Number.NaN
  for await (const answer of node.client.weights.pull({ model }, { signal: new AbortController().signal })) {
    if (answer.kind === 'pulled') return { bytes: answer.end.wantedBytes, seconds: answer.end.seconds, secondsFromCall }
    const isOver = answer.kind === 'progress' && answer.progress.phase === 'checking'
    if (isOver && Number.isNaN(secondsFromCall)) secondsFromCall = (performance.now() - startedAt) / 1000
  }
  throw new Error('the model was not pulled')
}

/** A folder as a client lays the model's torrent out, that has all of it. @returns the model's file in it */
async function writeSeedFolder(seedDir: string): Promise<string> {
  await mkdir(seedDir)
  const written = join(seedDir, 'written.gguf')
  await writeBigGguf(written, PAIR_BYTES)
  const source = await openFileSource(written)
  const { core } = await modelId(source, await readGguf(source))
  await source.close()
  const folder = join(seedDir, torrentOf(core).name)
  await mkdir(folder)
  await writeFile(join(folder, 'core.cbor'), core)
  // Not a link: the node that shares the file would see that something was done to it, and share it no more.
  const file = join(folder, 'model.gguf')
  await rename(written, file)
  return file
}

type Places = { readonly torrentFile: string; readonly seedDir: string; readonly target: string }

async function libtorrentRound({ torrentFile, seedDir, target }: Places): Promise<number> {
  await mkdir(target)
  // Without encryption, which would slow it down.
  const seed = new LibtorrentPeer(['seed', torrentFile, seedDir, '0', '--plain'])
  try {
    const { port } = await seed.event('listening')
    await seed.event('ready')
    const leech = new LibtorrentPeer(['leech', torrentFile, target, '0', `127.0.0.1:${String(port)}`, '--plain'])
    try {
      const { rate } = await leech.event('done')
      return Number(rate) / MIB
    } finally {
      await leech.stop()
    }
  } finally {
    await seed.stop()
    await rm(target, { recursive: true, force: true })
  }
}

function say(line: string): void {
  console.error(line)
}
