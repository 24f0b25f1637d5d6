/** The way by UDP: ICE finds a path, and QUIC runs over it by a shuttle (decision 0011). */
import { type Clock, type Logger, sleep } from '#base'
import { PUNCH_CANDIDATES_MAX, type PunchIceOffer } from '#wire'
import { LINGER_MS, PUNCH_ICE_MS_MAX } from '../limits.ts'
import type { PeerPath } from '../types.ts'
import { Shuttle } from './shuttle.ts'
import type { PreparedWay, PunchContext, PunchIce, PunchOffer, PunchTools, PunchWay } from './types.ts'

export type IceWayDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly createIce: NonNullable<PunchTools['createIce']>
  /** Our QUIC listener, as this machine reaches it. */
  readonly quicListener: () => { readonly host: string; readonly port: number } | undefined
  /** Says how connections from or to an address came about. @returns how to take it back */
  readonly mark: (address: string, path: PeerPath) => () => void
  /** Dials the peer there, beside the connections that there are; resolves once it has joined. */
  readonly dial: (
    target: { readonly peer: string; readonly address: string },
    options: { readonly signal: AbortSignal },
  ) => Promise<void>
  readonly joinedOver: (path: PeerPath, options: { readonly signal: AbortSignal }) => Promise<void>
  /** Resolves when the session with this path has lost its connection. */
  readonly goneFrom: (path: PeerPath) => Promise<void>
  /** Aborts when the host stops. */
  readonly stopping: AbortSignal
}

export function createIceWay(deps: IceWayDeps): PunchWay {
  const ending = new Set<Promise<void>>()
  const onEnding = (promise: Promise<void>): void => {
    ending.add(promise)
    void promise.then(() => ending.delete(promise))
  }
  return {
    method: 'ice',
    // The agent itself tries every pair several times.
    attemptsMax: 1,
    joinMsMax: PUNCH_ICE_MS_MAX,
    prepare: async context => {
      const ice = await deps.createIce(context.role === 'caller' ? 'controlling' : 'controlled')
      try {
        const { ufrag, password, candidates } = await ice.gather()
        const told = candidates.slice(0, PUNCH_CANDIDATES_MAX).map(candidate => ({ ...candidate }))
        return new PreparedIce({ ...deps, onEnding }, { ice, own: { ufrag, password, candidates: told } }, context)
      } catch (error) {
        await ice.close()
        throw error
      }
    },
    settled: async () => void (await Promise.all(ending)),
  }
}

/** `onEnding` is told of what goes on behind an attempt: it never rejects. */
type PreparedDeps = IceWayDeps & { readonly onEnding: (promise: Promise<void>) => void }

class PreparedIce implements PreparedWay {
  readonly offer: PunchOffer
  readonly #deps: PreparedDeps
  readonly #ice: PunchIce
  readonly #context: PunchContext
  #isUsed = false

  constructor(
    deps: PreparedDeps,
    { ice, own }: { readonly ice: PunchIce; readonly own: PunchIceOffer },
    context: PunchContext,
  ) {
    this.#deps = deps
    this.#ice = ice
    this.#context = context
    this.offer = { type: 'offer', ice: own }
  }

  can({ ice }: PunchOffer): boolean {
    return this.offer.ice?.candidates.length !== 0 && ice !== undefined && ice.candidates.length > 0
  }

  async join({ ice }: PunchOffer, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { peer, isOutbound } = this.#context
    const { mark, dial, joinedOver, quicListener } = this.#deps
    const datagrams = await this.#ice.connect(ice, { signal })
    const listener = isOutbound ? undefined : quicListener()
    if (!isOutbound && listener === undefined) throw new Error('there is no QUIC listener any more')
    const shuttle = await Shuttle.open(this.#deps, datagrams, listener === undefined ? {} : { listener })
    const path: PeerPath = { kind: 'ice', transport: 'quic' }
    const unmark = mark(shuttle.address, path)
    try {
      if (isOutbound) await dial({ peer, address: shuttle.address }, { signal })
      else await joinedOver(path, { signal })
      this.#isUsed = true
      this.#deps.onEnding(this.#endWith(path, shuttle))
    } catch (error) {
      shuttle.end()
      throw error
    } finally {
      // From here on the session knows.
      unmark()
    }
  }

  release(): void {
    if (!this.#isUsed) this.#deps.onEnding(this.#ice.close())
  }

  /** The last words of QUIC still cross. Then the path ends with the connection, or the other way round. */
  async #endWith(path: PeerPath, shuttle: Shuttle): Promise<void> {
    await Promise.race([this.#deps.goneFrom(path), shuttle.ended])
    const { clock, stopping } = this.#deps
    await sleep(clock, LINGER_MS, { signal: stopping }).catch(() => undefined) // Stopping: at once, then.
    shuttle.end()
    await Promise.all([shuttle.ended, this.#ice.close()])
  }
}
