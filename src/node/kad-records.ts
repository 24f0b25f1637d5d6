/** Kademlia as discovery uses it: payloads of a kind under the peer that signs them, and who has what a key stands for. */
import type { Clock } from '#base'
import { sha256 } from '#crypto'
import type { KadRecords } from '#discovery'
import type { KeyProvider } from '#identity'
import { createKadRecord, type Kad, KadError, recordKey } from '#kad'
import { KAD_RECORD_LIFE_MS } from './limits.ts'

/** Kinds of records that discovery puts. */
export const KAD_KINDS = ['metadata', 'services'] as const

export function createKadRecords(
  deps: { readonly clock: Clock; readonly signer: KeyProvider },
  kad: Pick<Kad, 'provide' | 'findProviders' | 'put' | 'get'>,
): KadRecords {
  const { clock, signer } = deps
  return {
    provide: async (key, options) => {
      await kad.provide(sha256(key), options)
    },
    findProviders: (key, options) => kad.findProviders(sha256(key), options),
    put: async ({ kind, payload }, options) => {
      const now = clock.now()
      // Numbers follow the clock, so that they grow over a restart too.
      const content = { kind, sequence: now, expiresAt: now + KAD_RECORD_LIFE_MS, value: payload }
      await kad.put(await createKadRecord(signer, content), options)
    },
    get: async (kind, peer, options) => {
      try {
        return (await kad.get(recordKey(kind, peer), options)).value
      } catch (error) {
        if (error instanceof KadError && error.code === 'KAD_NOT_FOUND') return undefined
        throw error
      }
    },
  }
}
