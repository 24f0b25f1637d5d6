/** What holds for one engine child, as facts and in words. */
import { formatBytes } from '#base'

export type SandboxFacts = {
  /** No socket can be made. */
  readonly network: boolean
  /** Only named files can be opened, and only the named ones for writing. */
  readonly files: boolean
  /** No other program can be started, and no other process be reached. */
  readonly processes: boolean
  /** Files that the child may read beside the program and its libraries: the model's. */
  readonly reads: number
  readonly writes: number
  /** Devices of graphics cards are open to it. Their drivers map what they like, so memory has no limit then. */
  readonly gpu: boolean
  /** Version of Landlock's interface; 0 where there is none. */
  readonly landlock: number
  /** What does not hold here, as sentences without a full stop. */
  readonly missing: readonly string[]
}

/** A platform for which there is no sandbox here: a process of its own is all there is. */
export function noSandbox(platform: string): SandboxFacts {
  const missing = [
    `there is no sandbox for ${platform}: the engine is a process of its own, with the rights of its user`,
  ]
  return { network: false, files: false, processes: false, reads: 0, writes: 0, gpu: false, landlock: 0, missing }
}

export type SandboxLimits = {
  readonly threads: number
  /** Bytes that the process may write to; undefined: as many as there are. */
  readonly memoryBytes: number | undefined
}

/** "no network, no other programs, reads 1 file, writes none, 2.1 GiB, 2 threads"; then what does not hold. */
export function describeSandbox(facts: SandboxFacts, { threads, memoryBytes }: SandboxLimits): string {
  const held = [
    ...(facts.network ? ['no network'] : []),
    ...(facts.processes ? ['no other programs'] : []),
    ...(facts.files ? [`reads ${filesOf(facts.reads)}`, `writes ${filesOf(facts.writes)}`] : []),
    ...(facts.gpu ? ['graphics card'] : []),
    ...(memoryBytes === undefined ? [] : [formatBytes(memoryBytes)]),
    `${threads} ${threads === 1 ? 'thread' : 'threads'}`,
  ].join(', ')
  return facts.missing.length === 0 ? held : `${held}; but ${facts.missing.join('; ')}`
}

function filesOf(count: number): string {
  if (count === 0) return 'none'
  return count === 1 ? '1 file' : `${count} files`
}
