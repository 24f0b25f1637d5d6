/**
 * Tries to connect two hosts directly, each behind its own router, in every way that is open to a program without rights:
 * with the ports that a third party saw, and with the next ones where a router gives them in order. This is what direct
 * connections can come to in principle; a transport of Koinon may reach less, never more.
 */
import { assert } from '#base'
import type { Host, NatKind } from './lab.ts'
import { at, seenFrom, seenTcp } from './measure.ts'
import { isIndependent } from './nat-rules.ts'
import type { Probe, ProbeSocket } from './probe-client.ts'
import type { Endpoint, TcpResult } from './probe-protocol.ts'

/** One host behind one kind of router. */
export type Party = { readonly kind: NatKind; readonly host: Host; readonly probe: Probe }

/** How two UDP sockets came together. */
export type UdpOutcome = 'seen' | 'predicted' | 'none'

/** How two TCP sockets did: both dialled, one listened and the other dialled, or both dialled predicted ports. */
export type TcpOutcome = 'both dial' | 'one listens' | 'predicted' | 'none'

const ROUNDS = 4
const PUNCH_MS = 2_000
const TCP_PORT_FIRST = 20_000

let tcpPort = TCP_PORT_FIRST

type UdpEnd = {
  readonly probe: Probe
  readonly socket: ProbeSocket
  readonly outside: Endpoint
  readonly targets: Endpoint[]
  hasHeard: boolean
  wasHeard: boolean
}

export async function punchUdp(a: Party, b: Party, server: Probe): Promise<UdpOutcome> {
  if (await tryUdp([a, b], server, false)) return 'seen'
  if (isPredictable(a.kind) || isPredictable(b.kind)) {
    if (await tryUdp([a, b], server, true)) return 'predicted'
  }
  return 'none'
}

async function tryUdp([a, b]: readonly [Party, Party], server: Probe, predict: boolean): Promise<boolean> {
  const meeting = await server.udpOpen()
  const [left, right] = [await udpEnd(a, server, meeting), await udpEnd(b, server, meeting)]
  left.targets.push(predict ? predicted(b.kind, right.outside) : right.outside)
  right.targets.push(predict ? predicted(a.kind, left.outside) : left.outside)
  const isDone = (): boolean => left.wasHeard && right.wasHeard
  for (let round = 0; round < ROUNDS && !isDone(); round += 1) {
    await Promise.all([speak(left), speak(right)])
    for (const end of [left, right]) await listen(end, server, meeting)
  }
  await Promise.all([left.probe.close(left.socket), right.probe.close(right.socket), server.close(meeting)])
  return isDone()
}

async function udpEnd(party: Party, server: Probe, meeting: ProbeSocket): Promise<UdpEnd> {
  const { probe } = party
  const socket = await probe.udpOpen()
  const outside = await seenFrom([probe, socket], [server, meeting])
  return { probe, socket, outside, targets: [], hasHeard: false, wasHeard: false }
}

async function speak(end: UdpEnd): Promise<void> {
  for (const target of end.targets) await end.probe.udpSend(end.socket, target, end.hasHeard ? 'heard' : 'hello')
}

/** Hears all that came before the server's word, and from where: an answer goes there, too. */
async function listen(end: UdpEnd, server: Probe, meeting: ProbeSocket): Promise<void> {
  await end.probe.udpSend(end.socket, at(server, meeting), 'still here')
  await server.udpNext(meeting)
  await server.udpSend(meeting, end.outside, 'fence')
  for (;;) {
    const message = await end.probe.udpNext(end.socket)
    assert(message !== undefined, 'the server is heard')
    if (message.text === 'fence') return
    end.hasHeard = true
    end.wasHeard ||= message.text === 'heard'
    const { address, port } = message.from
    if (!end.targets.some(target => target.address === address && target.port === port)) end.targets.push(message.from)
  }
}

export async function punchTcp(a: Party, b: Party, server: Probe): Promise<TcpOutcome> {
  if (await bothDial([a, b], server, false)) return 'both dial'
  if ((await oneListens(a, b, server)) || (await oneListens(b, a, server))) return 'one listens'
  if (isPredictable(a.kind) || isPredictable(b.kind)) {
    if (await bothDial([a, b], server, true)) return 'predicted'
  }
  return 'none'
}

/** Simultaneous open (RFC 9293 section 3.5): both dial at once, each from the port that the server saw. */
async function bothDial([a, b]: readonly [Party, Party], server: Probe, predict: boolean): Promise<boolean> {
  const [portA, portB] = [tcpPort++, tcpPort++]
  const [seenA, seenB] = [await seenTcp(a.probe, server, portA), await seenTcp(b.probe, server, portB)]
  const [toA, toB] = predict ? [predicted(a.kind, seenA), predicted(b.kind, seenB)] : [seenA, seenB]
  const how = { timeoutMs: PUNCH_MS, again: true }
  const [atA, atB] = await Promise.all([
    a.probe.tcpConnect(toB, { ...how, localPort: portA, token: `${portA}` }),
    b.probe.tcpConnect(toA, { ...how, localPort: portB, token: `${portB}` }),
  ])
  return atA.peer === `${portB}` && atB.peer === `${portA}`
}

/** One opens its filter by a call that may come to nothing, then listens at that port; the other calls. */
async function oneListens(listening: Party, calling: Party, server: Probe): Promise<boolean> {
  const [localPort, callerPort] = [tcpPort++, tcpPort++]
  const seen = await seenTcp(listening.probe, server, localPort)
  const caller = await seenTcp(calling.probe, server, callerPort)
  await listening.probe.tcpConnect(caller, { localPort, token: 'opening', timeoutMs: 200 })
  const listener = await listening.probe.tcpListen('listening', localPort)
  const result: TcpResult = await calling.probe.tcpConnect(seen, {
    localPort: callerPort,
    token: 'calling',
    timeoutMs: PUNCH_MS,
    again: true,
  })
  await listening.probe.close(listener)
  return result.peer === 'listening'
}

function isPredictable(kind: NatKind): boolean {
  return kind === 'symmetric-sequential'
}

/** Where the next packet to somewhere new will seem to come from. */
function predicted(kind: NatKind, seen: Endpoint): Endpoint {
  return isPredictable(kind) ? { ...seen, port: seen.port + 1 } : seen
}

/** What must come out for UDP, from mapping and filtering alone (RFC 5128 section 3.3, RFC 4787). */
export function expectedUdp(a: NatKind, b: NatKind): UdpOutcome {
  // A port that was seen is the right one where it serves all destinations. One such end is enough where its filter
  // does not look at ports, since the other end's true port shows with its first packet.
  const [isStableA, isStableB] = [isStable(a), isStable(b)]
  if ((isStableA && isStableB) || (isStableA && isLenient(a)) || (isStableB && isLenient(b))) return 'seen'
  const isKnown = (kind: NatKind): boolean => isStable(kind) || isPredictable(kind)
  return isKnown(a) && isKnown(b) ? 'predicted' : 'none'
}

/** The same for TCP: a socket that dials takes nobody but whom it dials, so a true port that shows is of use to a listener. */
export function expectedTcp(a: NatKind, b: NatKind): TcpOutcome {
  if (isStable(a) && isStable(b)) return 'both dial'
  const udp = expectedUdp(a, b)
  return udp === 'seen' ? 'one listens' : udp
}

function isStable(kind: NatKind): boolean {
  return kind === 'none' || isIndependent(kind)
}

/** Whether a filter lets every port of a contacted address in, or everybody. */
function isLenient(kind: NatKind): boolean {
  return kind === 'none' || kind === 'full-cone' || kind === 'restricted'
}
