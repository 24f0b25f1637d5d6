/** Ten real nodes that are given one address: how long until each knows, and is connected to, every other (DISC-10). */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { startSwarm, type SwarmNode, until } from '../tools/swarm.ts'

const NODES = 10
/** What DISC-10 allows ten to fifty nodes. */
const KNOWN_MS_MAX = 120_000

describe('ten nodes', () => {
  it('all know one another within two minutes, from one address', { timeout: 480_000 }, async test => {
    const start = performance.now()
    const nodes = Array.from({ length: NODES }, () => ({ layers: 'none' }))
    const swarm = await startSwarm({ nodes, secret: 'a secret of ten nodes', whole: false })
    test.after(() => swarm.stop())
    const startedMs = performance.now() - start
    const know = async (): Promise<true | undefined> => {
      const known = await Promise.all(swarm.nodes.map(knownPeers))
      return known.every(count => count >= NODES - 1) ? true : undefined
    }
    await until(know, { what: 'everybody knowing everybody', timeoutMs: KNOWN_MS_MAX })
    const knownMs = performance.now() - start
    const meet = async (): Promise<true | undefined> => {
      const here = await Promise.all(swarm.nodes.map(({ client }) => client.peers()))
      return here.every(peers => peers.length === NODES - 1) ? true : undefined
    }
    await until(meet, { what: 'everybody being connected to everybody', timeoutMs: KNOWN_MS_MAX })
    const metMs = performance.now() - start
    const exchanged = await Promise.all(swarm.nodes.map(exchangedBytes))
    const seconds = (ms: number): string => (ms / 1000).toFixed(1)
    test.diagnostic(
      `started after ${seconds(startedMs)} s; all known after ${seconds(knownMs)} s, connected after ${seconds(metMs)} s; ` +
        `bytes of an exchange each way: ${Math.min(...exchanged)} to ${Math.max(...exchanged)}`,
    )
    assert.ok(Math.max(...exchanged) <= 10 * 1024)
  })
})

async function knownPeers({ client }: SwarmNode): Promise<number> {
  return (await client.network()).discovery?.knownPeers ?? 0
}

async function exchangedBytes({ client }: SwarmNode): Promise<number> {
  const { sentBytes = 0, receivedBytes = 0 } = (await client.network()).discovery ?? {}
  return Math.max(sentBytes, receivedBytes)
}
