/** A probe on a host, as a test holds it: sockets that live on that host. */
import { fileURLToPath } from 'node:url'
import { systemClock, withDeadline } from '#base'
import type { Host, Lab } from './lab.ts'
import type { LabProcess } from './process.ts'
import type { Endpoint, ProbeAnswer, ProbeRequest, TcpResult, UdpMessage } from './probe-protocol.ts'

const PROGRAM = fileURLToPath(new URL('./probe.ts', import.meta.url))
const ANSWER_TIMEOUT_MS = 60_000

/** How long something that must arrive may take: microseconds, but a machine can stand still for seconds. */
export const ARRIVAL_MS = 20_000

/** A socket or a listener on the probe's host. */
export type ProbeSocket = { readonly socket: number; readonly port: number }

export type ConnectOptions = {
  /** 0, the default: any. */
  readonly localPort?: number
  readonly token: string
  readonly timeoutMs: number
  readonly again?: boolean
}

type Waiting = { readonly resolve: (answer: ProbeAnswer) => void; readonly reject: (error: Error) => void }

export class Probe {
  readonly host: Host
  readonly #process: LabProcess
  readonly #waiting = new Map<number, Waiting>()
  #ids = 0

  constructor(lab: Lab, host: Host) {
    this.host = host
    this.#process = lab.run(host, [process.execPath, PROGRAM])
    // Never rejects: what ends the reading is handed to those who wait.
    void this.#read()
  }

  udpOpen(options: { readonly port?: number; readonly ipv6?: boolean } = {}): Promise<ProbeSocket> {
    return this.#socket({ what: 'udp-open', port: options.port ?? 0, ipv6: options.ipv6 ?? false })
  }

  /** Resolves when the packet has left. */
  async udpSend(from: ProbeSocket, to: Endpoint, text: string): Promise<void> {
    await this.#ask({ what: 'udp-send', socket: from.socket, to, text })
  }

  /** The next packet, or undefined where none comes in time. */
  async udpNext(at: ProbeSocket, timeoutMs = ARRIVAL_MS): Promise<UdpMessage | undefined> {
    return (await this.#ask({ what: 'udp-next', socket: at.socket, timeoutMs })).message
  }

  tcpListen(token: string, port = 0): Promise<ProbeSocket> {
    return this.#socket({ what: 'tcp-listen', port, token })
  }

  async tcpAccepted(at: ProbeSocket, timeoutMs = ARRIVAL_MS): Promise<TcpResult> {
    return (await this.#ask({ what: 'tcp-accepted', socket: at.socket, timeoutMs })).result ?? {}
  }

  async tcpConnect(to: Endpoint, options: ConnectOptions): Promise<TcpResult> {
    const { localPort = 0, again = false, token, timeoutMs } = options
    return (await this.#ask({ what: 'tcp-connect', to, localPort, token, timeoutMs, again })).result ?? {}
  }

  async close(what: ProbeSocket): Promise<void> {
    await this.#ask({ what: 'close', socket: what.socket })
  }

  async #socket(request: ProbeRequest): Promise<ProbeSocket> {
    const { socket, port } = await this.#ask(request)
    if (socket === undefined || port === undefined) throw new Error('a probe answered without a socket')
    return { socket, port }
  }

  async #ask(request: ProbeRequest): Promise<ProbeAnswer> {
    const id = this.#ids++
    const { promise, resolve, reject } = Promise.withResolvers<ProbeAnswer>()
    this.#waiting.set(id, { resolve, reject })
    this.#process.write(`${JSON.stringify({ id, ...request })}\n`)
    const what = `${request.what} on ${this.host.name}`
    try {
      return await withDeadline(systemClock, { what, timeoutMs: ANSWER_TIMEOUT_MS }, () => promise)
    } finally {
      this.#waiting.delete(id)
    }
  }

  async #read(): Promise<void> {
    let why = 'has ended'
    try {
      for await (const line of this.#process.lines) {
        const { id, fault, ...answer } = JSON.parse(line) as ProbeAnswer & { id: number; fault?: string }
        if (fault === undefined) this.#waiting.get(id)?.resolve(answer)
        else this.#waiting.get(id)?.reject(new Error(`${this.host.name}: ${fault}`))
      }
    } catch (error) {
      why = String(error)
    }
    const error = new Error(`the probe on ${this.host.name} ${why}: ${this.#process.stderr()}`)
    for (const { reject } of this.#waiting.values()) reject(error)
  }
}
