/**
 * A STUN server that every public node can run: it tells who asks where he is seen, and keeps nothing about him.
 *
 * UDP sources can be forged, so an answer goes to whoever the forger names. Hence: an answer is at most three times as long
 * as its request (what does not fit is left out), each address gets a few answers a second, everybody together some more,
 * and only well-formed requests are answered, never an answer or an indication.
 *
 * With four sockets, two addresses by two ports, it serves NAT behaviour discovery (RFC 5780): OTHER-ADDRESS names its
 * second address and port, and CHANGE-REQUEST is obeyed. With one it is a plain server, and refuses CHANGE-REQUEST with 420.
 */
import type { Clock } from '#base'
import { NatError } from '../errors.ts'
import { isUnicast } from '../ip.ts'
import { STUN_ANSWER_FACTOR_MAX } from '../limits.ts'
import type { Endpoint, OpenUdp, UdpSocket } from '../types.ts'
import { decodeStun, encodeStun, STUN_BINDING, type StunAttributes, type StunMessage } from './codec.ts'
import { RateTable } from './rate-table.ts'

const CHANGE_REQUEST = 0x0003
const UNKNOWN_ATTRIBUTE = 420

/** The sockets of a server, named after what differs from the first: [address][port]. */
export type StunSockets = {
  readonly first: UdpSocket
  readonly others?: { readonly port: UdpSocket; readonly address: UdpSocket; readonly both: UdpSocket }
}

export type StunServerDeps = { readonly clock: Clock; readonly sockets: StunSockets }

export type StunServerCounts = {
  readonly answered: number
  /** Well-formed requests that were refused an answer because of the rate. */
  readonly limited: number
  /** Datagrams that were no request, or cannot be answered. */
  readonly dropped: number
}

/** Ports that are tried until one is free at both addresses. */
const PORT_TRIES_MAX = 8

/**
 * Opens the sockets of a server.
 * @param addresses one address, or two for NAT behaviour discovery; each this machine's own, not `0.0.0.0`
 * @param ports the ports at each address. @default ones that are free
 * @throws NatError NAT_SOCKET_FAILED
 */
export async function openStunSockets(
  openUdp: OpenUdp,
  addresses: readonly [string] | readonly [string, string],
  ports: readonly [number, number] = [0, 0],
): Promise<StunSockets> {
  const [firstAddress, secondAddress] = addresses
  if (secondAddress === undefined) return { first: await openUdp({ address: firstAddress, port: ports[0] }) }
  const [first, address] = await openColumn(openUdp, [firstAddress, secondAddress], ports[0])
  try {
    const [port, both] = await openColumn(openUdp, [firstAddress, secondAddress], ports[1])
    return { first, others: { port, address, both } }
  } catch (error) {
    await Promise.all([first.close(), address.close()])
    throw error
  }
}

/** One port at both addresses. */
async function openColumn(
  openUdp: OpenUdp,
  addresses: readonly [string, string],
  port: number,
): Promise<[UdpSocket, UdpSocket]> {
  for (let tries = 1; ; tries++) {
    const first = await openUdp({ address: addresses[0], port })
    try {
      return [first, await openUdp({ address: addresses[1], port: first.local.port })]
    } catch (error) {
      await first.close()
      // A port that is free at one address can be taken at the other; another one is chosen where we may choose.
      if (port !== 0 || tries === PORT_TRIES_MAX || !(error instanceof NatError)) throw error
    }
  }
}

/** Closes what `openStunSockets` opened. */
export async function closeStunSockets({ first, others }: StunSockets): Promise<void> {
  const all = others === undefined ? [first] : [first, others.port, others.address, others.both]
  await Promise.all(all.map(socket => socket.close()))
}

/** Serves STUN on these sockets, at once and until `close`. The sockets stay the caller's, who closes them. */
export function createStunServer(deps: StunServerDeps): StunServer {
  return new Server(deps)
}

export interface StunServer {
  readonly counts: StunServerCounts
  /** Idempotent. */
  close(): void
}

class Server implements StunServer {
  readonly #sockets: StunSockets
  readonly #rates: RateTable
  readonly #unlisten: (() => void)[] = []
  #answered = 0
  #limited = 0
  #dropped = 0

  constructor(deps: StunServerDeps) {
    this.#sockets = deps.sockets
    this.#rates = new RateTable({ clock: deps.clock })
    const { first, others } = deps.sockets
    const places =
      others === undefined
        ? [[first, first, first, first] as const]
        : ([
            [first, others.port, others.address, others.both],
            [others.port, first, others.both, others.address],
            [others.address, others.both, first, others.port],
            [others.both, others.address, others.port, first],
          ] as const)
    for (const [own, port, address, both] of places) {
      const reply = { own, port, address, both }
      this.#unlisten.push(own.onMessage((bytes, from) => this.#receive(bytes, from, reply)))
    }
  }

  get counts(): StunServerCounts {
    return { answered: this.#answered, limited: this.#limited, dropped: this.#dropped }
  }

  close(): void {
    for (const unlisten of this.#unlisten.splice(0)) unlisten()
  }

  /** @param reply the socket that heard it, and those that differ from it by port, by address, by both */
  #receive(
    bytes: Uint8Array,
    from: Endpoint,
    reply: Readonly<Record<'own' | 'port' | 'address' | 'both', UdpSocket>>,
  ): void {
    const message = decodeStun(bytes)
    const isRequest = !('code' in message) && message.class === 'request' && message.method === STUN_BINDING
    if (!isRequest || from.port === 0 || !isUnicast(from.address)) {
      this.#dropped++
      return
    }
    if (!this.#rates.take(from.address)) {
      this.#limited++
      return
    }
    const change = message.attributes.changeRequest ?? { address: false, port: false }
    const others = this.#sockets.others
    const notUnderstood = [...message.notUnderstood]
    if ((change.address || change.port) && others === undefined) notUnderstood.push(CHANGE_REQUEST)
    const answer =
      notUnderstood.length > 0
        ? refusal(message, notUnderstood)
        : success(message, { from, bytes, own: reply.own, reply })
    if (answer.byteLength > bytes.byteLength * STUN_ANSWER_FACTOR_MAX) {
      this.#dropped++
      return
    }
    this.#answered++
    const both = change.address && change.port ? reply.both : undefined
    const through = both ?? (change.address ? reply.address : change.port ? reply.port : reply.own)
    through.send(answer, from)
  }
}

type Heard = {
  readonly from: Endpoint
  readonly bytes: Uint8Array
  readonly own: UdpSocket
  readonly reply: { readonly both: UdpSocket }
}

/** The mapped address always; the rest as long as the answer stays small beside the request, the most useful first. */
function success(request: StunMessage, heard: Heard): Uint8Array {
  const { own, reply, from, bytes } = heard
  const mapped = { mapped: from }
  const other = own === reply.both ? mapped : { ...mapped, otherAddress: reply.both.local }
  // A socket that is bound to all addresses does not know which of them it was asked at.
  const origin = isUnicast(own.local.address) ? { responseOrigin: own.local } : {}
  const choices: StunAttributes[] = [{ ...other, ...origin }, other]
  for (const attributes of choices) {
    const answer = encodeAnswer(request, attributes)
    if (answer.byteLength <= bytes.byteLength * STUN_ANSWER_FACTOR_MAX) return answer
  }
  return encodeAnswer(request, mapped)
}

/** 420, with the attributes that were not understood, as many as may be named. */
function refusal(request: StunMessage, notUnderstood: readonly number[]): Uint8Array {
  return encodeStun({
    class: 'error',
    transactionId: request.transactionId,
    attributes: { error: { code: UNKNOWN_ATTRIBUTE, reason: '' }, unknown: notUnderstood.slice(0, 4) },
    hasFingerprint: request.hasFingerprint,
  })
}

function encodeAnswer(request: StunMessage, attributes: StunAttributes): Uint8Array {
  const { transactionId, hasFingerprint } = request
  return encodeStun({ class: 'success', transactionId, attributes, hasFingerprint })
}
