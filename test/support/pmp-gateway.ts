/** A gateway that speaks PCP or NAT-PMP, over a real UDP socket: grants, renews and takes back, or keeps silent. */
import type { Endpoint, UdpSocket } from '#nat'
import { openUdp } from '#nat'

export type PmpGatewayOptions = {
  readonly speaks: 'pcp' | 'nat-pmp'
  /** The address outside. */
  readonly outside: readonly [number, number, number, number]
}

export class PmpGateway {
  readonly #socket: UdpSocket
  readonly #options: PmpGatewayOptions
  /** `udp 4000` to the port outside. */
  readonly mappings = new Map<string, number>()
  readonly lifetimes: number[] = []
  isSilent = false
  /** Added to the port that is wished for. */
  shift = 0
  /** Sent before each answer. */
  garbage: Uint8Array[] = []

  static async start(options: PmpGatewayOptions): Promise<PmpGateway> {
    return new PmpGateway(await openUdp({ address: '127.0.0.1' }), options)
  }

  constructor(socket: UdpSocket, options: PmpGatewayOptions) {
    this.#socket = socket
    this.#options = options
    socket.onMessage((bytes, from) => this.#receive(bytes, from))
  }

  get endpoint(): Endpoint {
    return this.#socket.local
  }

  close(): Promise<void> {
    return this.#socket.close()
  }

  #receive(bytes: Uint8Array, from: Endpoint): void {
    if (this.isSilent) return
    for (const noise of this.garbage) this.#socket.send(noise, from)
    const answer = bytes[0] === 2 ? this.#pcp(bytes) : this.#natPmp(bytes)
    this.#socket.send(answer, from)
  }

  #pcp(ask: Uint8Array): Uint8Array {
    if (this.#options.speaks !== 'pcp') return Uint8Array.of(0, 128 + (ask[1] ?? 0), 0, 1, 0, 0, 0, 0)
    const answer = ask.slice()
    const view = new DataView(answer.buffer)
    answer[1] = 128 + (ask[1] ?? 0)
    answer.fill(0, 8, 24)
    const lifetime = view.getUint32(4)
    const protocol = ask[36] === 17 ? 'udp' : 'tcp'
    view.setUint16(42, this.#grant(`${protocol} ${view.getUint16(40)}`, view.getUint16(42), lifetime))
    answer.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...this.#options.outside], 44)
    return answer
  }

  #natPmp(ask: Uint8Array): Uint8Array {
    const opcode = ask[1] ?? 0
    if (opcode === 0) return Uint8Array.of(0, 128, 0, 0, 0, 0, 0, 1, ...this.#options.outside)
    const answer = new Uint8Array(16)
    answer[1] = 128 + opcode
    answer.set(ask.subarray(4, 6), 8)
    const view = new DataView(ask.buffer, ask.byteOffset)
    const told = new DataView(answer.buffer)
    const key = `${opcode === 1 ? 'udp' : 'tcp'} ${view.getUint16(4)}`
    told.setUint16(10, this.#grant(key, view.getUint16(6), view.getUint32(8)))
    told.setUint32(12, view.getUint32(8))
    return answer
  }

  #grant(key: string, wished: number, lifetime: number): number {
    this.lifetimes.push(lifetime)
    if (lifetime === 0) {
      this.mappings.delete(key)
      return 0
    }
    this.mappings.set(key, wished + this.shift)
    return wished + this.shift
  }
}
