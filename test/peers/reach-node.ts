/**
 * A host that finds out whether it can be reached, as a process of its own for the lab. Its argument is JSON: where to
 * listen, whom to stay connected to, which STUN servers to ask. It says its addresses, then its state after every change.
 */
import { once } from 'node:events'
import { silentLogger, systemClock, systemRandom } from '#base'
import { createPortMapper, gatewayProtocols, localAddresses, openUdp } from '#nat'
import { createReach } from '#reach'
import { createHost } from '../../src/net/create-host.ts'
import { hostDeps, offerOf } from '../support/net-hosts.ts'

type Arguments = {
  readonly listen: string
  readonly peers?: readonly string[]
  readonly stun?: readonly string[]
  readonly mapPorts?: boolean
}

const { listen, peers = [], stun = [], mapPorts = true } = JSON.parse(process.argv[2] ?? '{}') as Arguments
const deps = { clock: systemClock, random: systemRandom, log: silentLogger }
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`)

const host = await createHost(await hostDeps(), { listen: [listen], mdns: false, meet: false })
await host.start()
say(host.addresses())
host.keepConnected(peers)
const reach = createReach(
  {
    ...deps,
    host,
    openUdp,
    localAddresses,
    createMapper: onChanged =>
      createPortMapper({ ...deps, protocols: () => gatewayProtocols({ ...deps, openUdp }) }, { onChanged }),
    resolve: async name => name,
  },
  { mapPorts, stun: stun.map(address => ({ host: address, port: 3478 })) },
)
reach.onChange(({ stunPort }) => {
  host.announce({ ...offerOf('a node'), ...(stunPort === undefined ? {} : { stunPort }) })
  say(reach.status())
})
reach.start()
process.stdin.resume()
await once(process.stdin, 'end')
await reach.stop()
await host.stop()
say('stopped')
process.exit()
