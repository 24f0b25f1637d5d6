/** The bounds of recursive discovery, one by one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '#base'
import { CountingClock } from '../../test/support/counting-clock.ts'
import { Explorer, type ExplorerOptions } from './explorer.ts'
import { DIAL_RETRY_MS_MIN, DIALS_WAITING_MAX } from './limits.ts'
import type { PeerMetadata, VersionedMetadata } from './peer-metadata.ts'

const turns = async (): Promise<void> => {
  for (let i = 0; i < 50; i++) await new Promise(resolve => setImmediate(resolve))
}

function bench(options: ExplorerOptions = {}, over: { readonly isDeaf?: boolean } = {}) {
  const clock = new CountingClock()
  const connected = new Set<string>()
  const metadata = new Map<string, VersionedMetadata>()
  const dialled: string[] = []
  const unreachable = new Set<string>()
  let running = 0
  const state = { most: 0 }
  const explorer = new Explorer(
    {
      clock,
      log: silentLogger,
      connect: async (address, { signal }) => {
        const peer = address.split('/').at(-1) ?? ''
        dialled.push(peer)
        state.most = Math.max(state.most, ++running)
        try {
          if (over.isDeaf === true) {
            await new Promise((_resolve, reject) => {
              signal?.addEventListener('abort', () => reject(new Error('given up')))
            })
          }
          await Promise.resolve()
          if (unreachable.has(peer)) throw new Error('nobody is there')
          connected.add(peer)
          return peer
        } finally {
          running--
        }
      },
      isConnected: peer => connected.has(peer),
      connectedCount: () => connected.size,
      metadataOf: async peer => metadata.get(peer),
      recordAddressesOf: peer => (metadata.has(peer) ? [] : [`/ip4/10.0.0.1/tcp/1/p2p/${peer}`]),
      ownPublicHost: () => undefined,
    },
    options,
  )
  return { clock, connected, metadata, dialled, unreachable, state, explorer }
}

const named = (prefix: string, count: number, source = 'self') =>
  Array.from({ length: count }, (_, i) => ({
    peer: `${prefix}${i}`,
    source: source === 'each' ? `${prefix}${i}` : source,
  }))

test('a few at once, so many in a round, so many because of one peer', async () => {
  const { explorer, dialled, state } = bench({ dialsMax: 3, roundDialsMax: 10, sourceDialsMax: 4, peersWanted: 100 })
  explorer.add(named('a', 20, 'alice'))
  await turns()
  assert.equal(dialled.length, 4, 'because of alice')
  explorer.add(named('b', 20, 'each'))
  await turns()
  assert.equal(dialled.length, 10, 'in a round')
  explorer.newRound()
  await turns()
  assert.equal(dialled.length, 20)
  assert.ok(state.most <= 3, `${state.most} at once`)
})

test('nobody is dialled beyond what is wanted, nor from too far away', async () => {
  const { explorer, dialled, connected } = bench({ depthMax: 2, peersWanted: 4 })
  explorer.add([{ peer: 'a', source: 'self' }])
  await turns()
  explorer.add([{ peer: 'b', source: 'a' }])
  await turns()
  explorer.add([{ peer: 'c', source: 'b' }])
  await turns()
  assert.deepEqual(dialled, ['a', 'b'], 'b is two steps away')
  explorer.add(named('x', 10, 'each'))
  await turns()
  assert.ok(connected.size >= 4 && dialled.length <= 8, `${dialled.length} dials`)
  assert.equal(explorer.isHungry, false)
  explorer.add(named('y', DIALS_WAITING_MAX + 50))
  assert.equal(explorer.pending, 0)
})

test('who cannot be reached is left alone for longer and longer', async () => {
  const { clock, explorer, dialled, unreachable } = bench()
  unreachable.add('a')
  const again = async (): Promise<void> => {
    explorer.newRound()
    explorer.add([{ peer: 'a', source: 'self' }])
    await turns()
  }
  await again()
  await again()
  assert.equal(dialled.length, 1)
  clock.advance(DIAL_RETRY_MS_MIN)
  await again()
  clock.advance(DIAL_RETRY_MS_MIN)
  await again()
  assert.equal(dialled.length, 2, 'twice as long now')
  clock.advance(DIAL_RETRY_MS_MIN)
  await again()
  assert.equal(dialled.length, 3)
})

test('a NAT peer without a relay is skipped until its metadata changes', async () => {
  const { explorer, dialled, metadata } = bench()
  const nat: PeerMetadata = {
    version: 1,
    timestamp: 0,
    nodeType: 'private',
    isRelay: false,
    addresses: [],
    protocols: [],
    capabilities: [],
  }
  metadata.set('a', { metadata: nat, sequence: 3 })
  explorer.add([{ peer: 'a', source: 'self' }])
  await turns()
  explorer.metadataChanged('a', 3)
  explorer.add([{ peer: 'a', source: 'self' }])
  await turns()
  assert.deepEqual(dialled, [])
  const relay = { peer: 'R', session: 's', address: '/ip4/198.51.100.7/tcp/4001' }
  metadata.set('a', { metadata: { ...nat, relay }, sequence: 4 })
  explorer.metadataChanged('a', 4)
  explorer.add([{ peer: 'a', source: 'self' }])
  await turns()
  assert.deepEqual(dialled, ['a'], 'by its relay, at once')
})

test('stopping ends dials that nobody answers, and leaves no timer', async () => {
  const { clock, explorer } = bench({}, { isDeaf: true })
  explorer.add(named('a', 10))
  await turns()
  assert.ok(explorer.pending > 0)
  await explorer.stop()
  assert.deepEqual([explorer.pending, clock.pending], [0, 0])
})
