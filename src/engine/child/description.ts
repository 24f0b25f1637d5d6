/** What the engine is on this machine, for `koinon doctor`: package, versions, devices. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { GgmlRuntime } from '../ggml/runtime.ts'
import { BACKEND_DEVICES_MAX } from '../limits.ts'

export type EngineDescription = {
  /** Name and version of the npm package that the libraries came in: "@node-llama-cpp/linux-x64 3.21.1". */
  readonly package: string
  /** Release of llama.cpp: "0.4.0". */
  readonly version: string
  /** Commit of ggml, shortened. */
  readonly commit: string
  /** The CPU generation that code was chosen for: "zen4". */
  readonly cpuVariant: string
  /** For people: the device that models go to first. */
  readonly device: string
  readonly devices: readonly {
    readonly name: string
    readonly description: string
    /** Bytes. Of a GPU without memory of its own, the machine's. */
    readonly memoryFree: number
    readonly memoryTotal: number
  }[]
}

export function describeRuntime(runtime: GgmlRuntime): EngineDescription {
  const { ggml, version, cpuVariant, device } = runtime
  const count = Math.min(ggml.deviceCount(), BACKEND_DEVICES_MAX)
  const devices = Array.from({ length: count }, (_, index) => {
    const device = ggml.device(index)
    const [free, total] = [new BigUint64Array(1), new BigUint64Array(1)]
    ggml.deviceMemory(device, free, total)
    return {
      name: ggml.deviceName(device),
      description: ggml.deviceDescription(device),
      memoryFree: Number(free[0]),
      memoryTotal: Number(total[0]),
    }
  })
  return { package: packageOf(runtime.libraryDir), version, commit: ggml.commit(), cpuVariant, device, devices }
}

/** The libraries lie in PACKAGE/bins/PLATFORM. */
function packageOf(libraryDir: string): string {
  const file = path.join(libraryDir, '..', '..', 'package.json')
  const { name, version } = JSON.parse(readFileSync(file, 'utf8')) as { name: string; version: string }
  return `${name} ${version}`
}
