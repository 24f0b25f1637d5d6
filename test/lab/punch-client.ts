/** A node on a host of a lab, as a test holds it. */
import { fileURLToPath } from 'node:url'
import type { Host, Lab } from './lab.ts'
import type { LabProcess } from './process.ts'
import type { NodeEvent, NodeOptions, NodeRequest } from './punch-protocol.ts'

const PROGRAM = fileURLToPath(new URL('./punch-node.ts', import.meta.url))

/** How long anything that must happen may take. */
const EVENT_TIMEOUT_MS = 60_000

export class PunchNode {
  readonly id: string
  readonly addresses: readonly string[]
  readonly host: Host
  readonly room: number
  readonly #process: LabProcess
  readonly #log: string[] = []

  private constructor(host: Host, running: LabProcess, ready: NodeEvent) {
    this.host = host
    this.#process = running
    this.id = ready.id ?? ''
    this.addresses = ready.addresses ?? []
    this.room = ready.room ?? 0
  }

  static async start(lab: Lab, host: Host, options: NodeOptions): Promise<PunchNode> {
    const running = lab.run(host, [process.execPath, PROGRAM, JSON.stringify(options)])
    for (;;) {
      const line = await running.nextLine({ timeoutMs: EVENT_TIMEOUT_MS })
      if (line === undefined) throw new Error(`a node on ${host.name} did not start: ${running.stderr()}`)
      const event = JSON.parse(line) as NodeEvent
      if (event.event === 'ready') return new PunchNode(host, running, event)
    }
  }

  do(request: NodeRequest): void {
    this.#process.write(`${JSON.stringify(request)}\n`)
  }

  /** The next event that fits; those before it are over. */
  async until(matches: (event: NodeEvent) => boolean): Promise<NodeEvent> {
    for (;;) {
      const line = await this.#process.nextLine({ timeoutMs: EVENT_TIMEOUT_MS }).catch((error: unknown) => {
        throw new Error(`${this.host.name} said only:\n${this.#log.slice(-20).join('\n')}`, { cause: error })
      })
      if (line === undefined) throw new Error(`the node on ${this.host.name} ended: ${this.#process.stderr()}`)
      this.#log.push(line)
      const event = JSON.parse(line) as NodeEvent
      if (matches(event)) return event
    }
  }

  /** The last lines that were read. */
  said(): readonly string[] {
    return this.#log.slice(-20)
  }

  stop(): void {
    this.#process.kill()
  }
}

let rooms = 0

/** Joins two nodes through a public one. The first is the side that starts to look for a better path. */
export async function join(first: PunchNode, second: PunchNode, relay: PunchNode): Promise<void> {
  const common = {
    what: 'relay',
    host: relay.host.ipv4 ?? '',
    port: relay.room,
    room: `${rooms++}`,
    via: relay.id,
  } as const
  first.do({ ...common, peer: second.id, direction: 'inbound' })
  second.do({ ...common, peer: first.id, direction: 'outbound' })
  await first.until(event => event.event === 'joined' && event.peer === second.id)
}

export type PathFound = { readonly path: string; readonly afterMs: number }

/** What the relayed connection becomes: the first better path, or `relayed` where none was found. */
export async function better(node: PunchNode, peer: PunchNode): Promise<PathFound> {
  const found = await node.until(({ event, peer: who, path, message }) => {
    if (who !== peer.id) return false
    if (event === 'changed' && path !== 'relayed') return true
    return event === 'log' && message === 'no better path to a peer'
  })
  return { path: found.path ?? 'relayed', afterMs: found.afterMs ?? 0 }
}
