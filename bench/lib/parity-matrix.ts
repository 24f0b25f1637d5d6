/**
 * The models of the parity matrix: the built-in one, and for each architecture a small random one in each weight type.
 * Made here from seeds with the reference's own quantizer, so nothing is downloaded and every run tests the same bytes.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { silentLogger, systemClock } from '#base'
import { type QuantizeType, quantize } from '#engine'
import { type RandomGgufOptions, writeRandomGguf } from '../../test/support/random-gguf.ts'

const PARITY_TYPES = ['f16', 'bf16', 'q8_0', 'q5_0', 'q4_0', 'q4_k', 'q6_k'] as const satisfies readonly QuantizeType[]

/** What is special about each architecture is switched on, so that a graph that forgets it fails. */
const SHAPES: readonly RandomGgufOptions[] = [
  { architecture: 'llama', ropeFreqs: true },
  { architecture: 'qwen2' },
  { architecture: 'qwen3' },
  { architecture: 'gemma3' },
]

export type MatrixModel = {
  readonly name: string
  /** Writes the model with this seed. @returns its path */
  readonly make: (seed: number) => Promise<string>
  /** Whether another seed gives another model. */
  readonly isRandom: boolean
}

const BUILT_IN = ['models/storyteller-2m-q8_0.gguf', 'models/storyteller-2m-f16.gguf']

/** `quick` is a cross-section: every architecture and every type once. */
export function matrixModels(kind: 'quick' | 'all', directory: string): readonly MatrixModel[] {
  const builtIn = BUILT_IN.slice(0, kind === 'all' ? 2 : 1).map(path => ({
    name: path.replace(/^models\/|\.gguf$/g, ''),
    make: () => Promise.resolve(path),
    isRandom: false,
  }))
  const random = SHAPES.flatMap((shape, row) =>
    PARITY_TYPES.filter((_, column) => kind === 'all' || column % SHAPES.length === row).map(type =>
      randomModel(shape, { type, directory }),
    ),
  )
  return [...builtIn, ...random]
}

function randomModel(
  shape: RandomGgufOptions,
  options: { readonly type: QuantizeType; readonly directory: string },
): MatrixModel {
  const name = `${shape.architecture}-${options.type}`
  const make = async (seed: number): Promise<string> => {
    await mkdir(options.directory, { recursive: true })
    const full = join(options.directory, `${name}-${seed}-f32.gguf`)
    const file = join(options.directory, `${name}-${seed}.gguf`)
    await writeRandomGguf(full, { ...shape, seed })
    await quantize(
      { clock: systemClock, log: silentLogger },
      { fileIn: full, fileOut: file },
      { type: options.type, pure: true },
    )
    await rm(full)
    return file
  }
  return { name, make, isRandom: true }
}
