/**
 * Measures a NAT from both of its sides with real sockets, in the words of RFC 4787: how it maps, whom it lets in, which
 * ports it gives. A packet that does not arrive is told by a later one that does: both take the same way, in order.
 */
import { assert } from '#base'
import { ARRIVAL_MS, type Probe, type ProbeSocket } from './probe-client.ts'
import type { Endpoint, UdpMessage } from './probe-protocol.ts'

/** Whether destinations share an outside port, or senders a way in: all, those of one address, or none. */
export type Dependence = 'independent' | 'address' | 'address-port'

export type Behaviour = {
  readonly mapping: Dependence
  readonly filtering: Dependence
  /** The first outside port is the inside port. */
  readonly preserves: boolean
  /** Each new mapping's port is the one after the last. */
  readonly sequential: boolean
}

/** Two public hosts, the first with two ports. */
export type Strangers = { readonly first: Probe; readonly second: Probe }

/** A refused connection attempt must wait: so long, with one repeated SYN inside. */
const TCP_REFUSAL_MS = 2_000

export function at(probe: Probe, socket: { readonly port: number }): Endpoint {
  const { ipv4 } = probe.host
  assert(ipv4 !== undefined, 'a probe with an IPv4 address')
  return { address: ipv4, port: socket.port }
}

/** Sends a packet out and returns what the other end saw of the sender. */
export async function seenFrom(
  inside: readonly [Probe, ProbeSocket],
  outside: readonly [Probe, ProbeSocket],
  to?: Endpoint,
): Promise<Endpoint> {
  const [near, socket] = inside
  const [far, farSocket] = outside
  await near.udpSend(socket, to ?? at(far, farSocket), 'who am I?')
  const message = await far.udpNext(farSocket)
  assert(message?.text === 'who am I?', 'a packet that gets out')
  return message.from
}

/** Every packet up to the one that says `fence`. */
export async function untilFence(probe: Probe, socket: ProbeSocket): Promise<UdpMessage[]> {
  const messages: UdpMessage[] = []
  for (;;) {
    const message = await probe.udpNext(socket)
    assert(message !== undefined, 'the fence arrives')
    if (message.text === 'fence') return messages
    messages.push(message)
  }
}

export async function measureUdp(host: Probe, { first, second }: Strangers): Promise<Behaviour> {
  const socket = await host.udpOpen()
  const [contacted, otherPort] = [await first.udpOpen(), await first.udpOpen()]
  const otherAddress = await second.udpOpen()
  const outside = await seenFrom([host, socket], [first, contacted])
  await first.udpSend(otherPort, outside, 'other port')
  await second.udpSend(otherAddress, outside, 'other address')
  await first.udpSend(contacted, outside, 'fence')
  const arrived = (await untilFence(host, socket)).map(message => message.text)
  const others = [
    await seenFrom([host, socket], [first, otherPort]),
    await seenFrom([host, socket], [second, otherAddress]),
  ]
  return behaviour(socket.port, [outside, ...others], {
    otherPort: arrived.includes('other port'),
    otherAddress: arrived.includes('other address'),
  })
}

export async function measureTcp(host: Probe, strangers: Strangers, localPort: number): Promise<Behaviour> {
  const { first, second } = strangers
  const outside = await seenTcp(host, first, localPort)
  // From here on the host listens where it spoke from; strangers call the port that they were told.
  const listener = await host.tcpListen('host', localPort)
  const call = (stranger: Probe, token: string): Promise<boolean> =>
    stranger.tcpConnect(outside, { token, timeoutMs: TCP_REFUSAL_MS }).then(result => result.peer === 'host')
  const [otherPort, otherAddress] = await Promise.all([call(first, 'other port'), call(second, 'other address')])
  await host.close(listener)
  const others = [await seenTcp(host, first, localPort), await seenTcp(host, second, localPort)]
  return behaviour(localPort, [outside, ...others], { otherPort, otherAddress })
}

/** Connects from a port to a new listener and returns what that saw. */
export async function seenTcp(host: Probe, stranger: Probe, localPort: number): Promise<Endpoint> {
  const listener = await stranger.tcpListen('stranger')
  const outcome = await host.tcpConnect(at(stranger, listener), {
    localPort,
    token: 'who am I?',
    timeoutMs: ARRIVAL_MS,
    again: true,
  })
  assert(
    outcome.peer === 'stranger',
    `a connection that gets out, from ${host.host.name}:${localPort} (${outcome.code})`,
  )
  const { remote } = await stranger.tcpAccepted(listener)
  assert(remote !== undefined, 'the stranger saw who called')
  await stranger.close(listener)
  return { address: remote.address.replace('::ffff:', ''), port: remote.port }
}

function behaviour(
  insidePort: number,
  seen: readonly Endpoint[],
  got: { readonly otherPort: boolean; readonly otherAddress: boolean },
): Behaviour {
  const [first, samePlace, elsewhere] = seen.map(endpoint => endpoint.port)
  assert(first !== undefined && samePlace !== undefined && elsewhere !== undefined, 'three observations')
  let mapping: Dependence = 'independent'
  if (first !== elsewhere) mapping = first === samePlace ? 'address' : 'address-port'
  let filtering: Dependence = 'address-port'
  if (got.otherPort) filtering = got.otherAddress ? 'independent' : 'address'
  return {
    mapping,
    filtering,
    preserves: first === insidePort,
    sequential: samePlace === first + 1 && elsewhere === samePlace + 1,
  }
}
