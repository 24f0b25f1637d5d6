/**
 * `npm run -s sim -- NAME [options]`: simulations of many nodes in one process, from a seed. They say how well something
 * works among many, where benchmarks say how fast it is between few.
 */
import { parseArgs } from 'node:util'
import { simulateDiscovery } from './lib/discovery-sim.ts'
import { simulateKad } from './lib/kad-sim.ts'
import { simulateMainline } from './lib/mainline-sim.ts'
import { headLine, rowLine, type SimOptions, type SimResult } from './lib/sim-report.ts'
import { simulateSwarm } from './lib/swarm-sim.ts'

const HELP = `usage: npm run -s sim -- NAME [options]

  mainline    1000 nodes of the Mainline DHT on a clock of their own: hops, latency and success of look-ups under churn
  kad         100 libp2p nodes with Kademlia in memory: the same
  discovery   50 and 200 nodes without a DHT: time until every node knows every other, and bytes of an exchange
  swarm       one seeder to 4 leechers (--nodes), every upload at 20 MiB/s: how many times longer than to one

  --nodes N       how many nodes
  --seed N        (default 1)
  --churn LIST    mainline, kad: percent of the nodes that are replaced in an hour (default 0,20,50)
  --minutes N     mainline: simulated time for each of these (default 30)
  --lookups N     mainline: look-ups for each of these (default 100)
  --json          end with one line of JSON
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    nodes: { type: 'string' },
    seed: { type: 'string', default: '1' },
    churn: { type: 'string', default: '0,20,50' },
    minutes: { type: 'string', default: '30' },
    lookups: { type: 'string', default: '100' },
    json: { type: 'boolean', default: false },
  },
})

const out = values.json ? process.stderr : process.stdout
let isFirst = true
const common: Omit<SimOptions, 'nodes'> = {
  seed: Number(values.seed),
  churnPercents: values.churn.split(',').map(Number),
  onRow: row => {
    if (isFirst) out.write(headLine(row))
    isFirst = false
    out.write(rowLine(row))
  },
}
const nodes = values.nodes === undefined ? undefined : Number(values.nodes)

const SIMULATIONS: Readonly<Record<string, () => Promise<SimResult>>> = {
  mainline: () =>
    simulateMainline({
      ...common,
      nodes: nodes ?? 1000,
      lookups: Number(values.lookups),
      minutes: Number(values.minutes),
    }),
  kad: () => simulateKad({ ...common, nodes: nodes ?? 100 }),
  discovery: () => simulateDiscovery({ ...common, swarms: nodes === undefined ? [50, 200] : [nodes] }),
  swarm: () => simulateSwarm({ ...common, leechers: nodes ?? 4, sizes: [64, 256, 1024] }),
}

const simulate = SIMULATIONS[positionals[0] ?? '']
if (simulate === undefined) {
  process.stderr.write(HELP)
  process.exitCode = 2
} else {
  out.write(`seed ${values.seed}\n`)
  const result = await simulate()
  if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`)
}
