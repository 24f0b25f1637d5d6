/** A real `koinon up` on a host of the lab, and what people see of it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '#base'
import { createLocalClient, type LocalClient, type ReadyEvent, type UpEvent } from '#cli'
import { GREEDY } from '#wire'
import { STORYTELLER, until } from '../../tools/swarm.ts'
import type { Cleaner, Host, Lab, LabProcess } from './lab.ts'

const COMMAND = fileURLToPath(new URL('../../bin/koinon.mjs', import.meta.url))

/** How long a node may take to start on a busy machine. */
const START_MS_MAX = 60_000

const TOKENS = 12

/** The TCP port that nodes of the lab listen at: each has an address of its own. */
export const NODE_PORT = 4001

export type LabNodeOptions = {
  /** As `--layers` takes it. @default none */
  readonly layers?: string
  /** More arguments of `koinon up`. */
  readonly args?: readonly string[]
  /** @default /ip4/ADDRESS/tcp/4001 of the host */
  readonly listen?: readonly string[]
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>
  /** Where its identity and memory are. @default a new one */
  readonly dataDir?: string
}

export type TellOptions = {
  readonly tokensMax: number
  /** Done once so many pieces of text are there, while the rest is being made. */
  readonly after?: { readonly pieces: number; readonly act: () => Promise<void> }
}

export type LabNode = {
  readonly host: Host
  readonly ready: ReadyEvent
  readonly client: LocalClient
  readonly process: LabProcess
  /** The address that others are given: where it listens, with its peer id. */
  readonly address: string
  /** The text that the node continues a prompt with, greedily. */
  story(prompt: string): Promise<string>
  /** The same, with something that happens in its midst. */
  tell(prompt: string, options: TellOptions): Promise<string>
  /** Ends it as a crash would. */
  kill(): Promise<void>
  /** Ends it as a person would. */
  stop(): Promise<void>
}

/** A data directory that goes away with the test. */
export async function labDataDir(test: Cleaner): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-lab-'))
  test.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** Starts a node; resolves when it is ready. @throws with what it said, where it is not */
export async function startLabNode(lab: Lab, host: Host, options: LabNodeOptions = {}): Promise<LabNode> {
  const listen = options.listen ?? [`/ip4/${host.ipv4 ?? '0.0.0.0'}/tcp/${NODE_PORT}`]
  const argv = [process.execPath, COMMAND, 'up', '--json', '--model', STORYTELLER, '--threads', '1', '--device', 'cpu']
  argv.push('--api', 'none', '--layers', options.layers ?? 'none')
  argv.push(...(options.dataDir === undefined ? ['--temporary'] : ['--data-dir', options.dataDir]))
  for (const address of listen) argv.push('--listen', address)
  const environment = options.env === undefined ? {} : { env: options.env }
  const running = lab.run(host, [...argv, ...(options.args ?? [])], environment)
  const ready = await untilReady(host, running)
  // One that is killed, as most are at the end of a lab, does not remove what it took for itself.
  if (options.dataDir === undefined) void running.ended.then(() => rm(ready.dataDir, { recursive: true, force: true }))
  const client = createLocalClient({ clock: systemClock }, { socket: ready.socket, dataDir: ready.dataDir })
  const end = async (signal: 'SIGKILL' | 'SIGTERM'): Promise<void> => {
    running.kill(signal)
    await running.ended
  }
  return {
    host,
    ready,
    client,
    process: running,
    address: `${listen[0] ?? ''}/p2p/${ready.peer}`,
    story: prompt => tell({ client, ready }, prompt, { tokensMax: TOKENS }),
    tell: (prompt, options) => tell({ client, ready }, prompt, options),
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
  }
}

async function untilReady(host: Host, running: LabProcess): Promise<ReadyEvent> {
  for (;;) {
    const line = await running.nextLine({ timeoutMs: START_MS_MAX })
    if (line === undefined) throw new Error(`the node on ${host.name} ended:\n${running.stderr()}`)
    const event = JSON.parse(line) as UpEvent
    if (event.event === 'failed') throw new Error(`the node on ${host.name} failed: ${event.message} [${event.code}]`)
    if (event.event === 'ready') return event
  }
}

async function tell(
  { client, ready }: Pick<LabNode, 'client' | 'ready'>,
  text: string,
  { tokensMax, after }: TellOptions,
): Promise<string> {
  const { signal } = new AbortController()
  const request = { model: ready.modelId ?? '', prompt: { kind: 'text', text }, sampling: GREEDY, stop: [] } as const
  let told = ''
  let pieces = 0
  let acting: Promise<void> | undefined
  for await (const event of client.complete({ ...request, tokensMax, ignoreEnd: true }, { signal })) {
    if (event.kind !== 'delta') continue
    told += event.text
    pieces++
    if (pieces === after?.pieces) acting = after.act()
  }
  await acting
  return told
}

/** Resolves once the node knows a whole route. */
export async function untilWhole(node: LabNode): Promise<void> {
  const isWhole = async (): Promise<true | undefined> =>
    (await node.client.models())[0]?.isComplete === true ? true : undefined
  await until(isWhole, { what: `a whole route at ${node.host.name}`, timeoutMs: START_MS_MAX })
}

/** Resolves once the node is connected to these peers. */
export async function untilMet(node: LabNode, others: readonly LabNode[]): Promise<void> {
  const wanted = others.map(({ ready }) => ready.peer)
  const hasMet = async (): Promise<true | undefined> => {
    const here = new Set((await node.client.peers()).map(({ peer }) => peer))
    return wanted.every(peer => here.has(peer)) ? true : undefined
  }
  const names = others.map(({ host }) => host.name).join(', ')
  await until(hasMet, { what: `${node.host.name} meeting ${names}`, timeoutMs: START_MS_MAX })
}
