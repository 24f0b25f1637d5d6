/** The way by TCP: a port that others have seen, calls from both sides at once, and a connection made of the socket. */
import { isIPv4 } from 'node:net'
import { abortable, type Clock, type Logger, type Random, withDeadline } from '#base'
import { PUNCH_ENDPOINTS_MAX, PUNCH_TOKEN_BYTES, type PunchTcpOffer } from '#wire'
import type { BytePipe } from '../adopt.ts'
import type { Adoption } from '../connector.ts'
import { PUNCH_ATTEMPTS_MAX, PUNCH_DIAL_MS_MAX, PUNCH_JOIN_MS_MAX } from '../limits.ts'
import type { PeerPath } from '../types.ts'
import { type LocalNetwork, tcpMultiaddr } from './endpoints.ts'
import { type LocateDeps, type Located, locate, type ObserverPeer } from './locate.ts'
import { pipeOfSocket } from './socket-pipe.ts'
import { openPunched } from './tcp-open.ts'
import { canPunchTcp, tcpPlan } from './tcp-plan.ts'
import type { PreparedWay, PunchContext, PunchOffer, PunchTools, PunchWay } from './types.ts'

export type TcpWayDeps = LocateDeps & {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly foresee: PunchTools['foresee']
  readonly networks: () => readonly LocalNetwork[]
  /** Nodes that others can dial, the nearest first. */
  readonly observers: () => readonly ObserverPeer[]
  readonly adopt: (pipe: BytePipe, adoption: Adoption) => Promise<void>
  /** Resolves once a session of the peer has joined whose path is this very object. */
  readonly joinedOver: (path: PeerPath, options: { readonly signal: AbortSignal }) => Promise<void>
}

export function createTcpWay(deps: TcpWayDeps): PunchWay {
  return {
    method: 'tcp',
    attemptsMax: PUNCH_ATTEMPTS_MAX,
    joinMsMax: PUNCH_DIAL_MS_MAX + PUNCH_JOIN_MS_MAX,
    prepare: async context => {
      const observers = deps.observers().filter(({ peer }) => peer !== context.peer)
      const located = await locate(deps, observers, context)
      return located === undefined ? undefined : new PreparedTcp(deps, located, context)
    },
  }
}

class PreparedTcp implements PreparedWay {
  readonly offer: PunchOffer
  readonly #deps: TcpWayDeps
  readonly #located: Located
  readonly #context: PunchContext
  readonly #tcp: PunchTcpOffer

  constructor(deps: TcpWayDeps, located: Located, context: PunchContext) {
    this.#deps = deps
    this.#located = located
    this.#context = context
    const { localPort, isIpv6 } = located
    const { mapping, address, ports } = deps.foresee(located.observations)
    const own = deps.networks().filter(network => isIPv4(network.address) !== isIpv6)
    this.#tcp = {
      mapping,
      outside: address === undefined ? [] : ports.slice(0, PUNCH_ENDPOINTS_MAX).map(port => ({ address, port })),
      inside: own.slice(0, PUNCH_ENDPOINTS_MAX).map(network => ({ address: network.address, port: localPort })),
      token: deps.random.bytes(PUNCH_TOKEN_BYTES),
    }
    this.offer = { type: 'offer', tcp: this.#tcp }
  }

  can({ tcp }: PunchOffer, attempt: number): boolean {
    return tcp !== undefined && canPunchTcp(this.#tcp, tcp, attempt)
  }

  async join(
    { tcp }: PunchOffer,
    { attempt, signal }: { readonly attempt: number; readonly signal: AbortSignal },
  ): Promise<void> {
    if (tcp === undefined) throw new Error('nothing was offered')
    const { isOutbound, peer } = this.#context
    const { clock, networks, adopt, joinedOver } = this.#deps
    const { localPort, isIpv6 } = this.#located
    const plan = tcpPlan(this.#tcp, tcp, { attempt, isOutbound, networks: networks() })
    const found = await withDeadline(
      clock,
      { what: 'a call to the peer', timeoutMs: PUNCH_DIAL_MS_MAX, signal },
      async deadline => {
        const words = { say: tcp.token, hear: this.#tcp.token, chooses: isOutbound }
        return openPunched(this.#deps, plan, { localPort, isIpv6, ...words, signal: deadline })
      },
    )
    const path: PeerPath = { kind: 'punched', transport: 'tcp' }
    const address = tcpMultiaddr(found.from)
    const direction = isOutbound ? 'outbound' : 'inbound'
    await adopt(pipeOfSocket(found.socket), { peer, address, path, direction, signal })
    if (!isOutbound) await abortable(joinedOver(path, { signal }), signal)
  }

  release(): void {
    this.#located.release()
  }
}
