/**
 * A real node process that a test attacks, and what must hold afterwards: it lives, honest peers (one that was there
 * before, one that comes now) get the right answer, and the audit log is whole.
 */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import type { SecureSession } from '#protocol'
import { type AuditEntry, readAuditLog } from '#storage'
import { startSwarm, type Swarm, type SwarmNode, until } from '../../tools/swarm.ts'
import { koinon } from './command.ts'
import { type CommandAnswer, commandsOf, type RawCommands } from './raw-commands.ts'
import { type RawConnection, type RawControl, type RawControlOptions, type RawPeer, startRawPeer } from './raw-peer.ts'

export const TASK = {
  kind: 'completion',
  prompt: 'Once upon a time there was a fox.',
  max_tokens: 16,
  temperature: 0,
} as const

const EXECUTE_TASK = 33

/** A peer with an established session. */
export type Member = {
  readonly peer: RawPeer
  readonly raw: RawConnection
  readonly control: RawControl
  readonly commands: RawCommands
}

/** What streams of the member are sealed with, and the data plane keyed. */
export function sessionOf({ control }: Pick<Member, 'control'>): SecureSession {
  const { session } = control.link
  assert.ok(session !== undefined)
  return session
}

export interface AttackedNode {
  readonly process: SwarmNode
  readonly id: string
  readonly address: string
  /** A peer that keeps its identity, and comes as often as it likes. Ends with the file. */
  raw(options?: Parameters<typeof startRawPeer>[1]): Promise<RawPeer>
  /** A new peer that has joined, or the given one. */
  member(options?: { readonly peer?: RawPeer; readonly control?: RawControlOptions }): Promise<Member>
  /** Everything that must hold after an attack. */
  survives(): Promise<void>
  /** Bytes of the node's memory; undefined where the system does not say. */
  residentBytes(): Promise<number | undefined>
  /** What the audit log says of a peer, the oldest first. */
  audited(peer: string): readonly AuditEntry[]
  /** Waits until the audit log says it. */
  hears(peer: string, kind: string): Promise<AuditEntry>
  /** What `koinon audit log --json` prints. */
  auditCommand(args: readonly string[]): Promise<unknown>
  /** Ends the process, in order or not, and starts it again in its data directory. */
  restart(how: 'stop' | 'kill'): Promise<void>
}

/** Starts the node before the tests of a file, and ends it after them. */
export function useAttackedNode(
  options: { readonly secret?: string; readonly args?: readonly string[] } = {},
): AttackedNode {
  const node = new Attacked(options)
  before(() => node.start())
  after(() => node.end())
  return node
}

class Attacked implements AttackedNode {
  readonly #options: { readonly secret?: string; readonly args?: readonly string[] }
  readonly #ends: (() => Promise<void>)[] = []
  #dataDir = ''
  #swarm: Swarm | undefined
  #honest: Member | undefined
  #story = ''

  constructor(options: { readonly secret?: string; readonly args?: readonly string[] }) {
    this.#options = options
  }

  get process(): SwarmNode {
    const [node] = this.#swarm?.nodes ?? []
    assert.ok(node !== undefined, 'the node has been started')
    return node
  }

  get id(): string {
    return this.process.ready.peer
  }

  get address(): string {
    return this.process.ready.addresses[0] ?? ''
  }

  async start(): Promise<void> {
    this.#dataDir = await mkdtemp(join(tmpdir(), 'koinon-attack-'))
    await this.#boot()
    this.#story = storyIn(await (await this.member()).commands.ask(EXECUTE_TASK, TASK))
    assert.ok(this.#story.length > 20, this.#story)
    this.#honest = await this.member()
  }

  async end(): Promise<void> {
    for (const end of this.#ends.toReversed()) await end()
    await this.#swarm?.stop()
    await rm(this.#dataDir, { recursive: true, force: true })
  }

  raw(options: Parameters<typeof startRawPeer>[1] = {}): Promise<RawPeer> {
    return startRawPeer({ after: end => void this.#ends.push(end) }, options)
  }

  async member(options: { readonly peer?: RawPeer; readonly control?: RawControlOptions } = {}): Promise<Member> {
    const { secret } = this.#options
    const peer = options.peer ?? (await this.raw())
    const raw = await peer.dial(this.address)
    const known = secret === undefined ? {} : { secret }
    const control = await raw.control({ answersPings: true, ...known, ...options.control })
    await control.join()
    return { peer, raw, control, commands: commandsOf(control) }
  }

  async survives(): Promise<void> {
    const { engines, pid } = await this.process.client.status()
    assert.equal(pid, this.process.ready.pid)
    assert.deepEqual([...new Set(engines.map(({ state, restarts }) => `${state} ${restarts}`))], ['ready 0'])
    const newcomer = await this.member()
    assert.equal(storyIn(await newcomer.commands.ask(EXECUTE_TASK, TASK)), this.#story)
    newcomer.raw.connection.abort(new Error('answered'))
    assert.ok(this.#honest !== undefined)
    assert.equal(this.#honest.raw.connection.status, 'open', 'the peer that was there before is still connected')
    const { answer } = await this.#honest.commands.ask(32, {})
    assert.equal((answer as { peer?: string }).peer, this.id)
    this.#verify()
  }

  async residentBytes(): Promise<number | undefined> {
    if (process.platform !== 'linux') return undefined
    const status = await readFile(`/proc/${this.process.ready.pid}/status`, 'utf8')
    return 1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1])
  }

  audited(peer: string): readonly AuditEntry[] {
    return this.#readLog(log => log.entries({ peer }))
  }

  async hears(peer: string, kind: string): Promise<AuditEntry> {
    const find = async (): Promise<AuditEntry | undefined> => this.audited(peer).find(entry => entry.kind === kind)
    return until(find, { what: `an entry "${kind}" in the audit log`, timeoutMs: 5000 })
  }

  async auditCommand(args: readonly string[]): Promise<unknown> {
    const { code, stdout, stderr } = await koinon(['audit', 'log', '--json', '--data-dir', this.#dataDir, ...args])
    assert.deepEqual([code, stderr], [0, ''])
    return JSON.parse(stdout)
  }

  async restart(how: 'stop' | 'kill'): Promise<void> {
    if (how === 'kill') await this.process.kill()
    await this.#swarm?.stop()
    await this.#boot()
    this.#honest = await this.member()
  }

  #readLog<T>(read: (log: ReturnType<typeof readAuditLog>) => T): T {
    const log = readAuditLog(this.#dataDir)
    try {
      return read(log)
    } finally {
      log.close()
    }
  }

  #verify(): void {
    const verdict = this.#readLog(log => log.verify())
    assert.ok(verdict.ok, JSON.stringify(verdict.firstBad))
  }

  async #boot(): Promise<void> {
    const { secret, args = [] } = this.#options
    this.#swarm = await startSwarm({
      nodes: [{ layers: '0-8', args: ['--data-dir', this.#dataDir, ...args] }],
      slots: 4,
      ctx: 256,
      ...(secret === undefined ? {} : { secret }),
    })
  }
}

function storyIn({ answer }: CommandAnswer): string {
  assert.ok('text' in answer, JSON.stringify(answer))
  return String(answer['text'])
}
