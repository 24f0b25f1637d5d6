/**
 * Streams that peers open towards us. The first frame says what a stream is for; the rest is checked, put together and
 * handed to the role that it belongs to. A peer whose bytes make no sense loses the stream, and only that.
 */
import type { ByteStream, Clock, Logger } from '#base'
import {
  encodeStageControl,
  encodeStageCredit,
  type StageFrameFault,
  type StageFrameSink,
  type StageMessage,
  type StagePurpose,
  type StepHeader,
} from '#wire'
import { protocolError } from './errors.ts'
import { FrameWriter } from './frame-writer.ts'
import {
  CONTROL_MESSAGES_PER_SECOND_MAX,
  INCOMING_STREAMS_MAX,
  INCOMING_STREAMS_PER_PEER_MAX,
  STRAY_STEPS_MAX,
  STREAM_START_MS_MAX,
} from './limits.ts'
import { readFrames } from './read-frames.ts'
import type { Session, Taking } from './session.ts'
import type { StepPurpose } from './stage-generation.ts'

export type IncomingDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly control: (session: Session, message: StageMessage) => void
  readonly begin: (session: Session, header: StepHeader, purpose: StepPurpose) => Taking
  /** A control stream ended. */
  readonly ended: (session: Session) => void
}

/** The rows of one step, as they come. A step in one piece is never copied. */
type Assembly = {
  readonly take: (rows: Uint8Array) => void
  readonly lost: () => void
  readonly byteLength: number
  bytes: Uint8Array | undefined
  filled: number
}

const bad = (what: string): StageFrameFault => ({ code: 'WIRE_STAGE_FRAME', what })

export class IncomingStreams {
  readonly #deps: IncomingDeps
  readonly #streams = new Set<ByteStream>()
  #isStopped = false

  constructor(deps: IncomingDeps) {
    this.#deps = deps
  }

  /** Serves one stream to its end. Never rejects. */
  async accept(stream: ByteStream): Promise<void> {
    const sameCount = [...this.#streams].filter(other => other.peer === stream.peer).length
    if (this.#isStopped || this.#streams.size >= INCOMING_STREAMS_MAX || sameCount >= INCOMING_STREAMS_PER_PEER_MAX) {
      stream.abort(protocolError(stream.peer, 'too many streams'))
      return
    }
    this.#streams.add(stream)
    const incoming = new Incoming(stream, this.#deps)
    try {
      await incoming.run()
    } finally {
      this.#streams.delete(stream)
    }
  }

  drop(peer: string, error: Error): void {
    for (const stream of this.#streams) if (stream.peer === peer) stream.abort(error)
  }

  /** The streams that are open now, to be ended by the caller. No new ones are taken. */
  stop(): readonly ByteStream[] {
    this.#isStopped = true
    return [...this.#streams]
  }
}

class Incoming implements StageFrameSink {
  readonly #stream: ByteStream
  readonly #deps: IncomingDeps
  readonly #writer: FrameWriter
  readonly #session: Session
  #purpose: StagePurpose | undefined
  #assembly: Assembly | undefined
  #strays = 0
  #controlSecond = 0
  #controlCount = 0

  constructor(stream: ByteStream, deps: IncomingDeps) {
    this.#stream = stream
    this.#deps = deps
    this.#writer = new FrameWriter(deps.clock, error =>
      stream.abort(error instanceof Error ? error : new Error(String(error))),
    )
    this.#writer.attach(stream)
    this.#session = {
      peer: stream.peer,
      send: message => this.#writer.send(encodeStageControl(message)),
      credit: (generation, step) => this.#writer.send(encodeStageCredit(generation, step)),
    }
  }

  /** Never rejects. */
  async run(): Promise<void> {
    const { clock, log } = this.#deps
    const { peer } = this.#stream
    const cancelStart = clock.after(STREAM_START_MS_MAX, () => {
      if (this.#purpose === undefined) this.#stream.abort(protocolError(peer, 'the stream does not say what it is for'))
    })
    let error: Error = new Error('the other side closed the stream')
    try {
      const fault = await readFrames(this.#stream, this)
      if (fault !== undefined) {
        error = protocolError(peer, fault.what)
        log.warn('a stream broke the protocol', { peer, what: fault.what })
      }
    } catch (cause) {
      log.debug('a stream was reset', { peer })
      if (cause instanceof Error) error = cause
    } finally {
      cancelStart()
      this.#writer.end()
      // The other side has said its last; what we could still answer has no reader.
      this.#stream.abort(error)
      this.#assembly?.lost()
      if (this.#purpose === 'control') this.#deps.ended(this.#session)
    }
  }

  start(purpose: StagePurpose): StageFrameFault | undefined {
    if (this.#purpose !== undefined) return bad('a second start')
    this.#purpose = purpose
    return undefined
  }

  message(message: StageMessage): StageFrameFault | undefined {
    if (this.#purpose !== 'control') return bad('a control message on another stream')
    const second = Math.floor(this.#deps.clock.monotonic() / 1000)
    if (second !== this.#controlSecond) {
      this.#controlSecond = second
      this.#controlCount = 0
    }
    this.#controlCount++
    if (this.#controlCount > CONTROL_MESSAGES_PER_SECOND_MAX) return bad('a flood of control messages')
    this.#deps.control(this.#session, message)
    return undefined
  }

  credit(): StageFrameFault | undefined {
    return bad('a credit that nobody waits for')
  }

  step(header: StepHeader): StageFrameFault | undefined {
    if (this.#purpose === undefined || this.#purpose === 'control') return bad('a step on another stream')
    if (header.kind === 'result' && this.#purpose !== 'decode') return bad('a result on another stream')
    const taking = this.#deps.begin(this.#session, header, this.#purpose)
    this.#assembly = undefined
    if (taking.kind === 'stray') {
      this.#strays++
      return this.#strays > STRAY_STEPS_MAX ? bad('too many steps that belong to nothing here') : undefined
    }
    if (taking.kind === 'skip') return undefined
    const { take, lost } = taking
    if (header.byteLength === 0) take(new Uint8Array())
    else this.#assembly = { take, lost, byteLength: header.byteLength, bytes: undefined, filled: 0 }
    return undefined
  }

  rows(part: Uint8Array): StageFrameFault | undefined {
    const assembly = this.#assembly
    if (assembly === undefined) return undefined
    if (part.byteLength === assembly.byteLength) {
      this.#assembly = undefined
      assembly.take(part)
      return undefined
    }
    assembly.bytes ??= new Uint8Array(assembly.byteLength)
    assembly.bytes.set(part, assembly.filled)
    assembly.filled += part.byteLength
    if (assembly.filled === assembly.byteLength) {
      this.#assembly = undefined
      assembly.take(assembly.bytes)
    }
    return undefined
  }
}
