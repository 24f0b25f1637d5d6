/** A model's edges in this process: token embedding on one side, final norm and output head on the other. */
import { formatBytes } from '#base'
import type { ModelConfig } from '#formats'
import { ComputeMemory, TensorView } from './compute-memory.ts'
import { EngineError } from './errors.ts'
import { type Context, F32, type Graph, I32, type Tensor } from './ggml/binding.ts'
import { type ComputeDevice, type GgmlRuntime, profileOf } from './ggml/runtime.ts'
import { EMBED_TOKENS_MAX } from './limits.ts'
import { type ModelFile, withModelFile } from './model-file.ts'
import { refuseRows, type RowOrigin } from './row-check.ts'
import { findWeights, type WeightSpec, Weights } from './weights.ts'

export type EdgeSessionReport = {
  readonly width: number
  readonly vocabularySize: number
  readonly weightBytes: number
  readonly device: string
  readonly profile: string
}

const INPUT: RowOrigin = {
  kind: 'hidden',
  side: 'input',
  what: 'the numbers that came back from the last stage',
  why: 'it, or the file that it loaded, is broken',
}
const LOGITS: RowOrigin = {
  kind: 'logits',
  side: 'output',
  what: 'the logits',
  why: 'the weights of the output head are broken',
}
const EMBEDDED: RowOrigin = {
  kind: 'hidden',
  side: 'output',
  what: 'the embedded rows',
  why: 'the table of embeddings is broken',
}

export type EdgeSessionOptions = {
  /** Told, before memory is taken for a load, how many bytes it and all calls after it need. */
  readonly reserve?: (bytes: number) => void
}

const NODES_MAX = 16

type Loaded = {
  readonly config: ModelConfig
  readonly embedding: Weights
  readonly head: Weights
  readonly embeddingMemory: ComputeMemory
  /** The graph of one token, which every step of a generation uses. */
  readonly tokenGraph: SmallGraph
  readonly tokenMemory: ComputeMemory
  readonly headGraph: SmallGraph
  readonly headMemory: ComputeMemory
}

/**
 * The edges stay on the CPU: a table look-up and one product per token, next to the samplers, which are there too.
 */
export class EdgeSession {
  readonly #runtime: GgmlRuntime
  readonly #reserve: (bytes: number) => void
  #loaded: Loaded | undefined

  constructor(runtime: GgmlRuntime, { reserve = () => undefined }: EdgeSessionOptions = {}) {
    this.#runtime = runtime
    this.#reserve = reserve
  }

  /** @throws EngineError; FormatError for a file that is no model or of an unknown architecture */
  async load(file: string, onProgress?: (doneBytes: number, totalBytes: number) => void): Promise<EdgeSessionReport> {
    this.free()
    return withModelFile(file, async model => {
      const device = this.#runtime.cpu
      const { embedding, head } = await loadEdges(device, model, { onProgress, reserve: this.#reserve })
      const { config } = model
      const headMemory = new ComputeMemory(device, NODES_MAX)
      const headGraph = new SmallGraph(device, headMemory, context => buildHead(device, { config, head, context }))
      const tokenMemory = new ComputeMemory(device, NODES_MAX)
      const tokenGraph = new SmallGraph(device, tokenMemory, context =>
        buildEmbedding(device, { config, embedding, context, count: 1 }),
      )
      this.#loaded = {
        config,
        embedding,
        head,
        headGraph,
        headMemory,
        embeddingMemory: new ComputeMemory(device, NODES_MAX),
        tokenGraph,
        tokenMemory,
      }
      return {
        width: config.width,
        vocabularySize: config.vocabularySize,
        weightBytes: embedding.byteSize + head.byteSize,
        device: device.text,
        profile: profileOf(this.#runtime, device, [...embedding.bufferTypes, ...head.bufferTypes]),
      }
    })
  }

  /**
   * Looks tokens up, scaled as the architecture wants it.
   * @returns f32 little-endian rows, shape [tokens, width]
   */
  embed(tokens: Int32Array): Uint8Array {
    const { config, embedding, embeddingMemory, tokenGraph } = this.#expectLoaded()
    checkTokens(tokens, config)
    if (tokens.length === 0) return new Uint8Array(0)
    if (tokens.length === 1) return lookUp(tokenGraph, tokens)
    const { cpu } = this.#runtime
    const graph = new SmallGraph(cpu, embeddingMemory, context =>
      buildEmbedding(cpu, { config, embedding, context, count: tokens.length }),
    )
    try {
      return lookUp(graph, tokens)
    } finally {
      graph.free()
    }
  }

  /**
   * Final norm and head.
   * @param row f32 little-endian, shape [1, width]
   * @returns one number per token of the vocabulary
   */
  logits(row: Uint8Array): Float32Array {
    const { config, headGraph } = this.#expectLoaded()
    if (row.byteLength !== config.width * 4) {
      throw new EngineError(
        { code: 'ENGINE_BAD_STEP', what: 'row' },
        `a row of width ${config.width} has ${config.width * 4} bytes, not ${row.byteLength}`,
      )
    }
    headGraph.input.bytes.set(row)
    refuseRows(headGraph.input.bytes, INPUT)
    headGraph.run()
    const bytes = headGraph.output.bytes.slice()
    refuseRows(bytes, LOGITS)
    return new Float32Array(bytes.buffer)
  }

  /** Gives all memory back. Idempotent; `load` may follow. */
  free(): void {
    const loaded = this.#loaded
    if (loaded === undefined) return
    this.#loaded = undefined
    loaded.headGraph.free()
    loaded.headMemory.free()
    loaded.embeddingMemory.free()
    loaded.tokenGraph.free()
    loaded.tokenMemory.free()
    loaded.head.free()
    loaded.embedding.free()
  }

  #expectLoaded(): Loaded {
    if (this.#loaded === undefined) {
      throw new EngineError({ code: 'ENGINE_NOT_LOADED' }, 'no edges are loaded in this engine')
    }
    return this.#loaded
  }
}

async function loadEdges(
  device: ComputeDevice,
  { file, gguf, config }: ModelFile,
  options: {
    readonly onProgress: ((doneBytes: number, totalBytes: number) => void) | undefined
    readonly reserve: (bytes: number) => void
  },
): Promise<{ embedding: Weights; head: Weights }> {
  const { onProgress, reserve } = options
  const { width, vocabularySize } = config
  const table: WeightSpec = { name: 'token_embd.weight', dims: [width, vocabularySize], use: 'getRows' }
  // Without a head of its own a model uses its embedding table, in a copy that lies where products are fastest.
  const isTied = !gguf.tensorsByName.has('output.weight')
  const headName = isTied ? 'token_embd.weight' : 'output.weight'
  const embeddingFound = findWeights(gguf, [table])
  const headFound = findWeights(gguf, [
    { name: 'output_norm.weight', dims: [width], use: 'mul' },
    { name: headName, dims: [width, vocabularySize], use: 'mulMat' },
  ])
  const bytesOf = (found: typeof headFound): number => [...found.values()].reduce((sum, tensor) => sum + tensor.size, 0)
  const embeddingBytes = bytesOf(embeddingFound)
  const totalBytes = embeddingBytes + bytesOf(headFound)
  const freeBytes = device.freeBytes()
  if (totalBytes > freeBytes) {
    throw new EngineError(
      { code: 'ENGINE_OUT_OF_MEMORY', neededBytes: totalBytes, freeBytes },
      `the model's edges need ${formatBytes(totalBytes)}, but ${formatBytes(freeBytes)} are free`,
    )
  }
  // A tensor in another form is made from a copy of it; tokens are embedded, and logits handed over, a few at a time.
  reserve(
    totalBytes + Math.max(embeddingBytes, bytesOf(headFound)) + 4 * (EMBED_TOKENS_MAX * width + 16 * vocabularySize),
  )
  const embedding = await Weights.load(
    device,
    { file, found: embeddingFound },
    { onProgress: done => onProgress?.(done, totalBytes) },
  )
  try {
    const head = await Weights.load(
      device,
      { file, found: headFound },
      { onProgress: done => onProgress?.(embeddingBytes + done, totalBytes) },
    )
    return { embedding, head }
  } catch (error) {
    embedding.free()
    throw error
  }
}

type Ends = { readonly input: Tensor; readonly output: Tensor }

/** i32 [count] -> f32 [width, count] */
function buildEmbedding(
  { ggml }: ComputeDevice,
  parts: {
    readonly config: ModelConfig
    readonly embedding: Weights
    readonly context: Context
    readonly count: number
  },
): Ends {
  const { config, embedding, context, count } = parts
  const input = ggml.newTensor1d(context, I32, count)
  const rows = ggml.getRows(context, embedding.get('token_embd.weight'), input)
  return { input, output: config.embeddingScale === 1 ? rows : ggml.scale(context, rows, config.embeddingScale) }
}

/** f32 [width, 1] -> f32 [vocabularySize, 1] */
function buildHead(
  { ggml }: ComputeDevice,
  parts: { readonly config: ModelConfig; readonly head: Weights; readonly context: Context },
): Ends {
  const { config, head, context } = parts
  const input = ggml.newTensor2d(context, F32, config.width, 1)
  const normed = ggml.mul(context, ggml.rmsNorm(context, input, config.normEpsilon), head.get('output_norm.weight'))
  let logits = ggml.mulMat(context, head.find('output.weight') ?? head.get('token_embd.weight'), normed)
  const cap = config.finalLogitSoftcap
  if (cap !== undefined) {
    logits = ggml.scale(context, ggml.tanh(context, ggml.scale(context, logits, 1 / cap)), cap)
  }
  return { input, output: logits }
}

/** A graph with one input and one output. */
class SmallGraph {
  readonly #memory: ComputeMemory
  readonly #context: Context
  readonly #graph: Graph
  readonly input: TensorView
  readonly output: TensorView

  constructor(device: ComputeDevice, memory: ComputeMemory, build: (context: Context) => Ends) {
    const { ggml } = device
    this.#memory = memory
    const { context, graph } = memory.takeGraph()
    this.#context = context
    this.#graph = graph
    const { input, output } = build(this.#context)
    ggml.setInput(input)
    ggml.setOutput(output)
    ggml.expand(this.#graph, output)
    memory.allocate(this.#graph)
    this.input = new TensorView(device, input)
    this.output = new TensorView(device, output)
  }

  run(): void {
    this.input.upload()
    this.#memory.compute(this.#graph)
    this.output.download()
  }

  free(): void {
    this.#memory.giveBack(this.#context)
  }
}

function lookUp(graph: SmallGraph, tokens: Int32Array): Uint8Array {
  graph.input.bytes.set(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength))
  graph.run()
  const rows = graph.output.bytes.slice()
  refuseRows(rows, EMBEDDED)
  return rows
}

function checkTokens(tokens: Int32Array, config: ModelConfig): void {
  if (tokens.length > EMBED_TOKENS_MAX) {
    throw new EngineError(
      { code: 'ENGINE_BAD_STEP', what: 'tokens' },
      `at most ${EMBED_TOKENS_MAX} tokens are embedded at once, not ${tokens.length}`,
    )
  }
  const unknown = tokens.find(token => token < 0 || token >= config.vocabularySize)
  if (unknown === undefined) return
  throw new EngineError(
    { code: 'ENGINE_TOKEN_UNKNOWN', token: unknown },
    `token ${unknown} is not one of the ${config.vocabularySize} of this model`,
  )
}
