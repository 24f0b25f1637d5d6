/** Real nodes of the Mainline DHT on loopback: metadata goes there and comes back, and strangers meet under a topic. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { silentLogger, systemClock, systemRandom, withDeadline } from '#base'
import { createDiscovery, type Discovery, type OwnFacts } from '#discovery'
import type { NodeIdentity } from '#identity'
import { createMainlineNode, createUdpSockets, type MainlineNode } from '#mainline'
import { identityOf, MemoryHost } from '../../test/support/discovery-swarm.ts'
import { stretchedClock } from '../../test/support/stretched-clock.ts'
import { createMetadataNetwork } from './metadata-network.ts'

const WAIT_MS_MAX = 60_000

async function startMainline(): Promise<MainlineNode> {
  const sockets = createUdpSockets({ clock: systemClock }, { listen: [{ host: '127.0.0.1', port: 0 }] })
  const deps = { clock: stretchedClock, random: systemRandom, log: silentLogger, sockets }
  // All nodes share one address here, and with it one allowance.
  const rate = { tokensMax: 10_000, perSecond: 5_000 }
  const node = createMainlineNode(deps, { isLoopbackExempt: true, addressRate: rate, totalRate: rate })
  await node.start()
  return node
}

type Party = {
  readonly identity: NodeIdentity
  readonly host: MemoryHost
  readonly mainline: MainlineNode
  readonly discovery: Discovery
  facts: OwnFacts
}

function factsOf(index: number): OwnFacts {
  return {
    nodeType: 'public',
    isRelay: index === 0,
    publicPlace: { host: '127.0.0.1', tcp: 20_001 + index },
    addresses: [],
    protocols: ['/koinon/control/1'],
    capabilities: [],
  }
}

/** Discovery of one whom nobody knows, and who knows nobody: over another's node of the DHT. Not started. */
function strangerTo(world: Map<string, MemoryHost>, { mainline }: Party): Discovery {
  const { peer, provider } = identityOf(systemRandom)
  const host = new MemoryHost(peer, '/ip4/127.0.0.1/tcp/20099', world)
  const deps = { clock: systemClock, random: systemRandom, log: silentLogger, signer: provider }
  return createDiscovery(
    { ...deps, host, mainline, facts: () => ({ ...factsOf(98), nodeType: 'private' }) },
    { topic: 'koinon-test', meetsStrangers: false },
  )
}

/** Waits until a condition holds that discovery's events may change. */
async function until(parties: readonly Party[], what: string, isTrue: () => boolean): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const look = (): void => {
    if (isTrue()) resolve()
  }
  for (const { discovery } of parties) discovery.onEvent(look)
  look()
  await withDeadline(systemClock, { what, timeoutMs: WAIT_MS_MAX }, () => promise)
}

for (const count of [2, 10]) {
  describe(`${count} nodes of the Mainline DHT on loopback`, () => {
    const world = new Map<string, MemoryHost>()
    const parties: Party[] = []
    const sequences = new Map<string, number>()

    before(async () => {
      for (let i = 0; i < count; i++) {
        const identity = identityOf(systemRandom)
        const host = new MemoryHost(identity.peer, `/ip4/127.0.0.1/tcp/${20_001 + i}`, world)
        const mainline = await startMainline()
        const [first] = parties
        if (first !== undefined) {
          const port = first.mainline.status().families[0]?.local.port
          await mainline.bootstrap([`127.0.0.1:${port}`])
        }
        const discovery = createDiscovery(
          {
            clock: systemClock,
            random: systemRandom,
            log: silentLogger,
            signer: identity.provider,
            host,
            mainline,
            facts: () => party.facts,
          },
          { topic: 'koinon-test', intervalMs: 200 },
        )
        const party: Party = { identity, host, mainline, discovery, facts: factsOf(i) }
        discovery.onEvent(event => {
          if (event.kind === 'published') sequences.set(host.id, event.sequence)
        })
        parties.push(party)
      }
      for (const { discovery } of parties) discovery.start()
    })

    after(async () => {
      for (const { discovery } of parties) await discovery.stop()
      for (const { mainline } of parties) await mainline.stop()
    })

    it('publish their metadata, which others get and whose signer they check', async () => {
      await until(parties, 'publication', () => sequences.size === count)
      const [reader = assert.fail()] = parties
      // The parties may have asked for one another's before it was there, and remember for a minute that there was none.
      const stranger = strangerTo(world, reader)
      for (const { host, facts } of parties.slice(1)) {
        assert.deepEqual(await stranger.plan(host.id), { kind: 'direct', addresses: [host.address] })
        const network = createMetadataNetwork({ ...reader, log: silentLogger, signer: reader.identity.provider })
        const found = await network.get(host.id, {})
        assert.deepEqual(found?.metadata, { ...facts, version: 1, timestamp: found?.metadata.timestamp })
        assert.equal(found?.sequence, 0)
      }
      await stranger.stop()
    })

    it('meet under the topic, with no address of one another to begin with', async () => {
      const isComplete = (): boolean => parties.every(({ discovery }) => discovery.status().knownPeers === count - 1)
      await until(parties, 'meeting', isComplete)
      for (const { host } of parties) assert.ok(host.peers().length > 0)
    })

    it('publish a change at once, under the next number', async () => {
      const [changed = assert.fail(), other = assert.fail()] = parties
      changed.facts = { ...changed.facts, isRelay: false, capabilities: ['changed'] }
      changed.discovery.factsChanged()
      await until(parties, 'publication', () => sequences.get(changed.host.id) === 1)
      const network = createMetadataNetwork({ ...other, log: silentLogger, signer: other.identity.provider })
      const found = await network.get(changed.host.id, {})
      assert.deepEqual([found?.sequence, found?.metadata.capabilities], [1, ['changed']])
    })

    it('find a service of one whom they do not know, by its announcement in the DHT', async () => {
      const [server = assert.fail()] = parties
      server.discovery.announce([{ service: 'embed' }])
      await until(parties, 'announcement', () => server.discovery.status().announcements > 0)
      const discovery = strangerTo(world, parties.at(-1) ?? assert.fail())
      discovery.start()
      try {
        let found: string | undefined
        // The announcement may be on its way still: a search ends, and the next one sees it.
        for (let attempt = 0; attempt < 20 && found === undefined; attempt++) {
          for await (const service of discovery.find({ service: 'embed' }, { timeoutMs: 3_000 })) {
            assert.deepEqual([service.service, service.via], ['embed', 'mainline'])
            found = service.peer
          }
        }
        assert.equal(found, server.host.id)
      } finally {
        await discovery.stop()
      }
    })
  })
}
