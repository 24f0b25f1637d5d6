/** Gives records to peers: at once for a put, one after another in the background for what is handed on or corrected. */
import type { PeerId } from '@libp2p/interface'
import { systemClock } from '#base'
import { type Dht, NO_PATH } from './dht.ts'
import { SENDS_WAITING_MAX, STORES_PARALLEL_MAX } from './limits.ts'
import { encodeLibp2pRecord } from './libp2p-record.ts'
import type { SignedRecord } from './record.ts'
import { isSame } from './record-book.ts'

type Job = { readonly peer: PeerId; readonly record: SignedRecord }

export class Sender {
  readonly #dht: () => Dht
  readonly #stopping = new AbortController()
  readonly #jobs = new Map<string, Job>()
  #running = 0

  constructor(deps: { readonly dht: () => Dht }) {
    this.#dht = deps.dht
  }

  /** True where the peer has confirmed that it holds the record. */
  async store(peer: PeerId, { key, bytes }: SignedRecord, signal: AbortSignal): Promise<boolean> {
    const keyBytes = new TextEncoder().encode(key)
    const record = encodeLibp2pRecord({ key: keyBytes, value: bytes }, systemClock.now())
    const message = { type: 'PUT_VALUE', key: keyBytes, record } as const
    for await (const event of this.#dht().network.sendRequest(peer, message, { signal, path: NO_PATH })) {
      if (event.name === 'PEER_RESPONSE' && event.record !== undefined) return isSame(event.record.value, bytes)
    }
    return false
  }

  /** Later, without anybody waiting for it. False where too much waits. */
  enqueue(peer: PeerId, record: SignedRecord): boolean {
    const name = `${peer.toString()} ${record.key}`
    if (this.#stopping.signal.aborted || (this.#jobs.size >= SENDS_WAITING_MAX && !this.#jobs.has(name))) return false
    this.#jobs.set(name, { peer, record })
    if (this.#running < STORES_PARALLEL_MAX) void this.#run() // Handles its own errors, and ends with the queue.
    return true
  }

  stop(): void {
    this.#stopping.abort(new Error('the DHT is stopped'))
    this.#jobs.clear()
  }

  async #run(): Promise<void> {
    this.#running++
    try {
      for (const [name, { peer, record }] of this.#jobs) {
        this.#jobs.delete(name)
        await this.store(peer, record, this.#stopping.signal)
      }
    } catch {
      // The peer is gone, or does not want it: the next republish finds another.
    } finally {
      this.#running--
    }
    if (this.#jobs.size > 0 && this.#running < STORES_PARALLEL_MAX) void this.#run() // As above.
  }
}

/** Runs `action` for each, so many at once. What it throws ends all of it. */
export async function forEachLimited<T>(
  items: readonly T[],
  limit: number,
  action: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    for (let item = items[next++]; item !== undefined; item = items[next++]) await action(item)
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker))
}
