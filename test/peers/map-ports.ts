/**
 * A machine behind a gateway, as a process of its own, so that it can be put into a network namespace: maps a UDP and a TCP
 * port by the way that its argument names, says which, waits for a line, and takes them back.
 */
import { once } from 'node:events'
import { silentLogger, systemRandom } from '#base'
import { createPortMapper, gatewayProtocols, openUdp } from '#nat'
import { stretchedClock } from '../support/stretched-clock.ts'

const deps = { clock: stretchedClock, random: systemRandom, log: silentLogger }
const isUpnp = process.argv[2] === 'upnp'
const mapper = createPortMapper({
  ...deps,
  protocols: async () => {
    const ways = await gatewayProtocols({ ...deps, openUdp })
    return ways.filter(way => (way.name === 'UPnP') === isUpnp)
  },
})
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`)
try {
  say(await mapper.map({ protocol: 'udp', internalPort: 4000, externalPort: 4500 }))
  say(await mapper.map({ protocol: 'tcp', internalPort: 4001 }))
  await once(process.stdin, 'data')
  await mapper.stop()
  say('stopped')
} catch (error) {
  say(error instanceof Error && 'fault' in error ? error.fault : String(error))
}
process.exit()
