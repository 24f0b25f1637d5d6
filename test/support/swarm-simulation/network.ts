/** Channels between the nodes of a simulated world: latency, and bandwidth up and down; in order, until one breaks. */
import type { BlockRun } from '../../../src/swarm/types.ts'
import type { Events } from './events.ts'

export type Range = { readonly piece: number; readonly offset: number; readonly length: number }

export type Message =
  | { readonly kind: 'pieces'; readonly pieces: readonly number[] | 'all' }
  | { readonly kind: 'have'; readonly piece: number }
  | { readonly kind: 'interest'; readonly isInterested: boolean }
  | { readonly kind: 'choke'; readonly isChoked: boolean }
  | { readonly kind: 'request' | 'cancel' | 'reject'; readonly range: Range }
  | { readonly kind: 'data'; readonly range: Range; readonly run: BlockRun; readonly bad: ReadonlySet<number> }
  | { readonly kind: 'ask-leaves' | 'leaves' | 'no-leaves'; readonly piece: number }

/** Bytes a second. */
export type Line = { readonly up: number; readonly down: number }

/** A node, as its channels see it. */
export interface Party {
  readonly name: string
  readonly line: Line
  opened(end: End): void
  received(end: End, message: Message): void
  closed(end: End): void
}

/** One node's side of a channel. */
export type End = {
  readonly id: number
  readonly owner: Party
  readonly other: End
  isOpen: boolean
  lastArrivalAt: number
}

const MESSAGE_BYTES = 17

export class Network {
  readonly events: Events
  /** When the line of each is free again. */
  readonly #upFreeAt = new Map<Party, number>()
  readonly #downFreeAt = new Map<Party, number>()
  readonly #latencyMs: (a: Party, b: Party) => number
  #ends = 0

  constructor(events: Events, latencyMs: (a: Party, b: Party) => number) {
    this.events = events
    this.#latencyMs = latencyMs
  }

  connect(a: Party, b: Party): void {
    const near = { id: this.#ends++, owner: a, isOpen: true, lastArrivalAt: 0 } as {
      -readonly [K in keyof End]: End[K]
    }
    const far: End = { id: this.#ends++, owner: b, isOpen: true, lastArrivalAt: 0, other: near }
    near.other = far
    a.opened(near)
    b.opened(far)
  }

  /** @returns when the bytes have left */
  send(end: End, message: Message): number {
    const { events } = this
    if (!end.isOpen) return events.now
    let at = events.now
    const latency = this.#latencyMs(end.owner, end.other.owner)
    const bytes = message.kind === 'data' ? message.range.length : 0
    if (bytes > 0) {
      at = Math.max(at, this.#upFreeAt.get(end.owner) ?? 0) + ((bytes + MESSAGE_BYTES) / end.owner.line.up) * 1000
      this.#upFreeAt.set(end.owner, at)
    }
    const leftAt = at
    at += latency
    if (bytes > 0) {
      const { down } = end.other.owner.line
      at = Math.max(at, (this.#downFreeAt.get(end.other.owner) ?? 0) + (bytes / down) * 1000)
      this.#downFreeAt.set(end.other.owner, at)
    }
    at = Math.max(at, end.lastArrivalAt)
    end.lastArrivalAt = at
    events.at(at, () => {
      if (end.other.isOpen) end.other.owner.received(end.other, message)
    })
    return leftAt
  }

  /** The other side learns of it a little later. */
  close(end: End): void {
    if (!end.isOpen) return
    end.isOpen = false
    end.owner.closed(end)
    this.events.after(this.#latencyMs(end.owner, end.other.owner), () => {
      if (!end.other.isOpen) return
      end.other.isOpen = false
      end.other.owner.closed(end.other)
    })
  }
}
