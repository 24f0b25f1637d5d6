/**
 * Measures a NAT from both of its sides with real sockets, in the words of RFC 4787: how it maps, whom it lets in, which
 * ports it gives. A packet that does not arrive is told by a later one that does: both take the same way, in order. One
 * that should arrive is waited for itself: between senders there is no order, and no hurry on a machine that stands still.
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

/** Who gets in besides the port that was spoken to: another one of its host, and another host. */
type Admitted = { readonly otherPort: boolean; readonly otherAddress: boolean }

/** A connection attempt that should be refused must wait: so long, with one repeated SYN inside. */
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

/** Every packet up to the one that says `fence`, and on until those came that say `expected`, from whichever sender. */
export async function untilFence(
  probe: Probe,
  socket: ProbeSocket,
  expected: readonly string[] = [],
): Promise<UdpMessage[]> {
  const messages: UdpMessage[] = []
  const missing = new Set(['fence', ...expected])
  while (missing.size > 0) {
    const message = await probe.udpNext(socket)
    assert(message !== undefined, `a packet that arrives: ${[...missing].join(', ')}`)
    missing.delete(message.text)
    if (message.text !== 'fence') messages.push(message)
  }
  return messages
}

function admittedBy(filtering: Dependence): Admitted {
  return { otherPort: filtering !== 'address-port', otherAddress: filtering === 'independent' }
}

/** @param filtering what the NAT should do: it says how long strangers wait, not what is found */
export async function measureUdp(
  host: Probe,
  { first, second }: Strangers,
  { filtering }: Pick<Behaviour, 'filtering'>,
): Promise<Behaviour> {
  const admitted = admittedBy(filtering)
  const socket = await host.udpOpen()
  const [contacted, otherPort] = [await first.udpOpen(), await first.udpOpen()]
  const otherAddress = await second.udpOpen()
  const outside = await seenFrom([host, socket], [first, contacted])
  await first.udpSend(otherPort, outside, 'other port')
  await second.udpSend(otherAddress, outside, 'other address')
  await first.udpSend(contacted, outside, 'fence')
  const expected = [...(admitted.otherPort ? ['other port'] : []), ...(admitted.otherAddress ? ['other address'] : [])]
  const arrived = (await untilFence(host, socket, expected)).map(message => message.text)
  const others = [
    await seenFrom([host, socket], [first, otherPort]),
    await seenFrom([host, socket], [second, otherAddress]),
  ]
  return behaviour(socket.port, [outside, ...others], {
    otherPort: arrived.includes('other port'),
    otherAddress: arrived.includes('other address'),
  })
}

/** @param filtering as above */
export async function measureTcp(
  host: Probe,
  { first, second }: Strangers,
  { filtering, localPort }: Pick<Behaviour, 'filtering'> & { readonly localPort: number },
): Promise<Behaviour> {
  const admitted = admittedBy(filtering)
  const outside = await seenTcp(host, first, localPort)
  // From here on the host listens where it spoke from; strangers call the port that they were told.
  const listener = await host.tcpListen('host', localPort)
  const call = async (stranger: Probe, isAdmitted: boolean): Promise<boolean> => {
    const timeoutMs = isAdmitted ? ARRIVAL_MS : TCP_REFUSAL_MS
    return (await stranger.tcpConnect(outside, { token: stranger.host.name, timeoutMs })).peer === 'host'
  }
  const [otherPort, otherAddress] = await Promise.all([
    call(first, admitted.otherPort),
    call(second, admitted.otherAddress),
  ])
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

function behaviour(insidePort: number, seen: readonly Endpoint[], got: Admitted): Behaviour {
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
