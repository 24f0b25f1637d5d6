/**
 * Two nodes' carried streams over carriers in memory, which a test cuts at any byte. Nothing moves by itself: each step
 * delivers a piece of one direction, chosen by a seeded generator, and time passes only where nothing is on its way.
 */
import { type ByteStream, ManualClock, type Random, silentLogger, StreamError } from '#base'
import { CarriedStreams } from '../../src/net/carried/carried-streams.ts'
import { DEFAULT_SETTINGS } from '../../src/net/settings.ts'

export const WORLD_PROTOCOL = '/koinon/stage/1'

export type WorldSession = {
  readonly peer: string
  readonly direction: 'inbound' | 'outbound'
  readonly number: number
  readonly rank: number
}

/** Pieces that wait before a carrier says that it is full. */
const FULL_PIECES = 3

/** One direction of one carrier. */
class Pipe {
  readonly pieces: Uint8Array[] = []
  deliveredBytes = 0
  hasEnd = false
  isCut = false
  #arrived: Uint8Array[] = []
  #hasArrivedEnd = false
  #drained: (() => void)[] = []
  #waiter: (() => void) | undefined

  /** Nothing comes through any more, and nobody is told. */
  isSilent = false

  get isDue(): boolean {
    return !this.isCut && !this.isSilent && (this.pieces.length > 0 || (this.hasEnd && !this.#hasArrivedEnd))
  }

  /** Delivers at most so many bytes, or the end. */
  deliver(bytesMax: number): void {
    const piece = this.pieces[0]
    if (piece === undefined) this.#hasArrivedEnd = true
    else {
      const part = piece.slice(0, bytesMax)
      if (part.byteLength === piece.byteLength) this.pieces.shift()
      else this.pieces[0] = piece.subarray(bytesMax)
      this.deliveredBytes += part.byteLength
      this.#arrived.push(part)
    }
    this.#waiter?.()
    if (this.pieces.length === 0) for (const wake of this.#drained.splice(0)) wake()
  }

  drained(): Promise<void> {
    if (this.pieces.length === 0) return Promise.resolve()
    return new Promise(resolve => this.#drained.push(resolve))
  }

  cut(): void {
    this.isCut = true
    for (const wake of this.#drained.splice(0)) wake()
    this.#waiter?.()
  }

  async *read(): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      const piece = this.#arrived.shift()
      if (piece !== undefined) yield piece
      else if (this.#hasArrivedEnd) return
      else if (this.isCut) throw new StreamError({ code: 'STREAM_RESET' }, 'the carrier was cut')
      else {
        await new Promise<void>(resolve => {
          this.#waiter = resolve
        })
      }
    }
  }
}

export class WorldCarrier {
  readonly there = new Pipe()
  readonly back = new Pipe()
  /** Bytes of each direction after which it is cut. */
  cutAfter = { there: Number.POSITIVE_INFINITY, back: Number.POSITIVE_INFINITY }

  get isCut(): boolean {
    return this.there.isCut
  }

  cut(): void {
    this.there.cut()
    this.back.cut()
  }

  /** Moves a piece, or cuts where that is due. @returns whether there was anything to do */
  step(random: Random): boolean {
    const sides = (['there', 'back'] as const).filter(side => this[side].isDue)
    const side = sides[random.uint32() % sides.length]
    if (side === undefined) return false
    const pipe = this[side]
    const leftBytes = this.cutAfter[side] - pipe.deliveredBytes
    if (leftBytes <= 0) this.cut()
    else pipe.deliver(Math.min(leftBytes, 1 + (random.uint32() % (random.uint32() % 4 === 0 ? 70_000 : 40))))
    return true
  }

  end(own: 'there' | 'back', peer: string): ByteStream {
    const [out, into] = own === 'there' ? [this.there, this.back] : [this.back, this.there]
    const put = (parts: readonly Uint8Array[]): boolean => {
      if (out.isCut || out.hasEnd) throw new StreamError({ code: 'STREAM_RESET' }, 'the carrier is gone')
      out.pieces.push(...parts.filter(part => part.byteLength > 0))
      return out.pieces.length < FULL_PIECES
    }
    return {
      peer,
      protocol: WORLD_PROTOCOL,
      send: bytes => put([bytes]),
      sendParts: put,
      drained: () => out.drained(),
      received: into.read(),
      close: () => {
        out.hasEnd = true
        return Promise.resolve()
      },
      abort: () => {
        if (!out.isSilent) this.cut()
      },
    }
  }
}

type Side = { readonly streams: CarriedStreams<WorldSession>; sessions: WorldSession[] }

export class CarriedWorld {
  readonly clock = new ManualClock(1_000)
  readonly carriers: WorldCarrier[] = []
  readonly faults: string[] = []
  readonly gone: string[] = []
  readonly accepted: ByteStream[] = []
  readonly a: Side
  b: Side
  /** Told of each carrier before anything has crossed it. */
  onCarrier: (carrier: WorldCarrier, index: number) => void = () => undefined
  /** Where set, the listener is the test: it is given the other end of each carrier. */
  onRaw: ((carrier: ByteStream) => void) | undefined
  /** What a dial comes to. */
  onDial: () => Error | undefined = () => undefined
  dials = 0
  readonly #random: Random
  #sessions = 0

  constructor(random: Random, options: { readonly rank?: number } = {}) {
    this.#random = random
    this.a = this.#side('a', 'b')
    this.b = this.#side('b', 'a')
    this.join(options.rank)
  }

  /** The listener's process ends without a word, and comes back. */
  restartB(): void {
    const former = this.b
    for (const carrier of this.carriers) carrier.cut()
    this.b = this.#side('b', 'a')
    former.sessions = []
    void former.streams.stop()
    this.a.sessions = []
    this.a.streams.peerLeft('b', { isFinal: false, direction: 'outbound' })
  }

  /** A session of both. */
  join(rank = 0): void {
    const number = this.#sessions++
    this.a.sessions.push({ peer: 'b', direction: 'outbound', number, rank })
    this.b.sessions.push({ peer: 'a', direction: 'inbound', number, rank })
    for (const side of [this.a, this.b]) {
      const isReturn = side.sessions.length > 1
      side.streams.sessionJoined(side.sessions.at(-1) as WorldSession, { isReturn })
    }
  }

  /** All sessions end, and with them all carriers. */
  part(options: { readonly isFinal: boolean } = { isFinal: false }): void {
    for (const carrier of this.carriers) carrier.cut()
    for (const [side, peer, direction] of [
      [this.a, 'b', 'outbound'],
      [this.b, 'a', 'inbound'],
    ] as const) {
      side.sessions = []
      side.streams.peerLeft(peer, { ...options, direction })
    }
  }

  open(): Promise<ByteStream> {
    return this.a.streams.open(this.a.sessions.at(-1) as WorldSession, WORLD_PROTOCOL, {})
  }

  /** A carrier that nobody has opened: the test speaks on it itself. */
  rawCarrier(from: WorldSession = { peer: 'a', direction: 'inbound', number: 0, rank: 0 }): ByteStream {
    const carrier = new WorldCarrier()
    this.carriers.push(carrier)
    void this.b.streams
      .accept(carrier.end('back', from.peer), from)
      .then(stream => stream && this.accepted.push(stream))
    return carrier.end('there', 'b')
  }

  /** Runs until `isDone`. Fails where nothing happens for a minute of simulated time. */
  async run(isDone: () => boolean): Promise<void> {
    let idleMs = 0
    while (!isDone()) {
      await new Promise(resolve => setImmediate(resolve))
      const live = this.carriers.filter(carrier => carrier.there.isDue || carrier.back.isDue)
      const carrier = live[this.#random.uint32() % live.length]
      if (carrier?.step(this.#random) === true) {
        idleMs = 0
        continue
      }
      if (isDone()) return
      this.clock.advance(10)
      idleMs += 10
      if (idleMs > 60_000) throw new Error('nothing happens any more')
    }
  }

  #side(own: 'a' | 'b', peer: 'a' | 'b'): Side {
    const side = (): Side => this[own]
    const streams = new CarriedStreams<WorldSession>({
      clock: this.clock,
      random: this.#random,
      log: silentLogger,
      settings: DEFAULT_SETTINGS,
      sessionOf: () => side().sessions.at(-1),
      rankOf: ({ rank }) => rank,
      openCarrier: session => {
        if (!side().sessions.includes(session)) return Promise.reject(new Error('the session has ended'))
        return Promise.resolve(this.#carry(peer, session))
      },
      reconnect: async () => {
        this.dials++
        const error = this.onDial()
        if (error !== undefined) throw error
        if (side().sessions.length === 0) this.join()
      },
      onDead: () => this.part(),
      onFault: (_session, what) => void this.faults.push(`${own}: ${what}`),
      onGone: gone => void this.gone.push(`${own}: ${gone}`),
    })
    return { streams, sessions: [] }
  }

  #carry(to: 'a' | 'b', session: WorldSession): ByteStream {
    const carrier = new WorldCarrier()
    this.onCarrier(carrier, this.carriers.push(carrier) - 1)
    const from = to === 'b' ? 'a' : 'b'
    const theirs = this[to].sessions.find(({ number }) => number === session.number)
    if (theirs === undefined) carrier.cut()
    else if (this.onRaw !== undefined) this.onRaw(carrier.end('back', from))
    else {
      void this[to].streams
        .accept(carrier.end('back', from), theirs)
        .then(stream => stream && this.accepted.push(stream))
    }
    return carrier.end('there', to)
  }
}
