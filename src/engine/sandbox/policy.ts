/** Which files an engine child may open: its model, the program, the libraries below it, and little of the system. */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { getCompileCacheDir } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ChildRole } from '../child/protocol.ts'
import type { Rule } from './landlock.ts'

/** What one child is given, by its node. */
export type SandboxRequest = {
  /** Absolute paths of files: what it computes with. */
  readonly reads: readonly string[]
  /** Absolute paths of files that exist. */
  readonly writes: readonly string[]
  readonly device: 'auto' | 'cpu' | 'gpu'
  readonly role: ChildRole
}

/** The root of the program: where `src` and `package.json` lie. */
const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

function wordsOf(text: string): readonly string[] {
  return text.split(' ')
}

/**
 * The system, as far as computing needs it: how many processors and how much memory there are, how large pages may be.
 * Not all of /proc: there the environments of other processes can be read.
 */
const SYSTEM = wordsOf(
  '/etc/ld.so.cache /proc/self /proc/meminfo /proc/cpuinfo /proc/stat /proc/sys/vm /sys/devices/system ' +
    '/sys/kernel/mm /sys/fs/cgroup /dev/null',
)

/** What the drivers of graphics cards read beyond that. */
const GPU_FILES = wordsOf(
  '/usr/lib /usr/lib64 /lib /lib64 /usr/local/cuda /opt/rocm /usr/share/vulkan /etc/vulkan ' +
    '/usr/share/nvidia /usr/share/drirc.d /proc/driver /proc/devices /proc/modules /sys/class /sys/bus ' +
    '/sys/dev /sys/devices /sys/module',
)

const GPU_DEVICES = /^(?:nvidia.*|dri|kfd|dxg)$/

/** Devices of graphics cards: none where the child has no use for them. */
export function gpuDevices({ device }: SandboxRequest): readonly string[] {
  if (device === 'cpu' || !hasGpuPackage()) return []
  return readdirSync('/dev')
    .filter(name => GPU_DEVICES.test(name))
    .map(name => join('/dev', name))
}

/** Every file rule of a child. @param gpus what `gpuDevices` returned */
export function rulesFor(request: SandboxRequest, gpus: readonly string[]): readonly Rule[] {
  const libraries = mappedLibraries()
  const compiled = getCompileCacheDir()
  const read = [
    ...request.reads,
    join(ROOT, 'src'),
    join(ROOT, 'package.json'),
    ...nodeModules(),
    ...(compiled === undefined ? [] : [compiled]),
    ...new Set(libraries.map(path => dirname(path))),
    ...SYSTEM,
    ...(gpus.length > 0 ? GPU_FILES : []),
  ]
  // The kernel opens the dynamic linker for the program that it starts.
  const run = [process.execPath, ...libraries.filter(path => /\/ld[-.\w]*\.so[.\d]*$/.test(path))]
  return [
    ...read.map((path): Rule => ({ path, may: 'read' })),
    ...run.map((path): Rule => ({ path, may: 'execute' })),
    ...request.writes.map((path): Rule => ({ path, may: 'write' })),
    ...gpus.map((path): Rule => ({ path, may: 'device' })),
  ]
}

/** The shared libraries of this process, which are those of the next one too: wherever this system keeps them. */
function mappedLibraries(): readonly string[] {
  const maps = readFileSync('/proc/self/maps', 'utf8')
  return [...new Set([...maps.matchAll(/ (\/\S+\.so(?:\.[\d.]+)?)$/gm)].map(match => match[1] ?? ''))]
}

/** Where packages are looked for: beside the program, and in the directories above it. */
function nodeModules(): readonly string[] {
  const found: string[] = []
  for (let folder = ROOT; ; folder = dirname(folder)) {
    const modules = join(folder, 'node_modules')
    if (existsSync(modules)) found.push(realpathSync(modules))
    if (dirname(folder) === folder) return found
  }
}

function hasGpuPackage(): boolean {
  return nodeModules().some(modules => {
    const folder = join(modules, '@node-llama-cpp')
    return existsSync(folder) && readdirSync(folder).some(name => /-(?:cuda|vulkan)/.test(name))
  })
}
