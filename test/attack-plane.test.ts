/** Attacks on the data plane of a node: sockets without a key, with one that was used, and what is no handshake at all. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { concatBytes, seededRandom, systemRandom } from '#base'
import { encodePlaneIdentity } from '#protocol'
import { encodeStageStart, PROTOCOLS } from '#wire'
import { sessionOf, useAttackedNode } from './support/attacked-node.ts'
import { startHost, within } from './support/net-hosts.ts'
import { dialPlane, firstFlight, sendGarbage } from './support/plane-garbage.ts'
import { dataFrame, openingFrame } from './support/raw-carried.ts'

const node = useAttackedNode()

/** Where the node's data plane listens, as any peer is told. */
async function planePort(test: { after(end: () => Promise<void>): void }): Promise<number> {
  const host = await startHost(test)
  await host.connect(node.address)
  const port = host.peers()[0]?.offer.planePort
  assert.ok(port !== undefined)
  return port
}

describe('attack: data plane', () => {
  it('garbage, halves of handshakes and sudden ends at the data plane change nothing', async test => {
    const seed = systemRandom.uint32()
    test.diagnostic(`seed ${seed}`)
    const port = await planePort(test)
    const hello = await firstFlight(sessionOf(await node.member()))
    await sendGarbage(port, { random: seededRandom(seed), hello, rounds: 40 })
    await node.survives()
  })

  it('a connection to the data plane without a key of a session, or with one again, is refused', async test => {
    const port = await planePort(test)
    const member = await node.member()
    const session = sessionOf(member)
    const { identity, key } = session.openPlane()
    const text = encodePlaneIdentity(identity)
    const refused = [
      { identity: text, key: new Uint8Array(32) },
      { identity: encodePlaneIdentity({ ...identity, session: new Uint8Array(16) }), key },
      { identity: encodePlaneIdentity({ ...identity, number: identity.number + 2 }), key },
      { identity: text, key, protocol: PROTOCOLS.control },
    ]
    for (const target of refused) await assert.rejects(within('a refusal', dialPlane(port, session, target)))
    const socket = await within('the stream', dialPlane(port, session, { identity: text, key }))
    const start = concatBytes([openingFrame(), dataFrame(encodeStageStart('control'))])
    socket.write(Uint8Array.of(0, 0, 0, start.byteLength, ...start))
    await assert.rejects(within('a refusal', dialPlane(port, session, { identity: text, key })))
    socket.destroy()
    await node.survives()
  })
})
