/**
 * Streams that we open: one for each peer and purpose, shared by all generations, opened when first needed and again
 * after a loss. What comes back on them (answers, credits, complaints) is handed to whoever owns the generation.
 *
 *     idle -> opening -> open
 *       ^--------'--------'     lost: its generations fail; the next one that needs the link opens it again
 */
import { type ByteStream, type CancelTimer, type Clock, codeOf, type Logger, StreamError, withDeadline } from '#base'
import {
  encodeStageControl,
  encodeStageStart,
  encodeStageStep,
  encodeStageStepParts,
  PROTOCOLS,
  STAGE_PART_BYTES_MAX,
  type StageMessage,
  type StagePurpose,
  type StepHeader,
} from '#wire'
import { protocolError } from './errors.ts'
import { FrameWriter } from './frame-writer.ts'
import { LINK_IDLE_MS_MAX, LINK_OPEN_MS_MAX, LINKS_MAX } from './limits.ts'
import { endStream, readFrames } from './read-frames.ts'
import type { OpenStream } from './types.ts'

export type LinkEvents = {
  message(peer: string, purpose: StagePurpose, message: StageMessage): void
  credit(peer: string, generation: string): void
  /** The stream ended. What was sent on it may not have arrived. */
  lost(peer: string, purpose: StagePurpose, error: unknown): void
}

export type LinksDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly openStream: OpenStream
  readonly events: LinkEvents
}

/** A stream to a peer as a generation holds it. */
export interface Link {
  readonly peer: string
  sendMessage(message: StageMessage): void
  /** One row goes out at once, as one write. `isWanted`: whether a step that still waits is worth sending. */
  sendStep(header: StepHeader, rows: Uint8Array, isWanted: () => boolean): void
  /** Gives the link back. Each holder once. */
  release(): void
}

type LinkState =
  | { readonly status: 'idle' }
  | { readonly status: 'opening'; readonly writer: FrameWriter; readonly opening: AbortController }
  | { readonly status: 'open'; readonly writer: FrameWriter; readonly stream: ByteStream }

type Entry = {
  readonly peer: string
  readonly purpose: StagePurpose
  addresses: readonly string[]
  state: LinkState
  holders: number
  /** Set while nobody holds the link. */
  cancelIdle: CancelTimer | undefined
}

export class Links {
  readonly #deps: LinksDeps
  readonly #entries = new Map<string, Entry>()
  readonly #tasks = new Set<Promise<void>>()
  #isStopped = false

  constructor(deps: LinksDeps) {
    this.#deps = deps
  }

  /** Takes a hold on the link to `peer`, which starts to open it. Undefined: there are too many links already. */
  acquire(peer: string, purpose: StagePurpose, addresses: readonly string[]): Link | undefined {
    const key = `${purpose} ${peer}`
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      if (this.#isStopped || (this.#entries.size >= LINKS_MAX && !this.#dropIdle())) return undefined
      entry = { peer, purpose, addresses, state: { status: 'idle' }, holders: 0, cancelIdle: undefined }
      this.#entries.set(key, entry)
    }
    entry.addresses = addresses
    entry.holders++
    entry.cancelIdle?.()
    entry.cancelIdle = undefined
    this.#writer(entry)
    return this.#hold(entry)
  }

  /** Ends every link to a peer, as when its connection is gone. Holders hear of it. */
  drop(peer: string, error: unknown): void {
    for (const entry of this.#entries.values()) if (entry.peer === peer) this.#lose(entry, error)
  }

  /** Closes every link; resolves when no task is left. Nobody is told. */
  async stop(): Promise<void> {
    this.#isStopped = true
    for (const [key, entry] of this.#entries) this.#close(key, entry)
    await Promise.all(this.#tasks)
  }

  #hold(entry: Entry): Link {
    let isHeld = true
    return {
      peer: entry.peer,
      sendMessage: message => this.#writer(entry).send(encodeStageControl(message)),
      sendStep: (header, rows, isWanted) => {
        const writer = this.#writer(entry)
        if (rows.byteLength <= STAGE_PART_BYTES_MAX) writer.send(encodeStageStep(header, rows))
        else writer.sendAll(encodeStageStepParts(header, rows), isWanted)
      },
      release: () => {
        if (!isHeld) return
        isHeld = false
        entry.holders--
        if (entry.holders === 0) this.#rest(entry)
      },
    }
  }

  #rest(entry: Entry): void {
    const key = `${entry.purpose} ${entry.peer}`
    if (entry.state.status === 'idle') {
      this.#entries.delete(key)
      return
    }
    entry.cancelIdle = this.#deps.clock.after(LINK_IDLE_MS_MAX, () => this.#close(key, entry))
  }

  #dropIdle(): boolean {
    for (const [key, entry] of this.#entries) {
      if (entry.holders > 0) continue
      this.#close(key, entry)
      return true
    }
    return false
  }

  #close(key: string, entry: Entry): void {
    this.#entries.delete(key)
    entry.cancelIdle?.()
    const { state } = entry
    entry.state = { status: 'idle' }
    if (state.status === 'opening') state.opening.abort(new Error('the link is not needed any more'))
    if (state.status !== 'open') return
    state.writer.end()
    this.#own(endStream(this.#deps.clock, state.stream))
  }

  /** Keeps a task that never rejects until it is done, so that `stop` can wait for it. */
  #own(task: Promise<void>): void {
    const owned = task.finally(() => this.#tasks.delete(owned))
    this.#tasks.add(owned)
  }

  /** The way to write on this link, which may have to open first. */
  #writer(entry: Entry): FrameWriter {
    if (entry.state.status !== 'idle') return entry.state.writer
    const writer = new FrameWriter(this.#deps.clock, error => this.#lose(entry, error))
    writer.send(encodeStageStart(entry.purpose))
    if (this.#isStopped) return writer
    const opening = new AbortController()
    entry.state = { status: 'opening', writer, opening }
    this.#own(this.#run(entry, writer, opening.signal))
    return writer
  }

  /** Opens the stream and reads it to its end. Never rejects. */
  async #run(entry: Entry, writer: FrameWriter, signal: AbortSignal): Promise<void> {
    const { clock, openStream } = this.#deps
    const { peer, purpose } = entry
    const isOurs = (): boolean => entry.state.status !== 'idle' && entry.state.writer === writer
    try {
      const options = { what: `opening a stream to ${peer}`, timeoutMs: LINK_OPEN_MS_MAX, signal }
      const stream = await withDeadline(clock, options, async signal => {
        const stream = await openStream(peer, PROTOCOLS.stage, { signal, addresses: entry.addresses })
        // The deadline may have passed while the stream was being made: nobody would ever end it.
        if (signal.aborted) stream.abort(new Error('opened too late'))
        return stream
      })
      if (!isOurs()) {
        stream.abort(new Error('the link is not needed any more'))
        return
      }
      entry.state = { status: 'open', writer, stream }
      writer.attach(stream)
      await this.#read(entry, stream)
      throw new StreamError({ code: 'STREAM_CLOSED' }, 'the other side closed the stream')
    } catch (error) {
      if (isOurs()) this.#lose(entry, error)
      else this.#deps.log.debug('a link ended', { peer, purpose, code: codeOf(error) })
    }
  }

  async #read(entry: Entry, stream: ByteStream): Promise<void> {
    const { events } = this.#deps
    const { peer, purpose } = entry
    const unexpected = { code: 'WIRE_STAGE_FRAME', what: 'a frame that has no place on an answering stream' } as const
    const fault = await readFrames(stream, {
      start: () => unexpected,
      step: () => unexpected,
      rows: () => unexpected,
      message: message => {
        events.message(peer, purpose, message)
        return undefined
      },
      credit: generation => {
        events.credit(peer, generation)
        return undefined
      },
    })
    if (fault !== undefined) throw protocolError(peer, fault.what)
  }

  #lose(entry: Entry, error: unknown): void {
    const { state, peer, purpose } = entry
    if (state.status === 'idle') return
    entry.state = { status: 'idle' }
    state.writer.end()
    const reason = error instanceof Error ? error : new Error(String(error))
    if (state.status === 'open') state.stream.abort(reason)
    else state.opening.abort(reason)
    if (entry.holders === 0) {
      entry.cancelIdle?.()
      this.#entries.delete(`${purpose} ${peer}`)
      return
    }
    // What needed the link fails with an error of its own; a peer that stops is nothing to warn of.
    this.#deps.log.info('a link was lost', { peer, purpose, code: codeOf(error) })
    this.#deps.events.lost(peer, purpose, error)
  }
}
