/**
 * Somebody in between who changes what the two sides offer, as a relay could. Against a real node with an attacker who
 * cannot sign, then with one who can sign HELLOs in the dialler's name; and between two links of this process, where
 * both directions can be signed anew. The prologue holds even then.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createStreamPair, silentLogger, systemClock, systemRandom } from '#base'
import { createNodeIdentity, type NodeIdentity } from '#identity'
import { ControlLink, SessionClaims } from '#protocol'
import { CIPHER_SUITES, encodeBody, type Hello, PROTOCOLS } from '#wire'
import { useAttackedNode } from './support/attacked-node.ts'
import { helloIn, keyOf, NO_SESSION, refusalOf, signedAgain } from './support/forged-frames.ts'
import { within } from './support/net-hosts.ts'
import { type RawControl, tapped } from './support/raw-peer.ts'
import { sessionMemory } from './support/session-memory.ts'

const node = useAttackedNode()

/** What somebody in between would like the two to agree on. */
const CHANGES: Readonly<Record<string, (hello: Hello) => Partial<Hello>>> = {
  'versions, to fewer': () => ({ versions: [1], preferred: 1 }),
  'versions, to more': () => ({ versions: [1, 2, 9] }),
  'the preferred version': () => ({ preferred: 2 }),
  'suites, one more in front': () => ({ suites: ['Noise_NN_25519_AESGCM_SHA256', ...CIPHER_SUITES] }),
  'suites, one more behind': () => ({ suites: [...CIPHER_SUITES, 'Noise_XX_25519_AESGCM_SHA256'] }),
  capabilities: () => ({ capabilities: ['nothing'] }),
  'the name of the software': () => ({ agent: 'koinon/0.0.1' }),
  'the time': ({ time }) => ({ time: time - 1000 }),
  'the nonce': () => ({ nonce: systemRandom.bytes(32) }),
}
/** Of these no session comes about, and it is said at once. */
const REFUSALS: Readonly<Record<string, readonly [(hello: Hello) => Partial<Hello>, string]>> = {
  'versions, to unknown ones': [() => ({ versions: [7] }), 'version'],
  'suites, to unknown ones': [() => ({ suites: ['Noise_NN_25519_AESGCM_SHA256'] }), 'suite'],
  'the swarm secret': [() => ({ secret: true }), 'secret-unexpected'],
}

/** Changes nothing where the result would be what was offered anyway. */
async function changed(
  frame: Uint8Array,
  { signer, to, change }: { signer: NodeIdentity; to: string; change: (hello: Hello) => Partial<Hello> },
): Promise<Uint8Array> {
  const hello = helloIn(frame)
  const payload = encodeBody({ ...hello, versions: [1], ...change(hello), extra: 1 })
  const context = { sender: signer.provider.publicKey, recipient: keyOf(to), session: NO_SESSION }
  return signedAgain(frame, context, { signer: signer.provider, payload })
}

async function dial(
  tamper: (frame: Uint8Array, index: number, identity: NodeIdentity) => Promise<Uint8Array>,
): Promise<RawControl> {
  const peer = await node.raw()
  const raw = await peer.dial(node.address)
  return raw.control({ tamper: async (frame, i) => [await tamper(frame, i, peer.identity)] })
}

describe('attack: downgrade', () => {
  it('an offer that was changed by somebody who cannot sign is refused by the side that hears it', async () => {
    const stranger = await createNodeIdentity(systemRandom)
    for (const change of Object.values(CHANGES).slice(0, 4)) {
      // Towards the node: under the signature that was there, and under one of the attacker's own.
      const control = await dial(async (frame, i) =>
        i === 0 ? changed(frame, { signer: stranger, to: node.id, change }) : frame,
      )
      assert.deepEqual(await refusalOf(control), { reason: 'authentication', by: 'peer' })
      // Towards the dialler.
      const peer = await node.raw()
      const raw = await peer.dial(node.address)
      const back = await raw.control({
        tamperIn: async (frame, i) =>
          i === 0 ? [await changed(frame, { signer: stranger, to: peer.identity.peer, change })] : [frame],
      })
      assert.deepEqual(await refusalOf(back), { reason: 'authentication', by: 'us' })
      await node.member().then(({ raw }) => raw.connection.abort(new Error('done')))
    }
    await node.survives()
  })

  it('an offer that was changed under a good signature is found out by the handshake', async () => {
    for (const [what, change] of Object.entries(CHANGES)) {
      const control = await dial(async (frame, i, signer) =>
        i === 0 ? changed(frame, { signer, to: node.id, change }) : frame,
      )
      // The node has another prologue than the dialler: its first sealed message cannot be opened.
      assert.deepEqual(await refusalOf(control), { reason: 'authentication', by: 'us' }, what)
      assert.notEqual(control.link.state, 'established')
    }
    await node.survives()
  })

  it('an offer that has nothing in common with the node is refused with the reason', async () => {
    for (const [what, [change, reason]] of Object.entries(REFUSALS)) {
      const control = await dial(async (frame, i, signer) =>
        i === 0 ? changed(frame, { signer, to: node.id, change }) : frame,
      )
      assert.deepEqual(await refusalOf(control), { reason, by: 'peer' }, what)
    }
    await node.survives()
  })

  it('changes of either offer, even under good signatures, leave no session on either side', async () => {
    for (const side of ['dialler', 'listener'] as const) {
      for (const [what, change] of Object.entries(CHANGES)) {
        const ends = await between(side, change)
        assert.deepEqual(ends, { dialler: 'authentication', listener: 'authentication' }, `${what} of the ${side}`)
      }
    }
  })

  it('with nothing changed, the same two links come to a session', async () => {
    assert.equal(await between(undefined, () => ({})), 'established')
  })
})

/** Two links, and somebody between them who changes one HELLO and signs it anew in its sender's name. */
async function between(
  side: 'dialler' | 'listener' | undefined,
  change: (hello: Hello) => Partial<Hello>,
): Promise<{ dialler: string; listener: string } | 'established'> {
  const identities = {
    dialler: await createNodeIdentity(systemRandom),
    listener: await createNodeIdentity(systemRandom),
  }
  const peers = { a: identities.dialler.peer, b: identities.listener.peer }
  const [a, b] = createStreamPair(PROTOCOLS.control, peers)
  const established: Promise<void>[] = []
  const run = (role: 'dialler' | 'listener'): Promise<string> => {
    const identity = identities[role]
    const peer = identities[role === 'dialler' ? 'listener' : 'dialler'].peer
    const { promise, resolve } = Promise.withResolvers<void>()
    established.push(promise)
    const send = async (frame: Uint8Array, i: number): Promise<Uint8Array[]> =>
      i === 0 && role === side ? [await changed(frame, { signer: identity, to: peer, change })] : [frame]
    const stream = tapped(role === 'dialler' ? a : b, { send })
    const link = new ControlLink(
      {
        clock: systemClock,
        random: systemRandom,
        log: silentLogger,
        ...sessionMemory(),
        claims: new SessionClaims(),
        party: { peer: identity.peer, signer: identity.provider, handovers: [], capabilities: [] },
      },
      {
        stream,
        role,
        peer,
        hasRoom: () => true,
        onEstablished: resolve,
        onMessage: () => undefined,
        onLeftOut: () => undefined,
        onRotation: () => undefined,
      },
    )
    return link.run().catch((error: { fault: { reason?: string } }) => {
      stream.close().catch(() => undefined)
      return error.fault.reason ?? 'the stream ended'
    })
  }
  const ended = Promise.all([run('dialler'), run('listener')]).then(([dialler, listener]) => ({ dialler, listener }))
  const both = Promise.all(established).then(() => 'established' as const)
  return within('the end of both links', Promise.race([ended, both]))
}
