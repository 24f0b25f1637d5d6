/** Real nodes that are told of nobody find one another through the BitTorrent DHT, and what they serve. */
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { silentLogger, systemClock, systemRandom } from '#base'
import { createMainlineNode, createUdpSockets, type MainlineNode } from '#mainline'
import { startSwarm, type SwarmNode, until } from '../tools/swarm.ts'

const SECRET = 'only members of this swarm can tell its topic'

describe('nodes that are told of nobody', () => {
  it('meet through the Mainline DHT, and find a stage', { timeout: 180_000 }, async test => {
    const router = await startRouter(test)
    const { host = '', port = 0 } = router.status().families[0]?.local ?? {}
    const args = ['--mainline', '0', '--mainline-bootstrap', `${host}:${port}`]
    // Two swarms of one node each: neither is the other's contact.
    const one = await startSwarm({ nodes: [{ layers: '0-8', args }], secret: SECRET })
    test.after(() => one.stop())
    const two = await startSwarm({ nodes: [{ layers: 'none', args }], secret: SECRET, whole: false })
    test.after(() => two.stop())
    const [server, client] = [one.nodes[0], two.nodes[0]]
    assert(server !== undefined && client !== undefined)

    await until(() => hasMet(client, server), { what: 'the two nodes meeting', timeoutMs: 120_000 })
    const { peer, modelId = '' } = server.ready
    const found: string[] = []
    const signal = AbortSignal.timeout(30_000)
    for await (const service of client.client.find({ service: 'stage', model: modelId }, { signal })) {
      found.push(service.peer)
    }
    assert.deepEqual(found, [peer])
    assert.ok(((await client.client.network()).dht?.mainlineNodes ?? 0) > 0)
  })
})

async function hasMet({ client }: SwarmNode, { ready }: SwarmNode): Promise<true | undefined> {
  return (await client.peers()).some(({ peer }) => peer === ready.peer) ? true : undefined
}

/** A node of the DHT that everybody knows. */
async function startRouter(test: TestContext): Promise<MainlineNode> {
  const sockets = createUdpSockets({ clock: systemClock }, { listen: [{ host: '127.0.0.1', port: 0 }] })
  const deps = { clock: systemClock, random: systemRandom, log: silentLogger, sockets }
  const node = createMainlineNode(deps, { isLoopbackExempt: true })
  await node.start()
  test.after(() => node.stop())
  return node
}
