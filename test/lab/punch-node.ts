/**
 * A node in a lab, for tests of paths: told what to do by lines of JSON on standard input, says what happens by lines of
 * JSON. With `public` it also runs a STUN server, and carries bytes between any two that name the same room: a relay that
 * knows nothing.
 */
import { connect, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { type LogFields, type Logger, messageOf, systemClock, systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { createIceAgent, createStunServer, foreseeTcp, localAddresses, openStunSockets, openUdp } from '#nat'
import { createHost, type Host } from '#net'
import { PROTOCOLS } from '#wire'
import type { BytePipe } from '../../src/net/adopt.ts'
import type { Adoption } from '../../src/net/connector.ts'
import { pipeOfSocket } from '../../src/net/punch/socket-pipe.ts'
import { hostDeps } from '../support/net-hosts.ts'
import type { NodeOptions, NodeRequest } from './punch-protocol.ts'

const options = JSON.parse(process.argv[2] ?? '{}') as NodeOptions
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`)
const note = (message: string, fields?: LogFields): void => say({ event: 'log', message, ...fields })
const log: Logger = { debug: note, info: note, warn: note, error: note, child: () => log }

const bytesCount = new Uint8Array(64 * 1024)
const tools = {
  foresee: (observations: Parameters<typeof foreseeTcp>[0]) => foreseeTcp(observations, localAddresses()),
  natKind: () => options.nat ?? ('unknown' as const),
  ...(options.stun === undefined
    ? {}
    : {
        createIce: (role: 'controlling' | 'controlled') =>
          createIceAgent(
            { clock: systemClock, random: systemRandom, log, openUdp },
            { role, stunServers: [{ address: options.stun ?? '', port: 3478 }] },
          ),
      }),
}
const identity = await createNodeIdentity(systemRandom)
const host = (await createHost(
  { ...(await hostDeps({ identity })), log, punch: tools },
  {
    listen: options.listen,
    mdns: false,
    meet: false,
    ...(options.plane === false ? { planePort: 'off' as const } : {}),
  },
)) as Host & { adopt(pipe: BytePipe, adoption: Adoption): Promise<void> }

const joinedAt = new Map<string, number>()
host.onPeer(({ kind, peer }) => {
  const now = systemClock.monotonic()
  if (kind === 'joined') joinedAt.set(peer.id, now)
  const afterMs = Math.round(now - (joinedAt.get(peer.id) ?? now))
  say({ event: kind, peer: peer.id, path: peer.path.kind, transport: peer.path.transport, afterMs })
})
host.handle(PROTOCOLS.bulk, async stream => {
  let bytes = 0
  for await (const piece of stream.received) bytes += piece.byteLength
  stream.send(new TextEncoder().encode(String(bytes)))
  await stream.close()
})
await host.start()
const room = options.public === undefined ? undefined : await serve(options.public)
say({ event: 'ready', id: host.id, addresses: host.addresses(), room })

const lines = createInterface({ input: process.stdin })
for await (const line of lines) {
  const request = JSON.parse(line) as NodeRequest
  perform(request).catch((error: unknown) => say({ event: 'failed', what: request.what, error: messageOf(error) }))
}
await host.stop()
process.exit(0)

async function perform(request: NodeRequest): Promise<void> {
  switch (request.what) {
    case 'connect':
      await host.connect(request.address)
      return
    case 'relay':
      await relay(request)
      return
    case 'drop':
      host.drop(request.peer, 'stopping')
      return
    case 'send':
      await send(request.peer, request.bytes)
      return
  }
}

async function relay(request: Extract<NodeRequest, { what: 'relay' }>): Promise<void> {
  const socket = connect({ host: request.host, port: request.port })
  socket.write(`${request.room}\n`)
  const { peer, direction } = request
  const path = { kind: 'relayed', transport: 'tcp', via: request.via } as const
  const address = `/ip4/${request.host}/tcp/${request.port}`
  await host.adopt(pipeOfSocket(socket), { peer, direction, path, address, signal: AbortSignal.timeout(20_000) })
}

/** Says how long so many bytes take until the other side has counted them. */
async function send(peer: string, bytes: number): Promise<void> {
  const stream = await host.open(peer, PROTOCOLS.bulk)
  const startedAt = systemClock.monotonic()
  for (let sent = 0; sent < bytes; sent += bytesCount.byteLength) {
    if (!stream.send(bytesCount.slice())) await stream.drained()
  }
  await stream.close()
  let counted = ''
  for await (const piece of stream.received) counted += new TextDecoder().decode(piece)
  say({ event: 'sent', peer, bytes: Number(counted), tookMs: Math.round(systemClock.monotonic() - startedAt) })
}

/** @returns the port of the relay */
async function serve(addresses: readonly string[]): Promise<number> {
  const sockets = await openStunSockets(openUdp, [addresses[0] ?? ''], [3478, 3479])
  createStunServer({ clock: systemClock, sockets })
  const waiting = new Map<string, Socket>()
  const server = createServer(socket => {
    socket.on('error', () => undefined) // The other end is closed below.
    socket.once('readable', () => {
      let name = ''
      while (!name.endsWith('\n')) {
        const byte = socket.read(1) as Buffer | null
        if (byte === null) break
        name += byte.toString('latin1')
      }
      const other = waiting.get(name)
      if (other === undefined) {
        waiting.set(name, socket)
        return
      }
      waiting.delete(name)
      for (const [from, to] of [
        [socket, other],
        [other, socket],
      ] as const) {
        from.pipe(to)
        from.once('close', () => to.destroy())
      }
    })
  })
  server.listen(0)
  await new Promise(resolve => server.once('listening', resolve))
  const bound = server.address()
  return typeof bound === 'object' && bound !== null ? bound.port : 0
}
