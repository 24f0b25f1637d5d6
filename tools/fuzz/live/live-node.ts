/**
 * The node that live fuzzers attack: a real `koinon up` process that serves the whole built-in model, and beside it an
 * honest node that serves nothing and sends its prompts there. After each round of attacks the two are looked at.
 */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type CompletionRequest, GREEDY } from '#wire'
import { startSwarm, type Swarm, type SwarmNode, until } from '../../swarm.ts'
import type { Chance } from '../lib/chance.ts'
import { within } from '../lib/fuzzer.ts'
import { residentBytes } from '../lib/watch.ts'
import { Attacker } from './attacker.ts'

/** Memory that the attacked process may come to take; its engines' processes are not counted. */
const NODE_RSS_BYTES_MAX = 768 * 1024 * 1024

const SLOTS = 4
const CONTEXT = 256

/** How long the requests of peers that are gone may go on (30 s), and a little more. */
const IDLE_MS_MAX = 45_000
const ANSWER_MS_MAX = 60_000

/** What a node may say at the levels that it shows when peers misbehave. Every other line is a finding. */
const EXPECTED: readonly RegExp[] = [/ warn {2}\S*: a stream broke the protocol /]

const STORY: CompletionRequest = {
  model: 'Storyteller',
  prompt: { kind: 'chat', messages: [{ role: 'user', content: 'Tell me a story about a fox and a lantern.' }] },
  sampling: GREEDY,
  tokensMax: 12,
  stop: [],
}

/** Lines that no attack should bring about. */
export function suspiciousLines(lines: readonly string[]): string[] {
  return lines.filter(line => line.trim() !== '' && !EXPECTED.some(pattern => pattern.test(line)))
}

export interface LiveNode {
  readonly pid: number
  readonly peer: string
  readonly address: string
  /** Id of the model that it serves. */
  readonly model: string
  /** Numbers in one of its rows. */
  readonly width: number
  /** A peer with a new key, from another address of this machine where it has several. */
  attacker(chance: Chance): Promise<Attacker>
  /** @throws where anything about the node is not as it should be */
  verify(): Promise<void>
  stop(): Promise<void>
}

export async function startLiveNode(): Promise<LiveNode> {
  const lines: string[] = []
  const swarm = await startSwarm({
    nodes: [{ layers: '0-8' }, { layers: 'none' }],
    slots: SLOTS,
    ctx: CONTEXT,
    isDetached: true,
    onLog: (pid, line) => void lines.push(`${pid} ${line}`),
  })
  try {
    const [target, honest] = swarm.nodes
    assert.ok(target !== undefined && honest !== undefined)
    const width = (await target.client.models())[0]?.width ?? 0
    return new RunningNode({ swarm, target, honest, lines, width, story: await tokensOf(honest) })
  } catch (error) {
    await swarm.stop()
    throw error
  }
}

type Parts = {
  readonly swarm: Swarm
  readonly target: SwarmNode
  readonly honest: SwarmNode
  readonly lines: string[]
  readonly width: number
  /** The tokens of the story before anything was attacked. */
  readonly story: readonly number[]
}

class RunningNode implements LiveNode {
  readonly #parts: Parts
  #hasStopped = false

  constructor(parts: Parts) {
    this.#parts = parts
  }

  get pid(): number {
    return this.#parts.target.ready.pid
  }

  get peer(): string {
    return this.#parts.target.ready.peer
  }

  get address(): string {
    const [address] = this.#parts.target.ready.addresses
    assert.ok(address !== undefined)
    return address
  }

  get model(): string {
    return this.#parts.target.ready.modelId ?? ''
  }

  get width(): number {
    return this.#parts.width
  }

  attacker(chance: Chance): Promise<Attacker> {
    return Attacker.start(this, chance)
  }

  async verify(): Promise<void> {
    const { honest, story, lines } = this.#parts
    const tokens = await within('an answer for an honest peer', ANSWER_MS_MAX, tokensOf(honest))
    assert.deepEqual(tokens, story, 'an honest peer got other tokens than before the attack')
    await this.#untilIdle()
    assert.deepEqual(suspiciousLines(lines.splice(0)), [], 'the node said what no attack should bring about')
    const memory = residentBytes(this.pid)?.most ?? 0
    assert.ok(memory <= NODE_RSS_BYTES_MAX, `the node came to ${Math.round(memory / 2 ** 20)} MiB of memory`)
  }

  async stop(): Promise<void> {
    if (this.#hasStopped) return
    this.#hasStopped = true
    await this.#parts.swarm.stop()
  }

  /** Nothing of the attackers is left: no peer, no generation, no row, no slot, no half attachment; no engine has crashed. */
  async #untilIdle(): Promise<void> {
    const { target } = this.#parts
    let left: unknown
    const isIdle = async (): Promise<true | undefined> => {
      const { generations, kvRows, stages, engines, peers } = await target.client.status()
      const files = readdirSync(join(target.ready.dataDir, 'transfers')).length
      const slotsTaken = stages.map(({ slots, slotsFree }) => slots - slotsFree)
      const restarts = engines.map(engine => engine.restarts)
      left = { peers, generations, kvRows, slotsTaken, files, restarts }
      const counts = [peers - 1, generations.length, kvRows, ...slotsTaken, files, ...restarts]
      return counts.every(count => count === 0) ? true : undefined
    }
    await until(isIdle, { what: 'a node without anything of its attackers', timeoutMs: IDLE_MS_MAX }).catch(
      (error: unknown) => {
        throw new Error(`the node keeps something of its attackers: ${JSON.stringify(left)}`, { cause: error })
      },
    )
  }
}

async function tokensOf(node: SwarmNode): Promise<number[]> {
  const tokens: number[] = []
  for await (const event of node.client.complete(STORY, { signal: AbortSignal.timeout(ANSWER_MS_MAX) })) {
    if (event.kind === 'delta') tokens.push(...event.tokens.map(({ token }) => token))
  }
  return tokens
}
