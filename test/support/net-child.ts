/**
 * A host in a process of its own, for `net-processes.test.ts`: prints its address, echoes streams, and stops (and so
 * ends the process, if nothing is left behind) when its standard input ends.
 */
import { silentLogger, systemClock, systemRandom } from '#base'
import { decodeNodeKey } from '#crypto'
import { createHost } from '#net'
import { PROTOCOLS } from '#wire'

const [keyHex = '', listen = '/ip4/127.0.0.1/tcp/0'] = process.argv.slice(2)
const key = decodeNodeKey(Buffer.from(keyHex, 'hex'))
if (key === undefined) throw new Error('the first argument is a node key in hexadecimal')

const host = await createHost(
  { clock: systemClock, random: systemRandom, log: silentLogger, key },
  { listen: [listen], mdns: false, secret: new TextEncoder().encode('across processes') },
)
host.handle(PROTOCOLS.stage, async stream => {
  for await (const piece of stream.received) if (!stream.send(piece)) await stream.drained()
  await stream.close()
})
await host.start()
process.stdout.write(`${host.addresses()[0]}\n`)
process.stdin.on('end', () => void host.stop()).resume()
