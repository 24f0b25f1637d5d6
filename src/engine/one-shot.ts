/** Engine children that do one thing and end: measuring, describing, quantizing. */
import { closeSync, existsSync, openSync, rmSync } from 'node:fs'
import { decodeJson, encodeJson, KIND, type Kind } from './child/protocol.ts'
import type { EngineDescription } from './child/description.ts'
import { type ChildFiles, EngineChild } from './engine-child.ts'
import type { QuantizeRequest, QuantizeType } from './llama/quantize.ts'
import type { EngineDeps } from './supervisor.ts'
import type { EngineOptions } from './types.ts'

type MachineMeasure = {
  /** How fast one-row steps read weights: tokens per second are this over the bytes of a model's weights. */
  readonly weightBytesPerSecond: number
  /** For people: "CPU (zen4)". */
  readonly device: string
}

/** Measures this machine; takes about a second. @throws EngineError */
export async function measureMachine(deps: EngineDeps, options: EngineOptions): Promise<MachineMeasure> {
  return decodeJson(await runOnce(deps, options, { kind: KIND.measure })) as MachineMeasure
}

/** Says what the engine is on this machine. @throws EngineError with what is missing and what to do */
export async function describeEngine(deps: EngineDeps, options: EngineOptions): Promise<EngineDescription> {
  return decodeJson(await runOnce(deps, options, { kind: KIND.describe })) as EngineDescription
}

type QuantizeOptions = {
  readonly type: QuantizeType
  /** Every matrix in this one type instead of llama.cpp's mixture. @default false */
  readonly pure?: boolean
  /** @default 1 */
  readonly threads?: number
}

/** Writes the model of one GGUF file to another with other weight types. Absolute paths. @throws EngineError */
export async function quantize(
  deps: EngineDeps,
  files: { readonly fileIn: string; readonly fileOut: string },
  options: QuantizeOptions,
): Promise<void> {
  const { threads = 1, ...rest } = options
  const request: QuantizeRequest = { ...files, ...rest, threads }
  // The child may write to files that are there, and make none.
  const isNew = !existsSync(files.fileOut)
  closeSync(openSync(files.fileOut, 'a'))
  try {
    await runOnce(
      deps,
      { threads, device: 'cpu' },
      {
        kind: KIND.quantize,
        payload: encodeJson(request),
        files: { reads: [files.fileIn], writes: [files.fileOut] },
      },
    )
  } catch (error) {
    if (isNew) rmSync(files.fileOut)
    throw error
  }
}

async function runOnce(
  deps: EngineDeps,
  options: EngineOptions,
  command: { readonly kind: Kind; readonly payload?: Uint8Array; readonly files?: ChildFiles },
): Promise<Uint8Array> {
  const child = new EngineChild(deps, { role: 'tool', options }, command.files)
  try {
    await child.ready()
    return await child.request(command.kind, command.payload === undefined ? [] : [command.payload])
  } finally {
    await child.end()
  }
}
