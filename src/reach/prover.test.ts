import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, silentLogger } from '#base'
import type { Peer } from '#net'
import type { Place } from './address.ts'
import type { Helper } from './dial-back-client.ts'
import { FAILURE_LIFE_MS, HELPER_REST_MS, PROOF_LIFE_MS } from './limits.ts'
import { Proofs } from './proofs.ts'
import { Prover } from './prover.ts'

const TCP: Place = { ip: '62.1.0.1', port: 4001, transport: 'tcp' }
const QUIC: Place = { ...TCP, transport: 'quic' }
const PLANE: Place = { ...TCP, port: 4002, transport: 'plane' }

function peer(id: string, facts: Partial<Peer> & { readonly planePort?: number } = {}): Peer {
  const { planePort, ...rest } = facts
  return {
    id,
    direction: 'outbound',
    remoteAddress: `/ip4/77.${id.length}.0.1/tcp/4001`,
    observedAddress: '/ip4/62.1.0.1/tcp/39000',
    offer: planePort === undefined ? {} : { planePort },
    ...rest,
  } as Peer
}

/** @param answer what a peer that is asked comes to */
function setUp(peers: readonly Peer[], answer: (helper: Helper, place: Place) => Promise<boolean>) {
  const clock = new ManualClock()
  const asked: string[] = []
  const proofs = new Proofs({ clock })
  const client = {
    ask: async (helper: Helper, place: Place) => {
      asked.push(`${helper.peer} ${place.transport}`)
      return answer(helper, place)
    },
  }
  const host = { peers: () => peers }
  const prover = new Prover({ clock, log: silentLogger, host, client, proofs, onProved: () => undefined })
  const look = async (...places: Place[]): Promise<string[]> => {
    prover.look(places)
    for (let turn = 0; turn < 100 && prover.isAsking; turn++) await new Promise(resolve => setImmediate(resolve))
    return asked.splice(0)
  }
  return { clock, proofs, prover, look }
}

test('one who gets through is enough; it is asked again when the proof is half as old as it may be', async () => {
  const { clock, proofs, look } = setUp([peer('a'), peer('bb')], async () => true)
  assert.deepEqual(await look(TCP), ['a tcp'])
  assert.deepEqual(await look(TCP), [])
  clock.advance(PROOF_LIFE_MS / 2)
  assert.deepEqual(await look(TCP), ['a tcp'])
  assert.equal(proofs.verdict(TCP), 'reachable')
})

test('of those who could not, two networks are asked, and again later', async () => {
  const { clock, proofs, look } = setUp([peer('a'), peer('b'), peer('cc'), peer('ddd')], async () => false)
  assert.deepEqual(await look(TCP), ['a tcp', 'cc tcp'])
  assert.equal(proofs.verdict(TCP), 'not')
  clock.advance(FAILURE_LIFE_MS)
  assert.equal((await look(TCP)).length, 2)
})

test('whom we dialled is asked before who came; who refuses rests', async () => {
  const { clock, look } = setUp([peer('a', { direction: 'inbound' }), peer('bb')], async () => {
    throw new Error('busy')
  })
  assert.deepEqual(await look(TCP), ['bb tcp', 'a tcp'])
  assert.deepEqual(await look(TCP), [])
  clock.advance(HELPER_REST_MS)
  assert.equal((await look(TCP)).length, 2)
})

test('who cannot tell is not asked', async () => {
  const { look } = setUp(
    [
      peer('local', { remoteAddress: '/ip4/192.168.1.7/tcp/1' }),
      peer('at our own address', { remoteAddress: '/ip4/62.1.0.1/tcp/1' }),
      peer('sees us elsewhere', { observedAddress: '/ip4/80.1.0.1/tcp/1' }),
      peer('sees nothing', { observedAddress: 'nonsense' }),
      peer('on quic', { remoteAddress: '/ip4/77.9.0.1/udp/1/quic-v1' }),
    ],
    async () => true,
  )
  assert.deepEqual(await look(QUIC, PLANE), [])
  assert.deepEqual(await look(TCP), ['on quic tcp'])
})

test('a data plane is tried by those who have one', async () => {
  const { look } = setUp([peer('a'), peer('bb', { planePort: 1 })], async () => true)
  assert.deepEqual(await look(PLANE), ['bb plane'])
})

test('what comes back about a network that was left does not count; after the stop nobody is asked', async () => {
  const answer = Promise.withResolvers<boolean>()
  const { proofs, prover, look } = setUp([peer('a')], () => answer.promise)
  prover.look([TCP])
  prover.clear()
  answer.resolve(true)
  await look()
  assert.equal(proofs.verdict(TCP), 'unknown')
  await prover.stop()
  assert.deepEqual(await look(TCP), [])
})
