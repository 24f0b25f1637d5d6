/** Which requests run and which wait: bounded in all and for each peer, the urgent first, then the oldest. */
import { PRIORITIES, type Priority } from '#wire'
import {
  REQUESTS_RUNNING_MAX,
  REQUESTS_RUNNING_PER_PEER_MAX,
  REQUESTS_RUNNING_RESERVED,
  REQUESTS_WAITING_MAX,
  REQUESTS_WAITING_PER_PEER_MAX,
} from './limits.ts'

export type CallBounds = {
  readonly runningMax: number
  readonly runningPerPeerMax: number
  /** Of both, places that only requests of high priority take. */
  readonly reserved: number
  readonly waitingMax: number
  readonly waitingPerPeerMax: number
}

export const DEFAULT_CALL_BOUNDS: CallBounds = {
  runningMax: REQUESTS_RUNNING_MAX,
  runningPerPeerMax: REQUESTS_RUNNING_PER_PEER_MAX,
  reserved: REQUESTS_RUNNING_RESERVED,
  waitingMax: REQUESTS_WAITING_MAX,
  waitingPerPeerMax: REQUESTS_WAITING_PER_PEER_MAX,
}

export type Queued = { readonly peer: string; readonly priority: Priority }

export class CallQueue<Item extends Queued> {
  readonly #bounds: CallBounds
  readonly #waiting: Readonly<Record<Priority, Item[]>> = { high: [], normal: [], low: [] }
  readonly #waitingOf = new Map<string, number>()
  readonly #runningOf = new Map<string, number>()
  #running = 0

  constructor(bounds: CallBounds) {
    this.#bounds = bounds
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return PRIORITIES.reduce((count, priority) => count + this.#waiting[priority].length, 0)
  }

  /** Whether an item would run at once or may wait. */
  hasRoom(item: Queued): boolean {
    if (this.#mayRun(item)) return true
    return (
      this.waiting < this.#bounds.waitingMax && (this.#waitingOf.get(item.peer) ?? 0) < this.#bounds.waitingPerPeerMax
    )
  }

  /** Adds an item that waits until `next` gives it out. Ask `hasRoom` before. */
  push(item: Item): void {
    this.#waiting[item.priority].push(item)
    count(this.#waitingOf, item.peer, 1)
  }

  /** The next item that may run now; it counts as running until `done`. */
  next(): Item | undefined {
    for (const priority of PRIORITIES) {
      const item = this.#waiting[priority].find(candidate => this.#mayRun(candidate))
      if (item === undefined) continue
      this.remove(item)
      count(this.#runningOf, item.peer, 1)
      this.#running++
      return item
    }
    return undefined
  }

  /** Takes out an item that waits. */
  remove(item: Item): void {
    const list = this.#waiting[item.priority]
    const at = list.indexOf(item)
    if (at < 0) return
    list.splice(at, 1)
    count(this.#waitingOf, item.peer, -1)
  }

  /** An item that `next` gave out runs no longer. */
  done(item: Item): void {
    count(this.#runningOf, item.peer, -1)
    this.#running--
  }

  #mayRun({ peer, priority }: Queued): boolean {
    const { runningMax, runningPerPeerMax, reserved } = this.#bounds
    const kept = priority === 'high' ? 0 : reserved
    return this.#running < runningMax - kept && (this.#runningOf.get(peer) ?? 0) < runningPerPeerMax - kept
  }
}

/** Peers that have none are not kept. */
function count(counts: Map<string, number>, peer: string, change: number): void {
  const sum = (counts.get(peer) ?? 0) + change
  if (sum > 0) counts.set(peer, sum)
  else counts.delete(peer)
}
