/**
 * Finds the shared libraries of llama.cpp that npm installed for this machine, and loads them once per process.
 *
 * The packages are `@node-llama-cpp/<platform>`: plain CPU ones (which carry a library per CPU generation, of which
 * ggml picks the best), and ones with CUDA, Vulkan or Metal beside it. File names carry the release
 * (`libggml.v0.4.0.so`, `ggml.v0.4.0.dll`), so they are found by pattern; what is checked is the version that the
 * library itself states, because results and structure layouts belong to it.
 */
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import koffi from 'koffi'
import { messageOf } from '#base'
import { EngineError } from '../errors.ts'
import { bindGgml, type Ggml } from './binding.ts'

/** What the pinned packages (3.21.1) carry: llama.cpp v0.4.0. */
export const LLAMA_CPP_RELEASE = '0.4.0'
const GGML_VERSION = '0.23.0'
const GGML_COMMIT = '5b4ebc5'

export type Library = {
  readonly ggml: Ggml
  /** Where the shared libraries lie: one directory. */
  readonly directory: string
  /** Absolute path of `libllama` in the same directory. */
  readonly llamaPath: string
  /** The CPU generation that ggml chose code for: "zen4", "haswell", "apple_m1". */
  readonly cpuVariant: string
}

export type PackageSearch = {
  /** Look for packages with a GPU back end first. */
  readonly preferGpu: boolean
  /** Finds a package's entry file, or throws. @default resolution relative to this module */
  readonly resolve?: (name: string) => string
  readonly platform?: NodeJS.Platform
  readonly arch?: string
}

const PLATFORMS: Readonly<Record<string, string>> = { linux: 'linux', darwin: 'mac', win32: 'win' }

const loaded = new Map<string, Library>()

/**
 * Finds and loads ggml with every back end of its package.
 * @throws EngineError ENGINE_NO_BACKEND, ENGINE_VERSION
 */
export function loadLibrary(search: PackageSearch): Library {
  const directory = findLibraryDirectory(search)
  const before = loaded.get(directory)
  if (before !== undefined) return before
  const library = openLibrary(directory)
  loaded.set(directory, library)
  return library
}

/** The directory of the best installed package. @throws EngineError ENGINE_NO_BACKEND */
export function findLibraryDirectory(search: PackageSearch): string {
  const platform = search.platform ?? process.platform
  const arch = search.arch ?? process.arch
  const resolve = search.resolve ?? createRequire(import.meta.url).resolve
  const base = `${PLATFORMS[platform] ?? platform}-${arch}`
  const accelerated = base === 'mac-arm64' ? [`${base}-metal`] : [`${base}-cuda`, `${base}-vulkan`]
  const names = search.preferGpu ? [...accelerated, base] : [base, ...accelerated]
  for (const name of names) {
    try {
      return join(dirname(resolve(`@node-llama-cpp/${name}`)), '..', 'bins', name)
    } catch {
      // Not installed: most are for other machines. The next name is tried, and the end of the list is an error.
    }
  }
  throw new EngineError(
    { code: 'ENGINE_NO_BACKEND', platform: base },
    `no compute library is installed for ${base}: looked for ${names.map(name => `@node-llama-cpp/${name}`).join(', ')}. ${installHint(base)}`,
  )
}

function installHint(platform: string): string {
  if (platform.startsWith('linux') && isMusl()) {
    return 'This system uses musl (Alpine?), for which there are no ready-made libraries; use a glibc-based system or image'
  }
  const known = ['linux-x64', 'linux-arm64', 'mac-arm64', 'mac-x64', 'win-x64', 'win-arm64']
  if (!known.includes(platform)) return `There are libraries for ${known.join(', ')} only`
  return 'Run "npm install" again without "--omit=optional" and on the machine that will compute'
}

function isMusl(): boolean {
  const report = process.report.getReport() as { readonly header?: { readonly glibcVersionRuntime?: string } }
  return report.header?.glibcVersionRuntime === undefined
}

function openLibrary(directory: string): Library {
  const files = listFiles(directory)
  const find = (pattern: RegExp): string => {
    const file = files.find(name => pattern.test(name))
    if (file === undefined) throw noBackend(`${directory} has no file like ${pattern.source}; run "npm install" again`)
    return join(directory, file)
  }
  // A fatal error in ggml writes its text to stderr and aborts. Without this it also starts a debugger to print a
  // backtrace, which takes seconds. (A callback of ours cannot take the text: ggml may call it from its own threads
  // while this one waits for them.)
  process.env['GGML_NO_BACKTRACE'] = '1'
  const ggml = bind(find(/^(lib)?ggml-base\.(so|dylib|dll)$/), find(/^(lib)?ggml(\.[a-z]+)?\.v[\d.]+\.(so|dylib|dll)$/))
  const actual = `${ggml.version()} (${ggml.commit()})`
  if (actual !== `${GGML_VERSION} (${GGML_COMMIT})`) {
    throw new EngineError(
      { code: 'ENGINE_VERSION', expected: `${GGML_VERSION} (${GGML_COMMIT})`, actual },
      `the ggml library in ${directory} has version ${actual}, but this program is made for ${GGML_VERSION} (${GGML_COMMIT}); run "npm ci"`,
    )
  }
  // Whoever loads libllama in this process meets the same registry, so back ends must not be loaded twice.
  const complaints = ggml.deviceCount() === 0 ? ggml.loadBackends(directory) : []
  if (ggml.deviceCount() === 0) {
    throw noBackend(`no back end in ${directory} runs on this machine. ${complaints.join(' ').slice(0, 1000)}`)
  }
  const variants = files.filter(name => /ggml-cpu-/.test(name))
  return {
    ggml,
    directory,
    llamaPath: find(/^(lib)?llama(\.[a-z]+)?\.v[\d.]+\.(so|dylib|dll)$/),
    cpuVariant: bestVariant(directory, variants),
  }
}

function listFiles(directory: string): string[] {
  try {
    return readdirSync(directory).sort()
  } catch (cause) {
    throw noBackend(`the directory of the compute libraries cannot be read: ${messageOf(cause)}`, cause)
  }
}

function bind(basePath: string, mainPath: string): Ggml {
  try {
    return bindGgml(koffi.load(basePath), koffi.load(mainPath))
  } catch (cause) {
    throw noBackend(`the compute library cannot be loaded: ${messageOf(cause)}`, cause)
  }
}

/**
 * ggml's own choice, made again: each CPU library scores itself (0: cannot run here), and the best is used. ggml does
 * not say which one it took, yet results depend on it.
 */
function bestVariant(directory: string, files: readonly string[]): string {
  let best = { name: 'generic', score: 0 }
  for (const file of files) {
    const library = koffi.load(join(directory, file))
    const score: number = library.func('ggml_backend_score', 'int', [])()
    library.unload()
    if (score > best.score) best = { name: file.replace(/^.*ggml-cpu-/, '').replace(/\.[a-z]+$/, ''), score }
  }
  return best.name
}

function noBackend(message: string, cause?: unknown): EngineError {
  const platform = `${process.platform}-${process.arch}`
  return new EngineError({ code: 'ENGINE_NO_BACKEND', platform }, message, cause === undefined ? {} : { cause })
}
