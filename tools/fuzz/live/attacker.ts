/** A peer that attacks a live node: real keys, real handshakes, and whatever it likes after them. */
import { type ByteStream, systemRandom } from '#base'
import { createNodeIdentity, type NodeIdentity } from '#identity'
import { openSealedStream, Refusal, type SecureSession } from '#protocol'
import type { PROTOCOLS } from '#wire'
import { type SessionMemory, sessionMemory } from '../../../test/support/session-memory.ts'
import { carriedByOpener } from '../../../test/support/raw-carried.ts'
import { HAS_MANY_ADDRESSES } from '../../../test/support/raw-libp2p.ts'
import {
  type RawConnection,
  type RawControl,
  type RawControlOptions,
  type RawPeer,
  startRawPeer,
} from '../../../test/support/raw-peer.ts'
import type { Chance } from '../lib/chance.ts'
import type { LiveNode } from './live-node.ts'

/** What was seen before only matters to who receives; attackers share one filter, which is large. */
const shared = sessionMemory()

export class Attacker {
  readonly identity: NodeIdentity
  readonly memory: SessionMemory
  readonly #node: Pick<LiveNode, 'address'>
  readonly #raw: RawPeer
  readonly #ends: (() => Promise<void>)[]
  #joined: { readonly connection: RawConnection; readonly control: RawControl } | undefined

  private constructor(
    parts: Pick<Attacker, 'identity' | 'memory'> & {
      readonly node: Pick<LiveNode, 'address'>
      readonly raw: RawPeer
      readonly ends: (() => Promise<void>)[]
    },
  ) {
    this.identity = parts.identity
    this.memory = parts.memory
    this.#node = parts.node
    this.#raw = parts.raw
    this.#ends = parts.ends
  }

  static async start(node: Pick<LiveNode, 'address'>, chance: Chance): Promise<Attacker> {
    const identity = await createNodeIdentity(systemRandom)
    const memory = { ...sessionMemoryWithoutFilter(), replay: shared.replay }
    const ends: (() => Promise<void>)[] = []
    // Failed attempts count against an address too: each attacker has its own.
    const from = HAS_MANY_ADDRESSES
      ? `127.${chance.between(1, 250)}.${chance.below(250)}.${chance.between(2, 250)}`
      : undefined
    const raw = await startRawPeer(
      { after: end => void ends.push(end) },
      { identity, memory, ...(from === undefined ? {} : { from }) },
    )
    return new Attacker({ node, identity, memory, raw, ends })
  }

  get peer(): string {
    return this.identity.peer
  }

  /** The session that it has joined with, while it lasts. */
  get session(): SecureSession | undefined {
    return this.#joined?.control.link.session
  }

  get control(): RawControl | undefined {
    return this.session === undefined ? undefined : this.#joined?.control
  }

  async dial(): Promise<RawConnection> {
    const connection = await this.#raw.dial(this.#node.address)
    connection.closed.catch(() => undefined) // Nobody waits for it everywhere.
    return connection
  }

  /** Opens the control stream on a new connection. */
  async link(connection: RawConnection, options: RawControlOptions = {}): Promise<RawControl> {
    const control = await connection.control(options)
    control.ended.catch(() => undefined)
    return control
  }

  /** Joins as a peer does. @returns false: the node refused */
  async join(): Promise<boolean> {
    try {
      const connection = await this.dial()
      const control = await this.link(connection, { answersPings: true })
      await control.join()
      this.#joined = { connection, control }
      return true
    } catch (error) {
      if (error instanceof Refusal || isGone(error)) return false
      throw error
    }
  }

  /** Takes what the node opens towards us. */
  async onStream(protocol: string, take: (stream: ByteStream) => void): Promise<void> {
    await this.#raw.onStream(protocol, take)
  }

  /** A sealed stream in the joined session. */
  async open(protocol: typeof PROTOCOLS.stage | typeof PROTOCOLS.bulk): Promise<ByteStream> {
    const { session } = this
    if (this.#joined === undefined || session === undefined) throw new Error('not joined')
    const stream = await this.#joined.connection.stream(protocol)
    return carriedByOpener(openSealedStream({ stream, session, onFault: () => undefined }))
  }

  /** Says a message of the session with this very body, whatever it is. @returns false: the link is over */
  say(type: number, body: Uint8Array): boolean {
    const { control, session } = this
    if (control === undefined || session === undefined) return false
    try {
      const frame = session.sealControl(type, body)
      if (frame instanceof Uint8Array) control.stream.send(frame)
      return true
    } catch {
      return false // The node has cut it, which it may.
    }
  }

  leave(): void {
    this.#joined?.connection.connection.abort(new Error('the attacker leaves'))
    this.#joined = undefined
  }

  async stop(): Promise<void> {
    this.leave()
    for (const end of this.#ends.splice(0)) await end()
  }
}

/** A session memory of its own, but for the filter. */
function sessionMemoryWithoutFilter(): Omit<SessionMemory, 'replay'> {
  const { replay: _, ...rest } = sessionMemory()
  return rest
}

/** The node has hung up, or is too busy with others: what attackers must expect. */
export function isGone(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  return !(error instanceof TypeError || error instanceof RangeError || error.name === 'AssertionError')
}
