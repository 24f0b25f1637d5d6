/**
 * Port mapping by PCP (RFC 6887), or by NAT-PMP (RFC 6886) where the gateway is older. Answers count only from the gateway's
 * own address and port. Which of the two it speaks is remembered, and asked again when it falls silent.
 */
import type { CancelTimer, Clock, Random } from '#base'
import { abortError } from '#base'
import { isPrivate, isUnicast } from '../ip.ts'
import { MAPPING_LEASE_SECONDS_MIN, PMP_RTO_MS, PMP_SENDS_MAX } from '../limits.ts'
import type { Endpoint, OpenUdp, UdpSocket } from '../types.ts'
import {
  decodePcp,
  decodePmp,
  encodePcp,
  encodePmp,
  encodePmpAddressRequest,
  type GatewayAnswer,
  PCP_NONCE_BYTES,
} from './pmp-codec.ts'
import type { MappingProtocol, MappingRequest, PortMapping } from './types.ts'

/** Where gateways listen (RFC 6886, 3). */
export const PMP_PORT = 5351

export type PmpDeps = { readonly clock: Clock; readonly random: Random; readonly openUdp: OpenUdp }

export type PmpOptions = {
  readonly gateway: Endpoint
  /** This machine's address on the gateway's network. */
  readonly localAddress: string
}

type MapOptions = { readonly leaseSeconds: number; readonly signal: AbortSignal }

export class PmpProtocol implements MappingProtocol {
  readonly name = 'PCP or NAT-PMP'
  readonly #deps: PmpDeps
  readonly #options: PmpOptions
  /** Whoever knows a mapping's nonce may change it, so each has its own; kept as long as this gateway is used. */
  readonly #nonces = new Map<string, Uint8Array>()

  constructor(deps: PmpDeps, options: PmpOptions) {
    this.#deps = deps
    this.#options = options
  }

  async map(request: MappingRequest, options: MapOptions): Promise<PortMapping> {
    return this.#withSocket(async socket => {
      const pcp = await this.#pcp(socket, request, options)
      if (pcp !== undefined) return pcp
      const exchange = { socket, signal: options.signal }
      // The address first: a mapping at a gateway that has none would be left behind.
      const outside = await this.#exchange(exchange, encodePmpAddressRequest(), bytes => decodePmp(bytes))
      if (outside?.kind !== 'address') throw new Error(`NAT-PMP: no address, ${reasonOf(outside)}`)
      const ask = encodePmp(request, options.leaseSeconds)
      const answer = await this.#exchange(exchange, ask, bytes => decodePmp(bytes, request))
      if (answer?.kind !== 'granted') throw new Error(`NAT-PMP: ${reasonOf(answer)}`)
      return granted(request, { ...answer, via: 'nat-pmp', externalAddress: outside.externalAddress })
    })
  }

  async unmap(mapping: PortMapping, options: { readonly signal: AbortSignal }): Promise<void> {
    const answer = await this.#withSocket(async socket => {
      const exchange = { socket, signal: options.signal }
      if (mapping.via === 'nat-pmp') {
        return this.#exchange(exchange, encodePmp(mapping, 0), bytes => decodePmp(bytes, mapping))
      }
      const pcp = { ...mapping, ...this.#identityOf(mapping), leaseSeconds: 0 }
      return this.#exchange(exchange, encodePcp(pcp), bytes => decodePcp(bytes, pcp))
    })
    if (answer?.kind !== 'granted') throw new Error(`not taken back: ${reasonOf(answer)}`)
    this.#nonces.delete(keyOf(mapping))
  }

  /** Undefined where the gateway does not speak PCP. */
  async #pcp(socket: UdpSocket, request: MappingRequest, options: MapOptions): Promise<PortMapping | undefined> {
    const pcp = { ...request, ...this.#identityOf(request), leaseSeconds: options.leaseSeconds }
    const exchange = { socket, signal: options.signal }
    const answer = await this.#exchange(exchange, encodePcp(pcp), bytes => decodePcp(bytes, pcp))
    if (answer === undefined || answer.kind === 'version') return undefined
    if (answer.kind !== 'granted') throw new Error(`PCP: ${reasonOf(answer)}`)
    return granted(request, { ...answer, via: 'pcp', externalAddress: answer.externalAddress ?? '' })
  }

  #identityOf(request: MappingRequest): { readonly nonce: Uint8Array; readonly clientAddress: string } {
    const key = keyOf(request)
    const nonce = this.#nonces.get(key) ?? this.#deps.random.bytes(PCP_NONCE_BYTES)
    this.#nonces.set(key, nonce)
    return { nonce, clientAddress: this.#options.localAddress }
  }

  async #withSocket<T>(task: (socket: UdpSocket) => Promise<T>): Promise<T> {
    const socket = await this.#deps.openUdp({ address: this.#options.localAddress })
    try {
      return await task(socket)
    } finally {
      await socket.close()
    }
  }

  /** Sends until something is decoded; undefined where the gateway stays silent. */
  #exchange(
    using: { readonly socket: UdpSocket; readonly signal: AbortSignal },
    request: Uint8Array,
    decode: (bytes: Uint8Array) => GatewayAnswer | undefined,
  ): Promise<GatewayAnswer | undefined> {
    const { socket, signal } = using
    const { gateway } = this.#options
    return new Promise((resolve, reject) => {
      let cancelTimer: CancelTimer = () => undefined
      const end = (): void => {
        cancelTimer()
        unlisten()
        signal.removeEventListener('abort', onAbort)
      }
      const onAbort = (): void => {
        end()
        reject(abortError(signal))
      }
      const finish = (answer: GatewayAnswer | undefined): void => {
        end()
        resolve(answer)
      }
      const unlisten = socket.onMessage((bytes, from) => {
        if (from.address !== gateway.address || from.port !== gateway.port) return
        const answer = decode(bytes)
        if (answer !== undefined) finish(answer)
      })
      const send = (sends: number): void => {
        if (sends === PMP_SENDS_MAX) return finish(undefined)
        socket.send(request, gateway)
        cancelTimer = this.#deps.clock.after(PMP_RTO_MS * 2 ** sends, () => send(sends + 1))
      }
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      send(0)
    })
  }
}

/** @throws Error where what the gateway grants is of no use */
export function granted(
  request: MappingRequest,
  grant: Pick<PortMapping, 'via' | 'externalAddress' | 'externalPort' | 'leaseSeconds'>,
): PortMapping {
  const { via, externalAddress, externalPort, leaseSeconds } = grant
  const isPermanent = via === 'upnp' && leaseSeconds === 0
  if (!isPermanent && leaseSeconds < MAPPING_LEASE_SECONDS_MIN) throw new Error(`granted for ${leaseSeconds} s only`)
  if (!isUnicast(externalAddress)) throw new Error('the gateway has no address outside')
  if (!Number.isInteger(externalPort) || externalPort < 1 || externalPort > 65_535)
    throw new Error('no port was granted')
  const { protocol, internalPort } = request
  const isPublic = !isPrivate(externalAddress)
  return { protocol, internalPort, via, externalAddress, externalPort, leaseSeconds, isPublic }
}

function keyOf(request: MappingRequest): string {
  return `${request.protocol} ${request.internalPort}`
}

function reasonOf(answer: GatewayAnswer | undefined): string {
  if (answer === undefined) return 'no answer'
  return answer.kind === 'refused' ? `result ${answer.result}` : `unexpected answer (${answer.kind})`
}
