/**
 * The entry of an engine child process: `main.ts ROLE OPTIONS`, with the command pipe on fd 3 and the lifeline on fd 4.
 *
 * A process of its own, because ggml and libllama end the process on some errors and read files from strangers: a crash
 * takes one engine along and nothing else. It has no keys, no environment and no listening socket, and runs in a sandbox
 * (docs/reference/sandbox.md). Commands run one after another, in order; computing happens on the main thread, where ggml is fastest.
 */
import { Worker } from 'node:worker_threads'
import { KoinonError } from '#base'
import { EngineError } from '../errors.ts'
import { type GgmlRuntime, openRuntime } from '../ggml/runtime.ts'
import { CHILD_FRAME_BYTES_MAX } from '../limits.ts'
import type { EngineOptions } from '../types.ts'
import { takeOver } from '../sandbox/confinement.ts'
import { type Channel, openChannel } from './channel.ts'
import type { ChildHost, Handler, Notify } from './handler.ts'
import { byteLengthOf, type ChildRole, encodeJson, KIND, type Message } from './protocol.ts'

const COMMAND_FD = 3
const LIFELINE_FD = 4

/** Each child reads only the code of its own role, so that it starts fast. */
const HANDLERS: Readonly<Record<ChildRole, () => Promise<(host: ChildHost) => Handler>>> = {
  stage: async () => (await import('./stage-role.ts')).createStageHandler,
  edge: async () => (await import('./edge-role.ts')).createEdgeHandler,
  reference: async () => (await import('./reference-role.ts')).createReferenceHandler,
  tool: async () => (await import('./tool-role.ts')).createToolHandler,
  probe: async () => (await import('./probe-role.ts')).createProbeHandler,
}

async function main(role: ChildRole, options: EngineOptions): Promise<void> {
  const confinement = await takeOver(process.argv[4])
  const lifeline = new Worker(new URL('./lifeline.ts', import.meta.url), { workerData: LIFELINE_FD })
  lifeline.unref()
  // Ctrl-C in a terminal reaches the whole group; the node decides when its engines end.
  for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)

  let runtime: GgmlRuntime | undefined
  const open = (): GgmlRuntime => {
    runtime ??= openRuntime(options)
    return runtime
  }
  const createHandler = await HANDLERS[role]()
  const handle = createHandler({ open, confinement, describe: () => confinement.describe(options.threads) })
  const channel = openChannel(COMMAND_FD)
  await channel.send({ id: 0, kind: KIND.ready }, [])
  for (;;) {
    const message = await channel.receive()
    // The node closed the pipe: it asked for the end, or is gone. There is nobody left to tell about an error.
    if (message === undefined) process.exit(0)
    await answer(channel, handle, message)
  }
}

async function answer(channel: Channel, handle: Handler, message: Message): Promise<void> {
  const { id } = message
  const notify: Notify = async (...payload) => channel.send({ id, kind: KIND.event }, payload)
  try {
    const reply = await handle(message, notify)
    const bytes = byteLengthOf(reply)
    if (bytes > CHILD_FRAME_BYTES_MAX) {
      throw new EngineError(
        { code: 'ENGINE_REQUEST_TOO_LARGE', bytes, bytesMax: CHILD_FRAME_BYTES_MAX },
        `the answer has ${bytes} bytes; ${CHILD_FRAME_BYTES_MAX} are accepted. Ask for less at once`,
      )
    }
    await channel.send({ id, kind: KIND.reply }, reply)
  } catch (error) {
    const { fault, message } = expected(error)
    await channel.send({ id, kind: KIND.fail }, [encodeJson({ fault, message })])
  }
}

/**
 * What may go wrong: an error of ours, or the operating system's refusal of a file. Anything else is a bug, after which
 * nothing in here can be trusted: it is thrown on and ends the process.
 */
function expected(error: unknown): KoinonError {
  if (error instanceof KoinonError) return error
  if (!(error instanceof Error && 'syscall' in error && 'code' in error)) throw error
  const reason = String(error.code)
  return new EngineError({ code: 'ENGINE_FILE_UNREADABLE', reason }, `the model file cannot be read: ${error.message}`)
}

await main(process.argv[2] as ChildRole, JSON.parse(process.argv[3] ?? '{}') as EngineOptions)
