/**
 * `npm start`: a private swarm of three real node processes on this machine, each with some layers of the built-in
 * model, a first answer, and then a chat. `npm start -s -- --once "PROMPT"` prints one answer alone and ends.
 *
 * The nodes are ordinary `koinon up` processes. Each ends by itself when this process does, however it ends: its
 * standard input ends then.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { parseArgs } from 'node:util'
import { fileURLToPath } from 'node:url'
import { messageOf, systemClock, systemRandom, toHex } from '#base'
import {
  createOutput,
  createPaint,
  createSignals,
  type LocalClient,
  printable,
  renderTable,
  runChat,
  shortPeer,
  streamAnswer,
  wantsColour,
} from '#cli'
import { GREEDY, type ModelSummary } from '#wire'
import { startSwarm, type Swarm, type SwarmNode, type SwarmOptions } from './swarm.ts'

const NODES = 3
const SECRET_BYTES = 32
const PORTS_TRIED_MAX = 100
const MODEL = fileURLToPath(new URL('../models/storyteller-2m-q8_0.gguf', import.meta.url))
const FIRST_PROMPT = 'Tell me a story about a fox and a lantern.'
const API_PORT = 11_435

const signals = createSignals(process)
const onOutputClosed = (): void => signals.outputClosed()
const stdout = createOutput(process.stdout, onOutputClosed)
const stderr = createOutput(process.stderr, onOutputClosed)
const paint = createPaint(wantsColour(stderr, process.env))

const HELP = `Runs three nodes on this machine with the built-in model, and talks with it.

  npm start                          a first answer, then a chat
  npm start -s -- --once "PROMPT"    print one answer alone, and end
`

process.exit(await start())

async function start(): Promise<number> {
  try {
    const { help, once } = readArguments()
    if (help !== true) return await run(once)
    stdout.write(HELP)
    return 0
  } catch (error) {
    stderr.write(`npm start: ${messageOf(error)}\n\n${HELP}`)
    return 2
  }
}

async function run(once: string | undefined): Promise<number> {
  const starting = new AbortController()
  const stopListening = signals.listen(() => starting.abort(new Error('interrupted')))
  let swarm: Swarm | undefined
  try {
    if (stderr.isTty) stderr.write(paint.dim(`Starting ${NODES} nodes …`))
    const startedAt = performance.now()
    swarm = await startAtFreePort({
      model: MODEL,
      secret: toHex(systemRandom.bytes(SECRET_BYTES)),
      isTemporary: true,
      isDetached: true,
      signal: starting.signal,
      onLog: (pid, line) => stderr.write(`${paint.dim(`[process ${pid}] ${printable(line)}`)}\n`),
    })
    const entry = swarm.nodes.find(node => node.ready.api !== undefined)
    if (entry === undefined) throw new Error('no node serves the API')
    const { client } = entry
    const model = (await client.models())[0]
    if (model === undefined) throw new Error('the node has no model')
    if (stderr.isTty) stderr.write('\r\u001b[K')
    printSwarm(inLayerOrder(swarm.nodes), model, performance.now() - startedAt)
    stopListening()
    return once === undefined ? await chat(client, model) : await answerOnce(client, model, once)
  } catch (error) {
    if (starting.signal.aborted) return 130
    stderr.write(`${paint.red(`npm start: ${printable(messageOf(error))}`)}\n`)
    return 1
  } finally {
    await swarm?.stop()
  }
}

function readArguments(): { readonly once?: string; readonly help?: boolean } {
  return parseArgs({ options: { once: { type: 'string' }, help: { type: 'boolean', short: 'h' } } }).values
}

function inLayerOrder(nodes: readonly SwarmNode[]): readonly SwarmNode[] {
  const first = ({ ready }: SwarmNode): number => Number.parseInt(ready.layers, 10)
  return [...nodes].sort((a, b) => first(a) - first(b))
}

function printSwarm(nodes: readonly SwarmNode[], model: ModelSummary, startMs: number): void {
  const rows = nodes.map(({ ready }, index) => ({ ready, name: `  ${index + 1}` }))
  const table = renderTable(
    rows,
    [
      { title: '  NODE', cell: row => row.name },
      { title: 'PROCESS', cell: row => String(row.ready.pid), align: 'right' },
      { title: 'PEER', cell: row => shortPeer(row.ready.peer) },
      { title: 'LAYERS', cell: row => row.ready.layers },
      { title: '', cell: row => (row.ready.api === undefined ? '' : paint.dim('prompts enter here')) },
    ],
    { width: stderr.columns, paint },
  )
  const title = `${paint.bold(printable(model.name))}: ${model.layerCount} layers on ${nodes.length} nodes`
  stderr.write(`${title} ${paint.dim(`(started in ${(startMs / 1000).toFixed(1)} s)`)}\n\n${table}\n`)
  const api = nodes.find(node => node.ready.api !== undefined)?.ready.api
  if (api !== undefined) {
    const note = api.endsWith(`:${API_PORT}`) ? '' : paint.dim(` (port ${API_PORT} is taken)`)
    stderr.write(`  OpenAI-compatible API: ${paint.cyan(`${api}/v1`)}${note}\n\n`)
  }
}

/** The answer alone on standard output: greedy, so that it is the same every time. */
async function answerOnce(client: LocalClient, model: ModelSummary, prompt: string): Promise<number> {
  const controller = new AbortController()
  const stopListening = signals.listen(() => controller.abort(new Error('interrupted')))
  try {
    await streamAnswer(
      { complete: (request, options) => client.complete(request, options), clock: systemClock },
      {
        model: model.id,
        prompt: { kind: 'chat', messages: [{ role: 'user', content: prompt }] },
        sampling: GREEDY,
        stop: [],
      },
      { signal: controller.signal, write: text => stdout.write(text) },
    )
    stdout.write('\n')
    return 0
  } catch (error) {
    if (controller.signal.aborted) return 130
    throw error
  } finally {
    stopListening()
  }
}

async function chat(client: LocalClient, model: ModelSummary): Promise<number> {
  const isTerminal = process.stdin.isTTY && process.stdout.isTTY
  if (isTerminal) stderr.write(paint.dim('Ask for a story · /help for help, Ctrl-D ends\n\n'))
  return runChat(
    {
      complete: (request, options) => client.complete(request, options),
      stdin: process.stdin,
      stdout,
      stderr,
      env: process.env,
      clock: systemClock,
      signals,
      lineEditor: isTerminal ? process.stdout : undefined,
    },
    { model, answer: { sampling: GREEDY }, firstQuestion: FIRST_PROMPT },
  )
}

/** Another program may take the port before the node does: then the next one is tried. */
async function startAtFreePort(options: Omit<SwarmOptions, 'nodes'>): Promise<Swarm> {
  for (let first = API_PORT; ; ) {
    const port = await freePortFrom(first)
    const api = `127.0.0.1:${port}`
    try {
      return await startSwarm({ ...options, nodes: [{ layers: 'auto', api }, { layers: 'auto' }, { layers: 'auto' }] })
    } catch (error) {
      if (port === 0 || !/API_LISTEN_FAILED/.test(messageOf(error))) throw error
      first = port + 1
    }
  }
}

/** The first port from here on that is free now. */
async function freePortFrom(first: number): Promise<number> {
  for (let port = first; port < first + PORTS_TRIED_MAX; port++) {
    const server = createServer()
    const isFree = await new Promise<boolean>(resolve => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!isFree) continue
    server.close()
    await once(server, 'close')
    return port
  }
  return 0
}
