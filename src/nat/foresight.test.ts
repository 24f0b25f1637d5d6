import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Observation } from './detection.ts'
import { foreseeTcp } from './foresight.ts'

const OBSERVERS = ['62.1.0.1 4001', '62.1.0.1 4002', '77.1.0.1 4001']

/** What observers see of local port 5000, in the order in which they were asked. */
function seen(...ports: number[]): Observation[] {
  return ports.map((port, index) => {
    const [address = '', remotePort] = (OBSERVERS[index] ?? '').split(' ')
    return { localPort: 5_000, remote: { address, port: Number(remotePort) }, observed: { address: '80.1.0.1', port } }
  })
}

const mappingOf = (observations: Observation[]) => {
  const { mapping, ports } = foreseeTcp(observations, ['192.168.1.2'])
  return { mapping, ports }
}

describe('nat / foresight', () => {
  it('takes one mapping for all as it is', () => {
    assert.deepEqual(mappingOf(seen(5_000, 5_000, 5_000)), { mapping: 'stable', ports: [5_000] })
    assert.deepEqual(mappingOf(seen(7_123, 7_123)), { mapping: 'stable', ports: [7_123] })
    assert.deepEqual(mappingOf(seen(7_123)), { mapping: 'stable', ports: [7_123] })
    assert.equal(foreseeTcp(seen(5_000), ['80.1.0.1']).mapping, 'stable')
  })

  it('foresees the next ports of a sequence', () => {
    assert.deepEqual(mappingOf(seen(7_001, 7_002, 7_003)), { mapping: 'foreseen', ports: [7_004, 7_005, 7_006] })
    assert.deepEqual(mappingOf(seen(7_002, 7_004)), { mapping: 'foreseen', ports: [7_006, 7_008, 7_010] })
  })

  it('foresees nothing of random ports', () => {
    assert.deepEqual(mappingOf(seen(7_001, 50_312, 23_999)), { mapping: 'random', ports: [23_999] })
  })

  it('draws no conclusion where observers disagree, or there are none', () => {
    const [honest, , lying] = seen(7_001, 7_001, 7_001) as [Observation, Observation, Observation]
    const lie = { ...lying, observed: { address: '198.51.100.1', port: 7_001 } }
    const none = { mapping: 'unknown', address: undefined, ports: [] }
    assert.deepEqual(foreseeTcp([honest, lie], []), none)
    assert.deepEqual(foreseeTcp([], []), none)
  })
})
