/** The simulations and the DHT benchmark, small: that they run, and that what they find is as good as it should be. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { measureDht } from '../bench/lib/dht-bench.ts'
import { simulateDiscovery } from '../bench/lib/discovery-sim.ts'
import { simulateKad } from '../bench/lib/kad-sim.ts'
import { simulateMainline } from '../bench/lib/mainline-sim.ts'

const SEED = 7

describe(`simulations (seed ${SEED})`, () => {
  it('60 nodes of Mainline find what was published, also while half of them go in an hour', async () => {
    const options = { nodes: 60, seed: SEED, churnPercents: [0, 50], lookups: 8, minutes: 8 }
    const { rows } = await simulateMainline(options)
    assert.deepEqual(
      rows.map(row => [row['churn_percent'], row['replaced'], row['lookups']]),
      [
        [0, 0, 8],
        [50, 4, 8],
      ],
    )
    for (const row of rows) {
      assert.ok((row['success'] ?? 0) >= 0.9, `success ${row['success']}`)
      assert.ok((row['hops_max'] ?? 9) <= 4, `hops ${row['hops_max']}`)
      assert.ok((row['queries_mean'] ?? 99) <= 30, `queries ${row['queries_mean']}`)
      // Time is simulated: a datagram takes 10 to 100 ms, and who does not answer is given up after 2 s.
      assert.ok((row['p95_ms'] ?? Infinity) <= 10_000, `p95 ${row['p95_ms']} ms`)
    }
  })

  it('a simulation of Mainline gives the same for the same seed', async () => {
    const options = { nodes: 15, seed: SEED, churnPercents: [50], lookups: 3, minutes: 4 }
    const [first, second] = [await simulateMainline(options), await simulateMainline(options)]
    const withoutCpu = ({ rows }: typeof first) => rows.map(row => ({ ...row, cpu_s: 0 }))
    assert.deepEqual(withoutCpu(second), withoutCpu(first))
  })

  it('12 nodes with Kademlia find values and providers while half of them go in an hour', async () => {
    const { rows } = await simulateKad({ nodes: 12, seed: SEED, churnPercents: [50], lookups: 8 })
    for (const row of rows) {
      assert.ok((row['get_success'] ?? 0) >= 0.9, `get ${row['get_success']}`)
      assert.ok((row['providers_success'] ?? 0) >= 0.9, `providers ${row['providers_success']}`)
      assert.ok((row['get_hops_max'] ?? 9) <= 4, `hops ${row['get_hops_max']}`)
    }
  })

  it('20 nodes know one another within the two minutes that the requirements give fifty', async () => {
    const [row] = (await simulateDiscovery({ swarms: [20], seed: SEED })).rows
    const knownAfter = row?.['all_known_s'] ?? -1
    assert.ok(knownAfter > 0 && knownAfter <= 120, `${knownAfter} s`)
    assert.ok((row?.['side_bytes_max'] ?? Infinity) <= 8_192, `${row?.['side_bytes_max']} bytes`)
  })

  it('look-ups in both DHTs on loopback are measured', async () => {
    const { figures } = await measureDht({ nodes: 8, lookups: 8 })
    assert.equal(figures['dht_nodes'], 8)
    // Real sockets and clocks: a look-up that a busy machine held up for too long finds nothing.
    for (const name of ['dht_found', 'mainline_found']) assert.ok((figures[name] ?? 0) >= 0.75, name)
    for (const name of ['dht_lookup_ms', 'dht_lookup_p99_ms', 'mainline_lookup_ms', 'mainline_lookup_p99_ms'])
      assert.ok((figures[name] ?? 0) > 0, name)
  })
})
