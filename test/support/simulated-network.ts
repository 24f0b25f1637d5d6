/**
 * UDP among machines in memory, some of them behind a NAT whose behaviour is given by RFC 4787's words, so that tests see
 * every kind of NAT without one. Datagrams arrive in order, in later microtasks, and none is lost.
 */
import type { Endpoint, FilteringBehaviour, OpenUdp, UdpSocket } from '#nat'

export type SimulatedNatOptions = {
  readonly outside: string
  readonly mapping: 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent'
  readonly filtering: Exclude<FilteringBehaviour, 'unknown'>
  /** The outside port of a new mapping. */
  readonly nextPort: (insidePort: number) => number
}

type Listener = (bytes: Uint8Array, from: Endpoint) => void
type Mapping = { readonly inside: Endpoint; readonly outside: Endpoint; readonly sentTo: Set<string> }

export class SimulatedNetwork {
  readonly #sockets = new Map<string, Set<Listener>>()
  readonly #nats: {
    readonly options: SimulatedNatOptions
    readonly inside: string
    readonly mappings: Map<string, Mapping>
  }[] = []
  #port = 40_000

  /** A machine that sits in the network itself, or behind the NAT that is given. */
  machine(address: string, nat?: SimulatedNatOptions): OpenUdp {
    if (nat !== undefined) this.#nats.push({ options: nat, inside: address, mappings: new Map() })
    return options => {
      const local = { address: options?.address ?? address, port: options?.port || this.#port++ }
      const listeners = new Set<Listener>()
      this.#sockets.set(text(local), listeners)
      const socket: UdpSocket = {
        local,
        send: (bytes, to) => this.#send(bytes.slice(), local, to),
        onMessage: listener => {
          listeners.add(listener)
          return () => void listeners.delete(listener)
        },
        close: async () => void this.#sockets.delete(text(local)),
      }
      return Promise.resolve(socket)
    }
  }

  #send(bytes: Uint8Array, from: Endpoint, to: Endpoint): void {
    const source = this.#outbound(from, to)
    const target = this.#inbound(source, to)
    if (target === undefined) return
    queueMicrotask(() => {
      for (const listener of this.#sockets.get(text(target)) ?? []) listener(bytes, source)
    })
  }

  #outbound(from: Endpoint, to: Endpoint): Endpoint {
    const nat = this.#nats.find(nat => nat.inside === from.address)
    if (nat === undefined) return from
    const { mapping, nextPort, outside } = nat.options
    const part = { 'endpoint-independent': '', 'address-dependent': to.address, 'address-and-port-dependent': text(to) }
    const key = `${text(from)} ${part[mapping]}`
    const known = nat.mappings.get(key) ?? {
      inside: from,
      outside: { address: outside, port: nextPort(from.port) },
      sentTo: new Set(),
    }
    known.sentTo.add(text(to)).add(to.address)
    nat.mappings.set(key, known)
    return known.outside
  }

  #inbound(from: Endpoint, to: Endpoint): Endpoint | undefined {
    const nat = this.#nats.find(nat => nat.options.outside === to.address)
    if (nat === undefined) return to
    const mapping = [...nat.mappings.values()].find(mapping => text(mapping.outside) === text(to))
    if (mapping === undefined) return undefined
    const { filtering } = nat.options
    if (filtering === 'endpoint-independent') return mapping.inside
    return mapping.sentTo.has(filtering === 'address-dependent' ? from.address : text(from))
      ? mapping.inside
      : undefined
  }
}

function text(endpoint: Endpoint): string {
  return `${endpoint.address} ${endpoint.port}`
}
