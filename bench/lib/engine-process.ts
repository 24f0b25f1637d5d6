/**
 * A whole model in one process: all layers and both edges of Koinon's engine, with no pipe and no network between them.
 * The benchmarks measure libllama against it, and the pipeline against it. Started with `fork`; one message in, one out.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { childEnvironment } from '../../src/engine/engine-child.ts'
import { argmax } from '../../src/engine/llama/scores.ts'
import { openRuntime } from '../../src/engine/ggml/runtime.ts'
import { EdgeSession } from '../../src/engine/edge-session.ts'
import { StageSession } from '../../src/engine/stage-session.ts'

/** As llama.cpp cuts a prompt (its `n_ubatch`). */
const PREFILL_ROWS = 512

export type EngineLoad = {
  readonly model: string
  readonly layerCount: number
  readonly threads: number
  readonly contextMax: number
}

/** One measured round: a prompt, then tokens one by one, each the most likely one. */
export type Round = {
  readonly tokens: readonly number[]
  readonly prefillMs: number
  /** Time of each decoding step, in milliseconds. */
  readonly stepMs: readonly number[]
}

type Message =
  | { readonly kind: 'load'; readonly load: EngineLoad }
  | { readonly kind: 'round'; readonly prompt: readonly number[]; readonly count: number }

export type EngineProcess = {
  round(prompt: readonly number[], count: number): Promise<Round>
  stop(): Promise<void>
}

/** Starts the process and loads the model. */
export async function startEngineProcess(load: EngineLoad): Promise<EngineProcess> {
  const child = fork(import.meta.filename, [], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    env: childEnvironment('stage'),
  })
  if (child.stderr !== null) {
    // ggml says a line for each tensor that it repacks.
    const lines = createInterface({ input: child.stderr })
    lines.on('line', line => line.startsWith('repack: ') || console.error(line))
  }
  const ask = async (message: Message): Promise<unknown> => {
    child.send(message)
    const [answer] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => Promise.reject(new Error(`the engine process ended (${String(code)})`))),
    ])) as [unknown]
    return answer
  }
  await ask({ kind: 'load', load })
  return {
    round: async (prompt, count) => (await ask({ kind: 'round', prompt, count })) as Round,
    stop: async () => {
      const gone = once(child, 'exit')
      child.disconnect()
      await gone
    },
  }
}

class WholeModel {
  readonly #stage: StageSession
  readonly #edge: EdgeSession
  readonly #layerCount: number

  private constructor(stage: StageSession, edge: EdgeSession, layerCount: number) {
    this.#stage = stage
    this.#edge = edge
    this.#layerCount = layerCount
  }

  static async load(load: EngineLoad): Promise<WholeModel> {
    const runtime = openRuntime({ threads: load.threads, device: 'cpu' })
    const layers = { first: 0, last: load.layerCount }
    const stage = new StageSession(runtime)
    await stage.load({ file: load.model, layers, slots: 1, contextMax: load.contextMax })
    const edge = new EdgeSession(runtime)
    await edge.load(load.model)
    return new WholeModel(stage, edge, load.layerCount)
  }

  round(prompt: readonly number[], count: number): Round {
    const startedAt = performance.now()
    let next = 0
    for (let position = 0; position < prompt.length; position += PREFILL_ROWS) {
      const chunk = prompt.slice(position, position + PREFILL_ROWS)
      const isLast = position + chunk.length === prompt.length
      const row = this.#step(chunk, position, isLast)
      if (row !== undefined) next = argmax(this.#edge.logits(row))
    }
    const prefillMs = performance.now() - startedAt
    const tokens = [next]
    const stepMs: number[] = []
    for (let i = 1; i < count; i++) {
      const stepAt = performance.now()
      const row = this.#step([next], prompt.length + i - 1, true)
      if (row !== undefined) next = argmax(this.#edge.logits(row))
      stepMs.push(performance.now() - stepAt)
      tokens.push(next)
    }
    this.#stage.release(0)
    return { tokens, prefillMs, stepMs }
  }

  #step(tokens: readonly number[], position: number, wantsRow: boolean): Uint8Array | undefined {
    const rows = this.#edge.embed(Int32Array.from(tokens))
    const layers = { first: 0, last: this.#layerCount }
    const outputs = wantsRow ? 1 : 0
    const out = this.#stage.step({ slot: 0, layers, position, count: tokens.length, outputs, rows })
    return wantsRow ? out : undefined
  }
}

/** The parent asks one thing at a time; when it disconnects, this process has nothing left to wait for and ends. */
function serve(): void {
  let model: WholeModel | undefined
  process.on('message', (message: Message) => {
    if (message.kind === 'round') {
      process.send?.(model?.round(message.prompt, message.count))
      return
    }
    WholeModel.load(message.load).then(
      loaded => {
        model = loaded
        process.send?.('loaded')
      },
      (error: unknown) => {
        console.error(error)
        process.exit(1)
      },
    )
  })
}

if (import.meta.main) serve()
