/**
 * A host in a process of its own, for `net-processes.test.ts`: prints its address, echoes streams, and stops (and so
 * ends the process, if nothing is left behind) when its standard input ends.
 */
import { fromHex } from '#base'
import { identityOfSecret } from '#identity'
import { createHost } from '#net'
import { PROTOCOLS } from '#wire'
import { hostDeps } from './net-hosts.ts'

const [seed = '', listen = '/ip4/127.0.0.1/tcp/0'] = process.argv.slice(2)
const identity = identityOfSecret({ kind: 'seed', seed: fromHex(seed) }, 'environment')

const host = await createHost(await hostDeps({ identity }), {
  listen: [listen],
  mdns: false,
  secret: new TextEncoder().encode('across processes'),
})
host.handle(PROTOCOLS.stage, async stream => {
  for await (const piece of stream.received) if (!stream.send(piece)) await stream.drained()
  await stream.close()
})
await host.start()
process.stdout.write(`${host.addresses()[0]}\n`)
process.stdin.on('end', () => void host.stop()).resume()
