/**
 * What `koinon doctor` looks at. Each check is a question with one line of answer, and advice where something can be
 * done. Facts about the machine are read here; what needs the engine is given as functions.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { dirname } from 'node:path'
import { formatBytes, messageOf } from '#base'
import type { EngineDescription, SandboxProof } from '#engine'
import { countOf } from './units.ts'

export type DoctorCheck = {
  readonly name: string
  /** `warn` is worth knowing, `fail` keeps Koinon from working. */
  readonly state: 'ok' | 'warn' | 'fail'
  readonly text: string
  /** What to do, one command or sentence. */
  readonly advice?: string
}

export type DoctorDeps = {
  readonly dataDir: string
  /** @throws where no engine package fits this machine */
  readonly describeEngine: () => Promise<EngineDescription>
  /** @throws where no engine starts */
  readonly proveSandbox: () => Promise<SandboxProof>
  /** Runs one token through the built-in model. @returns "Storyteller answers in 0.8 s" @throws where it cannot */
  readonly tryModel: () => Promise<string>
}

const NODE_MAJOR_MIN = 24
const GLIBC_MIN = [2, 34] as const
const MEMORY_BYTES_GOOD = 2e9

export async function* doctorChecks(deps: DoctorDeps): AsyncGenerator<DoctorCheck> {
  yield checkNode(process.versions.node)
  yield checkPlatform(process.platform, process.arch, glibcVersion())
  yield checkCores(availableParallelism(), cpus().length)
  yield checkMemory(process.availableMemory(), totalmem())
  yield checkDataDir(deps.dataDir)
  const engine = await checkEngine(deps.describeEngine)
  yield engine.check
  if (engine.description !== undefined) {
    yield* checkDevices(engine.description)
    yield* checkGpu(engine.description, gpusPresent(existsSync))
    yield await checkSandbox(deps.proveSandbox)
  }
  yield await checkModel(deps.tryModel)
}

export function checkNode(version: string): DoctorCheck {
  const isNew = Number(version.split('.')[0]) >= NODE_MAJOR_MIN
  const check = { name: 'Node.js', text: version } as const
  return isNew ? { ...check, state: 'ok' } : { ...check, state: 'fail', advice: 'install Node.js 24 or newer' }
}

/** @param glibc its version, undefined where the C library is another one (musl) or the system is no Linux */
export function checkPlatform(platform: string, arch: string, glibc: string | undefined): DoctorCheck {
  const name = 'Platform'
  const text = `${platform} ${arch}`
  if (platform !== 'linux') {
    const isKnown = platform === 'darwin' || platform === 'win32'
    return isKnown
      ? { name, state: 'ok', text }
      : { name, state: 'fail', text, advice: 'there are engine packages for Linux, macOS and Windows' }
  }
  if (glibc === undefined) {
    return {
      name,
      state: 'fail',
      text: `${text}, not glibc`,
      advice: 'use a system with glibc 2.34 or newer (no musl)',
    }
  }
  const [major = 0, minor = 0] = glibc.split('.').map(Number)
  const isNew = major > GLIBC_MIN[0] || (major === GLIBC_MIN[0] && minor >= GLIBC_MIN[1])
  const withGlibc = `${text}, glibc ${glibc}`
  return isNew
    ? { name, state: 'ok', text: withGlibc }
    : { name, state: 'fail', text: withGlibc, advice: `the engine needs glibc ${GLIBC_MIN.join('.')} or newer` }
}

function glibcVersion(): string | undefined {
  if (process.platform !== 'linux') return undefined
  const report = process.report.getReport() as { readonly header?: { readonly glibcVersionRuntime?: string } }
  return report.header?.glibcVersionRuntime
}

export function checkCores(allowed: number, present: number): DoctorCheck {
  const limited = allowed < present ? ` of ${present} (the rest is not allowed to this process)` : ''
  return { name: 'Cores', state: 'ok', text: `${allowed}${limited}` }
}

export function checkMemory(available: number, total: number): DoctorCheck {
  const text = `${formatBytes(available)} available of ${formatBytes(total)}`
  return available >= MEMORY_BYTES_GOOD
    ? { name: 'Memory', state: 'ok', text }
    : {
        name: 'Memory',
        state: 'warn',
        text,
        advice: 'little is left for model weights; close something, or use --memory',
      }
}

/** Whether a node could keep its things there: the directory, or the nearest one above that exists, can be written. */
export function checkDataDir(dataDir: string): DoctorCheck {
  const name = 'Data'
  let folder = dataDir
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder)
  try {
    if (!statSync(folder).isDirectory()) throw new Error(`${folder} is not a directory`)
    accessSync(folder, constants.W_OK | constants.X_OK)
  } catch (error) {
    return { name, state: 'fail', text: `${dataDir}: ${messageOf(error)}`, advice: 'choose another with --data-dir' }
  }
  const isShared = folder === dataDir && process.platform !== 'win32' && (statSync(dataDir).mode & 0o077) !== 0
  if (isShared) {
    return { name, state: 'warn', text: `${dataDir} is open to other users`, advice: `chmod 700 ${dataDir}` }
  }
  return { name, state: 'ok', text: folder === dataDir ? dataDir : `${dataDir} (will be made)` }
}

async function checkEngine(
  describe: () => Promise<EngineDescription>,
): Promise<{ readonly check: DoctorCheck; readonly description?: EngineDescription }> {
  const name = 'Engine'
  try {
    const description = await describe()
    const { version, commit, cpuVariant } = description
    const text = `llama.cpp ${version} (ggml ${commit}), CPU code for ${cpuVariant}\n${description.package}`
    return { check: { name, state: 'ok', text }, description }
  } catch (error) {
    const advice = 'run `npm install` again, without --omit=optional'
    return { check: { name, state: 'fail', text: messageOf(error), advice } }
  }
}

/** What an engine could do to this machine, as it found out by trying. */
export async function checkSandbox(prove: () => Promise<SandboxProof>): Promise<DoctorCheck> {
  const name = 'Engine sandbox'
  try {
    const { text, missing, attempts, escapes } = await prove()
    const refused = `${attempts.length - escapes.length} of ${attempts.length} attempts to break out were refused`
    if (escapes.length === 0 && missing.length === 0) return { name, state: 'ok', text: `${text}\n${refused}` }
    const went = escapes.map(({ attempt }) => attempt).slice(0, 3)
    const advice = 'models of strangers: run Koinon as a user of its own (docs/reference/sandbox.md)'
    const through = went.length === 0 ? '' : `; an engine can ${went.join(', ')}`
    return { name, state: 'warn', text: `${text}\n${refused}${through}`, advice }
  } catch (error) {
    return { name, state: 'fail', text: messageOf(error) }
  }
}

export type GpuKind = 'nvidia' | 'other'

/** GPUs that the system shows, by the files of their drivers. @param exists whether a path is there */
export function gpusPresent(exists: (path: string) => boolean): readonly GpuKind[] {
  const kinds: GpuKind[] = []
  if (exists('/dev/nvidiactl') || exists('/proc/driver/nvidia/version')) kinds.push('nvidia')
  else if (exists('/dev/dri/renderD128')) kinds.push('other')
  return kinds
}

/** Back ends that compute on the CPU too. */
const CPU_DEVICE = /^(?:CPU|BLAS|AMX)/

function checkDevices({ devices, device }: EngineDescription): readonly DoctorCheck[] {
  const text = devices.map(
    ({ name, description, memoryFree, memoryTotal }) =>
      `${name}: ${description.trim()}, ${formatBytes(memoryFree)} of ${formatBytes(memoryTotal)} free`,
  )
  return [{ name: 'Devices', state: 'ok', text: [...text, `models go to ${device} first`].join('\n') }]
}

/** Says how to use a GPU that is there but not used. Packages for GPUs are too large to be dependencies. */
export function checkGpu(
  engine: Pick<EngineDescription, 'package' | 'devices'>,
  present: readonly GpuKind[],
): readonly DoctorCheck[] {
  if (engine.devices.some(device => !CPU_DEVICE.test(device.name))) return []
  const [base = '', version = ''] = engine.package.split(' ')
  return present.map(kind => {
    const variant = kind === 'nvidia' ? 'cuda' : 'vulkan'
    const text = kind === 'nvidia' ? 'an NVIDIA GPU is there but not used' : 'a GPU is there but not used'
    return { name: 'GPU', state: 'warn', text, advice: `npm install --no-save ${base}-${variant}@${version}` }
  })
}

async function checkModel(tryModel: () => Promise<string>): Promise<DoctorCheck> {
  const name = 'Built-in model'
  try {
    return { name, state: 'ok', text: await tryModel() }
  } catch (error) {
    return { name, state: 'fail', text: messageOf(error) }
  }
}

/** "Everything works.", or how much does not. */
export function doctorVerdict(checks: readonly DoctorCheck[]): string {
  const failed = checks.filter(check => check.state === 'fail').length
  const warned = checks.filter(check => check.state === 'warn').length
  if (failed > 0) return `${countOf(failed, 'problem')} to solve.`
  return warned > 0 ? `Works, with ${countOf(warned, 'remark')}.` : 'Everything works.'
}
