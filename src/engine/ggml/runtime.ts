/** ggml on this machine: libraries, devices and the buffer types that weights may lie in. */
import { type Clock, systemClock } from '#base'
import { EngineError } from '../errors.ts'
import { BACKEND_DEVICES_MAX, THREADS_MAX } from '../limits.ts'
import type { EngineOptions } from '../types.ts'
import {
  type Backend,
  type BufferType,
  type Device,
  DEVICE_CPU,
  type Ggml,
  procedureAt,
  readPointers,
  type Registry,
} from './binding.ts'
import { type Library, LLAMA_CPP_RELEASE, loadLibrary } from './library.ts'
import { useThreadPool } from './thread-pool.ts'

/** `enum ggml_backend_dev_type`: graphics cards with memory of their own, then those that share the machine's. */
const GPU_TYPES = [1, 2]

/** Something that computes graphs, with what is needed to place tensors on it. */
export type ComputeDevice = {
  readonly ggml: Ggml
  readonly device: Device
  readonly backend: Backend
  readonly isCpu: boolean
  /** For people: "CPU (zen4)", "CUDA0 (NVIDIA H100)". */
  readonly text: string
  /** Its part of the numeric profile: "cpu-zen4", "cuda0-nvidia-h100". */
  readonly profile: string
  /** Where activations, KV rows and everything without a better place lie. */
  readonly defaultType: BufferType
  /** Where weights may lie, best first: the CPU's repacked forms (AMX, CPU_REPACK), then the default. */
  readonly weightTypes: readonly BufferType[]
  /** Bytes that can still be allocated. */
  freeBytes(): number
}

/** An open ggml. It lives as long as the process: back ends cannot be unloaded safely. */
export type GgmlRuntime = {
  readonly ggml: Ggml
  readonly clock: Clock
  /** Where the shared libraries lie; `libllama` is one of them. */
  readonly libraryDir: string
  readonly llamaPath: string
  /** Release of llama.cpp: "0.4.0". */
  readonly version: string
  /** For people: the device that `load` tries first. */
  readonly device: string
  /** "zen4", "haswell", "apple_m1". */
  readonly cpuVariant: string
  readonly threads: number
  readonly cpu: ComputeDevice
  /** Set where a GPU was asked for (or `auto`) and found. */
  readonly gpu?: ComputeDevice
  /** Whether a model that the GPU cannot run goes to the CPU (`auto`) or is refused (`gpu`). */
  readonly mayFallBack: boolean
}

/**
 * Loads ggml and picks a device.
 * @throws EngineError ENGINE_NO_BACKEND, ENGINE_VERSION
 */
export function openRuntime(options: EngineOptions, deps: { readonly clock?: Clock } = {}): GgmlRuntime {
  if (!Number.isInteger(options.threads) || options.threads < 1 || options.threads > THREADS_MAX) {
    throw new EngineError(
      { code: 'ENGINE_BAD_LOAD', what: 'threads' },
      `threads must be within 1 and ${THREADS_MAX}, not ${options.threads}`,
    )
  }
  const library = loadLibrary({ preferGpu: options.device !== 'cpu' })
  const { ggml } = library
  const devices = Array.from({ length: Math.min(ggml.deviceCount(), BACKEND_DEVICES_MAX) }, (_, i) => ggml.device(i))
  const cpuDevice = devices.find(device => ggml.deviceType(device) === DEVICE_CPU)
  const cpu = cpuDevice === undefined ? undefined : openCpu(library, cpuDevice, options.threads)
  if (cpu === undefined) throw noDevice(library, 'no CPU back end runs on this processor')
  const gpu = options.device === 'cpu' ? undefined : openGpu(library, devices)
  if (options.device === 'gpu' && gpu === undefined) {
    throw noDevice(library, 'a GPU was asked for, but no GPU back end found one. Is its driver installed?')
  }
  return {
    ggml,
    clock: deps.clock ?? systemClock,
    libraryDir: library.directory,
    llamaPath: library.llamaPath,
    version: LLAMA_CPP_RELEASE,
    device: (gpu ?? cpu).text,
    cpuVariant: library.cpuVariant,
    threads: options.threads,
    cpu,
    ...(gpu === undefined ? {} : { gpu }),
    mayFallBack: options.device !== 'gpu',
  }
}

/**
 * The numeric profile of results: what must match for results to match bit by bit.
 * @param placed buffer types that weights lie in
 */
export function profileOf(runtime: GgmlRuntime, device: ComputeDevice, placed: readonly BufferType[]): string {
  const names = [...new Set(placed.map(type => runtime.ggml.bufferTypeName(type)))].sort()
  const parts = [`llama.cpp-${runtime.version}`, device.profile, `t${runtime.threads}`, names.join('+')]
  return [...parts, 'kv-f16', 'wire-f32'].join('/').slice(0, 200)
}

function openCpu(library: Library, device: Device, threads: number): ComputeDevice | undefined {
  const { ggml } = library
  const backend = ggml.initDevice(device, null)
  if (backend === null) return undefined
  const registry = ggml.deviceRegistry(device)
  setThreads(ggml, registry, { backend, threads })
  if (threads > 1) useThreadPool(ggml, registry, { backend, threads })
  const defaultType = ggml.deviceBufferType(device)
  return {
    ggml,
    device,
    backend,
    isCpu: true,
    text: `CPU (${library.cpuVariant})`,
    profile: `cpu-${library.cpuVariant}`,
    defaultType,
    weightTypes: [...extraBufferTypes(ggml, registry, device), defaultType],
    freeBytes: () => process.availableMemory(),
  }
}

function openGpu(library: Library, devices: readonly Device[]): ComputeDevice | undefined {
  const { ggml } = library
  for (const type of GPU_TYPES) {
    for (const device of devices.filter(candidate => ggml.deviceType(candidate) === type)) {
      const backend = ggml.initDevice(device, null)
      if (backend === null) continue
      const name = ggml.deviceName(device)
      const description = ggml.deviceDescription(device)
      const defaultType = ggml.deviceBufferType(device)
      return {
        ggml,
        device,
        backend,
        isCpu: false,
        text: `${name} (${description})`,
        profile: `${name}-${description}`
          .toLowerCase()
          .replaceAll(/[^a-z0-9]+/g, '-')
          .slice(0, 60),
        defaultType,
        weightTypes: [defaultType],
        freeBytes: () => freeDeviceBytes(ggml, device),
      }
    }
  }
  return undefined
}

function freeDeviceBytes(ggml: Ggml, device: Device): number {
  const free = new BigUint64Array(1)
  ggml.deviceMemory(device, free, new BigUint64Array(1))
  return Number(free[0] ?? 0n)
}

/** Sets how many threads each compute uses, where the back end lets that be set. */
function setThreads(
  ggml: Ggml,
  registry: Registry,
  call: { readonly backend: Backend; readonly threads: number },
): void {
  const address = ggml.procedure(registry, 'ggml_backend_set_n_threads')
  if (address === null) return
  const set = procedureAt(address, 'void', ['void *', 'int']) as (backend: Backend, threads: number) => void
  set(call.backend, call.threads)
}

/** Buffer types beyond the default in which the CPU computes faster. */
function extraBufferTypes(ggml: Ggml, registry: Registry, device: Device): BufferType[] {
  const address = ggml.procedure(registry, 'ggml_backend_dev_get_extra_bufts')
  if (address === null) return []
  const list = procedureAt(address, 'void *', ['void *']) as (device: Device) => bigint | null
  const array = list(device)
  return array === null ? [] : (readPointers(array, BACKEND_DEVICES_MAX) as BufferType[])
}

function noDevice(library: Library, why: string): EngineError {
  const platform = `${process.platform}-${process.arch}`
  return new EngineError({ code: 'ENGINE_NO_BACKEND', platform }, `${why} (libraries: ${library.directory})`)
}
