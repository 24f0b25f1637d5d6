/** Attacks on who is who, against a real node: other peers' ids, wrong signatures, keys that were given up. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { systemClock, systemRandom } from '#base'
import { createHandover, createNodeIdentity, type NodeIdentity } from '#identity'
import { FRAME_TYPES } from '#wire'
import { useAttackedNode } from './support/attacked-node.ts'
import {
  flipped,
  helloFrame,
  isRefused,
  keyOf,
  NO_SESSION,
  signedAgain,
  withBadProof,
} from './support/forged-frames.ts'
import type { RawControl, RawControlOptions, RawPeer } from './support/raw-peer.ts'

const node = useAttackedNode()

const newIdentity = (): Promise<NodeIdentity> => createNodeIdentity(systemRandom)

async function attempt(peer: RawPeer, options: RawControlOptions): Promise<RawControl> {
  return (await peer.dial(node.address)).control(options)
}

async function handover(from: NodeIdentity, to: NodeIdentity, sequence = 1): Promise<Uint8Array> {
  return createHandover({ from: from.provider, to: to.provider, at: systemClock.now(), sequence })
}

describe('attack: identity', () => {
  it('a HELLO in the name of another peer is refused, whether signed by the attacker or by the other', async () => {
    const victim = await newIdentity()
    const mine = await node.raw()
    const { provider } = mine.identity
    const forged = await helloFrame(provider, node.id, { key: victim.provider.publicKey })
    await isRefused(await attempt(mine, { tamper: () => [forged] }), 'authentication')
    // As if it had been recorded on the victim's own way to this node.
    const genuine = await helloFrame(victim.provider, node.id)
    await isRefused(await attempt(mine, { tamper: () => [genuine] }), 'authentication')
    assert.equal((await node.hears(mine.identity.peer, 'authentication-failed')).facts['reason'], 'authentication')
    assert.deepEqual(node.audited(victim.peer), [])
    await node.survives()
  })

  it('hand-over statements of another peer do not lend its name', async () => {
    const [victim, heir] = [await newIdentity(), await newIdentity()]
    const mine = await node.raw()
    const { provider } = mine.identity
    const genuine = await handover(victim, heir)
    // The new key of the victim, though the attacker's connection has nothing to do with it.
    const asHeir = { key: heir.provider.publicKey, handovers: [genuine] }
    await isRefused(
      await attempt(mine, { tamper: async () => [await helloFrame(provider, node.id, asHeir)] }),
      'authentication',
    )
    // The attacker's own key at the end of the victim's chain.
    const atEnd = { handovers: [genuine] }
    await isRefused(
      await attempt(mine, { tamper: async () => [await helloFrame(provider, node.id, atEnd)] }),
      'authentication',
    )
    // A statement of the victim for the attacker, which the victim's key has not signed.
    const claimed = await handover(victim, mine.identity)
    const claim = { handovers: [flipped(claimed, claimed.byteLength - 1, 0)] }
    await isRefused(
      await attempt(mine, { tamper: async () => [await helloFrame(provider, node.id, claim)] }),
      'authentication',
    )
    await node.hears(mine.identity.peer, 'authentication-failed')
    await node.survives()
  })

  it('frames that are signed for another recipient are refused, before the session and in it', async () => {
    const other = await newIdentity()
    const misdirect = async (index: number): Promise<RawPeer> => {
      const peer = await node.raw()
      const { provider } = peer.identity
      const control = await attempt(peer, {
        tamper: async (frame, i) => {
          if (i !== index) return [frame]
          const context = { sender: provider.publicKey, recipient: other.provider.publicKey, session: NO_SESSION }
          return [await signedAgain(frame, context, { signer: provider })]
        },
      })
      await isRefused(control, 'authentication')
      return peer
    }
    for (const index of [0, 1]) await node.hears((await misdirect(index)).identity.peer, 'authentication-failed')

    const { peer, control } = await node.member()
    const session = control.link.session
    assert.ok(session !== undefined)
    const ping = await session.sealControl(FRAME_TYPES.ping, Uint8Array.of(0xa1, 0x62, 0x69, 0x64, 7)) // {id: 7}
    const { provider } = peer.identity
    const context = { sender: provider.publicKey, recipient: other.provider.publicKey, session: session.id }
    control.stream.send(await signedAgain(ping, context, { signer: provider }))
    await isRefused(control, 'authentication')
    await node.hears(peer.identity.peer, 'authentication-failed')
    await node.survives()
  })

  it('a signature by another key is refused in every phase', async () => {
    const stranger = (await newIdentity()).provider
    for (const index of [0, 1, 2, 3]) {
      const peer = await node.raw()
      const sender = peer.identity.provider.publicKey
      const control = await attempt(peer, {
        // HELLO, two messages of the handshake, the proof.
        tamper: async (frame, i) => {
          const context = { sender, recipient: keyOf(node.id), session: NO_SESSION }
          return i === index ? [await signedAgain(frame, context, { signer: stranger })] : [frame]
        },
      })
      await isRefused(control, 'authentication')
      await node.hears(peer.identity.peer, 'authentication-failed')
    }
    await node.survives()
  })

  it('a handshake whose proof of the node key does not hold is refused', async () => {
    const peer = await node.raw()
    const control = await attempt(peer, { party: { signer: withBadProof(peer.identity.provider) } })
    await isRefused(control, 'authentication')
    assert.notEqual(control.link.state, 'established')
    await node.hears(peer.identity.peer, 'authentication-failed')
    await node.survives()
  })

  it('a rotation that the old key has not signed ends the session, and the name stays where it was', async () => {
    const [victim, heir] = [await newIdentity(), await newIdentity()]
    const { peer, raw, control } = await node.member()
    // Genuine, but of somebody else.
    control.link.send(FRAME_TYPES.rotation, { statement: await handover(victim, heir) })
    await isRefused(control, 'authentication')
    await raw.closed
    const entry = await node.hears(peer.identity.peer, 'peer-key-refused')
    assert.equal(entry.facts['key'], peer.identity.peer)
    // Its own, with a signature that does not hold.
    const again = await node.member({ peer })
    const forged = await handover(peer.identity, heir)
    again.control.link.send(FRAME_TYPES.rotation, { statement: flipped(forged, forged.byteLength - 1, 0) })
    await isRefused(again.control, 'authentication')
    const { facts } = (await node.member()).control.link
    assert.equal(facts?.key, node.id)
    await node.survives()
  })

  it('a key that was handed over speaks for nobody any more, with or without its old session', async () => {
    const member = await node.member()
    const { peer } = member
    const heir = await newIdentity()
    const statement = await handover(peer.identity, heir)
    member.control.link.rotate(statement, heir.provider)
    await node.hears(peer.identity.peer, 'peer-key-rotated')
    // The session goes on, signed by the new key.
    assert.equal((await member.commands.ask(32, {})).answer['peer'], node.id)
    member.raw.connection.abort(new Error('gone'))

    await isRefused(await attempt(peer, {}), 'superseded')
    assert.equal((await node.hears(peer.identity.peer, 'peer-key-refused')).facts['reason'], 'superseded')
    // A second hand-over by the stolen old key does not take the name back.
    const thief = await newIdentity()
    const fork = await handover(peer.identity, thief)
    const party = { signer: thief.provider, handovers: [fork] }
    await isRefused(await attempt(peer, { party }), 'superseded')
    const rightful = { signer: heir.provider, handovers: [statement] }
    const back = await node.member({ peer, control: { party: rightful } })
    assert.equal((await back.commands.ask(32, {})).answer['peer'], node.id)
    await node.survives()
  })
})
