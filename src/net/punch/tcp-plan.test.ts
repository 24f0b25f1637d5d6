import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { PunchTcpOffer } from '#wire'
import { canPunchTcp, tcpPlan } from './tcp-plan.ts'

const MAPPINGS = ['stable', 'foreseen', 'random', 'unknown'] as const
const token = new Uint8Array(16)

function offer(mapping: PunchTcpOffer['mapping'], address: string, ports = [5001, 5002, 5003]): PunchTcpOffer {
  return { mapping, outside: ports.map(port => ({ address, port })), inside: [], token }
}

const [ANN, BEN] = ['62.10.0.1', '77.10.0.1']
const plan = (
  mine: PunchTcpOffer,
  theirs: PunchTcpOffer,
  { attempt = 0, isOutbound = true }: { readonly attempt?: number; readonly isOutbound?: boolean } = {},
) => tcpPlan(mine, theirs, { attempt, isOutbound, networks: [] })

describe('net / punch / TCP plan', () => {
  it('comes to the same answer on both sides', () => {
    for (const a of MAPPINGS) {
      for (const b of MAPPINGS) {
        for (const attempt of [0, 1, 2]) {
          const [mine, theirs] = [offer(a, ANN), offer(b, BEN)]
          assert.equal(canPunchTcp(mine, theirs, attempt), canPunchTcp(theirs, mine, attempt), `${a} ${b}`)
        }
      }
    }
  })

  it('leaves out what cannot work: random ports on both sides, or against one that is only foreseen', () => {
    const can = (a: PunchTcpOffer['mapping'], b: PunchTcpOffer['mapping'], attempt = 0): boolean =>
      canPunchTcp(offer(a, ANN), offer(b, BEN), attempt)
    assert.equal(can('random', 'random'), false)
    assert.equal(can('foreseen', 'random'), false)
    assert.equal(can('stable', 'unknown'), false)
    assert.equal(can('foreseen', 'foreseen', 2), true)
    assert.equal(can('stable', 'random'), true)
    assert.equal(can('stable', 'random', 1), false)
    assert.equal(canPunchTcp(offer('stable', ANN, []), offer('stable', BEN), 0), false)
    // Behind one NAT it does not matter what that does with ports.
    assert.equal(canPunchTcp(offer('random', ANN), offer('random', ANN), 1), true)
  })

  it('lets a stable side call all foreseen ports and listen, and the other call one', () => {
    const [stable, foreseen] = [offer('stable', ANN), offer('foreseen', BEN)]
    const [mine, theirs] = [plan(stable, foreseen), plan(foreseen, stable)]
    assert.deepEqual(
      mine.targets.map(({ port }) => port),
      [5001, 5002, 5003],
    )
    assert.equal(mine.listens, true)
    assert.equal(mine.redials, false)
    assert.deepEqual(theirs, { targets: [{ address: ANN, port: 5001 }], listens: false, redials: true })
  })

  it('makes one of two stable sides listen from the second attempt on', () => {
    const [a, b] = [offer('stable', ANN), offer('stable', BEN)]
    const listens = (attempt: number): boolean[] => [
      plan(a, b, { attempt }).listens,
      plan(b, a, { attempt, isOutbound: false }).listens,
    ]
    assert.deepEqual(listens(0), [false, false])
    assert.deepEqual(listens(1), [false, true])
  })

  it('calls nobody but at one public address, however many a peer lists', () => {
    const victims = ['198.51.100.1', '198.51.100.2', '198.51.100.3'].map(address => ({ address, port: 5001 }))
    const theirs = { ...offer('stable', BEN), outside: victims, inside: victims }
    assert.deepEqual(plan(offer('stable', ANN), theirs).targets, [victims[0]])
    const inside = { ...offer('stable', '10.0.0.1'), inside: [{ address: '127.0.0.1', port: 5001 }] }
    assert.deepEqual(plan(offer('stable', ANN), inside).targets, [])
  })

  it('calls inside addresses only of a peer that is seen at our own address, and only in our networks', () => {
    const networks = [{ address: '192.168.1.7', prefixBits: 24 }]
    const inside = ['192.168.1.9', '192.168.2.9', '127.0.0.1'].map(address => ({ address, port: 5001 }))
    const near = tcpPlan(
      offer('stable', ANN, [1]),
      { ...offer('stable', ANN, [2]), inside },
      { attempt: 0, isOutbound: true, networks },
    )
    assert.equal(near.listens, false)
    const random = tcpPlan(offer('random', ANN), offer('random', ANN), { attempt: 0, isOutbound: false, networks })
    assert.equal(random.listens, true)
    assert.deepEqual(near.targets, [inside[0], { address: ANN, port: 2 }])
    const far = tcpPlan(
      offer('stable', ANN, [1]),
      { ...offer('stable', BEN, [2]), inside },
      { attempt: 0, isOutbound: true, networks },
    )
    assert.deepEqual(far.targets, [{ address: BEN, port: 2 }])
  })
})
