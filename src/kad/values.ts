/** Put and get of signed records. */
import type { PeerId } from '@libp2p/interface'
import { KadError, keyInvalid } from './errors.ts'
import { CORRECTIONS_MAX, STORES_PARALLEL_MAX, VALUES_COMPARED } from './limits.ts'
import { decodeRecordKey, type SignedRecord } from './record.ts'
import { isSame, latestOf, type RecordBook } from './record-book.ts'
import { forEachLimited, type Sender } from './sender.ts'
import type { GetResult, PutResult, SignalOptions } from './types.ts'
import type { Answer, Walker } from './walk.ts'

export type ValuesDeps = { readonly walker: Walker; readonly records: RecordBook; readonly sender: Sender }

/** What peers gave for one key. */
type Collected = {
  readonly valid: SignedRecord[]
  readonly paths: Set<number>
  /** Who gave what, valid or older than another. */
  readonly holders: { readonly peer: PeerId; readonly bytes: Uint8Array }[]
  hops: number
}

export class Values {
  readonly #deps: ValuesDeps
  readonly #holdersMax: number

  /** @param options.holders closest peers and siblings together */
  constructor(deps: ValuesDeps, options: { readonly holders: number }) {
    this.#deps = deps
    this.#holdersMax = options.holders
  }

  /** Sends a record that has been checked to the closest peers and their siblings. */
  async put(signed: SignedRecord, options: SignalOptions & { readonly quorum: number }): Promise<PutResult> {
    const { walker, sender } = this.#deps
    return await walker.within(options.signal, async signal => {
      const closest = await walker.closest(new TextEncoder().encode(signed.key), { signal })
      const targets = closest.slice(0, this.#holdersMax)
      let acknowledged = 0
      await forEachLimited(targets, STORES_PARALLEL_MAX, async ({ from }) => {
        if (await sender.store(from, signed, signal)) acknowledged++
      }).catch((error: unknown) => {
        // What was confirmed before the time was up counts.
        if (!signal.aborted) throw error
      })
      if (acknowledged < options.quorum) {
        throw new KadError(
          { code: 'KAD_QUORUM', acknowledged, quorum: options.quorum },
          `${acknowledged} peers hold the value and ${options.quorum} were asked for; it is announced again later`,
        )
      }
      return { key: signed.key, acknowledged, asked: targets.length }
    })
  }

  async get(key: string, options: SignalOptions): Promise<GetResult> {
    if (decodeRecordKey(key) === undefined) throw keyInvalid()
    const { walker, records } = this.#deps
    return await walker.within(options.signal, async signal => {
      const collected: Collected = { valid: [], paths: new Set(), holders: [], hops: 0 }
      const held = records.find(key)
      try {
        for await (const answer of walker.walk(new TextEncoder().encode(key), 'GET_VALUE', { signal })) {
          this.#collect(key, answer, collected)
          // One path may be an attacker's whole, and old values that hold are easy to have.
          if (collected.valid.length >= VALUES_COMPARED && collected.paths.size > 1) break
        }
      } catch (error) {
        if (collected.valid.length === 0 && held === undefined) throw error
      }
      const latest = latestOf(held === undefined ? collected.valid : [...collected.valid, held])
      if (latest === undefined)
        throw new KadError({ code: 'KAD_NOT_FOUND' }, 'nobody in the DHT has a value of that key')
      this.#correct(latest, collected)
      if (held !== undefined && held !== latest) records.hold(key, latest.bytes)
      const { paths, hops, valid } = collected
      return { key, ...latest.record, bytes: latest.bytes, answers: valid.length, paths: paths.size, hops }
    })
  }

  #collect(key: string, { from, path, hops, record }: Answer, collected: Collected): void {
    if (record === undefined || new TextDecoder().decode(record.key) !== key) return
    const signed = this.#deps.records.check(key, record.value)
    if (!(signed instanceof KadError)) {
      if (collected.valid.length === 0) collected.hops = hops
      collected.valid.push(signed)
      collected.paths.add(path)
    } else if (signed.code !== 'KAD_RECORD_ROLLBACK') return
    collected.holders.push({ peer: from, bytes: record.value })
  }

  #correct(latest: SignedRecord, { holders }: Collected): void {
    const behind = holders.filter(({ bytes }) => !isSame(bytes, latest.bytes))
    for (const { peer } of behind.slice(0, CORRECTIONS_MAX)) this.#deps.sender.enqueue(peer, latest)
  }
}
