/**
 * The stage role: gives slots to entries, computes steps, sends rows on. Everything that a peer can get wrong is
 * answered with a fault and costs at most its own generation.
 */
import { type CancelTimer, type Clock, containsLayers, formatLayers, type Logger } from '#base'
import type { StageEngine } from '#engine'
import {
  type GenerationStatus,
  STAGE_SENTENCE_CHARS_MAX,
  type StageMessage,
  type StageOpen,
  type StepHeader,
} from '#wire'
import { ComputeQueue, type ComputeTask } from './compute-queue.ts'
import { type StageCode, type StageFault, toStageFault } from './errors.ts'
import { BUSY_RETRY_MS_MAX, BUSY_RETRY_MS_MIN, ENDED_GENERATIONS_MAX } from './limits.ts'
import type { Link, Links } from './links.ts'
import { EndedGenerations, type Session, type Taking } from './session.ts'
import { Slots } from './slots.ts'
import { StageGeneration, type StepOutput, type StepPurpose } from './stage-generation.ts'
import type { ServedStage, StageServer } from './types.ts'

export type StageRoleDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly self: string
  readonly links: Links
  /** Undefined: this node serves no stage. */
  readonly stage: { readonly engine: StageEngine; readonly served: () => ServedStage | undefined } | undefined
}

/** A generation and what this node holds for it. */
type Held = {
  readonly generation: StageGeneration
  /** The control stream of its entry. The generation ends with it. */
  readonly session: Session
  readonly decode: Link
  readonly prefill: Link
  readonly cancelDeadline: CancelTimer
  /** Whether the entry waits to hear that the rows are gone. */
  isCancelled: boolean
}

type Refusal = StageFault & { readonly code: StageCode; readonly retryAfterMs?: number }

export class StageRole implements StageServer {
  readonly #deps: StageRoleDeps
  readonly #options: { readonly generationsPerEntryMax: number }
  readonly #held = new Map<string, Held>()
  readonly #ended = new EndedGenerations(ENDED_GENERATIONS_MAX)
  readonly #slots = new Slots()
  readonly #queue = new ComputeQueue(task => this.#compute(task))
  readonly #tasks = new Set<Promise<void>>()
  readonly #onEmpty: (() => void)[] = []
  #isDraining = false
  #isStopped = false

  constructor(deps: StageRoleDeps, options: { readonly generationsPerEntryMax: number }) {
    this.#deps = deps
    this.#options = options
    deps.stage?.engine.onCrash(reason => this.#crashed(reason))
  }

  generations(): readonly GenerationStatus[] {
    const now = this.#deps.clock.monotonic()
    return [...this.#held.values()].map(({ generation }) => ({
      generation: generation.id,
      role: 'stage',
      model: generation.model,
      ageMs: now - generation.openedAt,
      positions: generation.positions,
      positionsMax: generation.positionsMax,
      layers: generation.layers,
      slot: generation.slot,
      entry: generation.entry,
    }))
  }

  get isDraining(): boolean {
    return this.#isDraining
  }

  openCount(): number {
    return [...this.#all()].length
  }

  slotsFree(): number {
    const served = this.#deps.stage?.served()
    if (served === undefined) return 0
    this.#slots.resize(served.slots)
    return this.#slots.freeCount
  }

  /** A control message came from `session.peer`. */
  control(session: Session, message: StageMessage): void {
    if (message.kind === 'open') this.#open(session, message)
    else if (message.kind === 'cancel') this.#cancel(session, message.generation)
    else this.#deps.log.debug('a message that no entry sends', { peer: session.peer, kind: message.kind })
  }

  /** The header of a step came. Decides before any memory is spent on its rows. */
  begin(session: Session, header: StepHeader, purpose: StepPurpose): Taking {
    const held = this.#held.get(header.generation)
    if (held === undefined || !held.generation.isOpen) {
      if (held !== undefined || this.#ended.has(header.generation)) return { kind: 'skip' }
      session.send(
        toFailed(header.generation, { code: 'STAGE_GENERATION_UNKNOWN', message: 'no such generation is open here' }),
      )
      return { kind: 'stray' }
    }
    const { generation } = held
    if (generation.predecessor !== session.peer) {
      session.send(
        toFailed(header.generation, {
          code: 'STAGE_NOT_PREDECESSOR',
          message: 'steps of this generation come from another',
        }),
      )
      return { kind: 'stray' }
    }
    const arrival = generation.arrive(header, purpose, this.#deps.clock.monotonic())
    if (arrival.kind === 'fault') this.#fail(held, { ...arrival.fault, peer: session.peer })
    if (arrival.kind === 'again') this.#forward(held, arrival.output)
    if (arrival.kind !== 'take') return { kind: 'skip' }
    const { step } = arrival
    return {
      kind: 'take',
      take: rows => {
        if (generation.isOpen) this.#queue.push({ generation, step, rows, session })
      },
      lost: () => this.#lost(held, session.peer),
    }
  }

  /** The next stage has computed a chunk of ours. */
  credit(peer: string, id: string): void {
    const held = this.#held.get(id)
    if (held === undefined || held.generation.successor !== peer) return
    const output = held.generation.credited()
    if (output !== undefined) this.#forward(held, output)
    this.#queue.kick()
  }

  /** The next stage cannot take what we sent. */
  complaint(peer: string, message: StageMessage): void {
    const held = this.#held.get(message.generation)
    if (message.kind !== 'failed' || held === undefined || held.generation.successor !== peer) return
    this.#fail(held, { code: message.code, message: message.message, peer: message.peer ?? peer })
  }

  /** A stream to a peer was lost: what we sent on it may not have arrived. */
  linkLost(peer: string): void {
    for (const held of this.#all()) if (held.generation.successor === peer) this.#lost(held, peer)
  }

  /** An entry's control stream ended: nobody is left to answer to. */
  sessionEnded(session: Session): void {
    for (const held of this.#all()) if (held.session === session) this.#close(held)
  }

  peerLeft(peer: string): void {
    for (const held of this.#all()) {
      const { generation } = held
      if (generation.entry === peer) this.#close(held)
      else if (generation.predecessor === peer || generation.successor === peer) this.#lost(held, peer)
    }
  }

  async evict(why: string): Promise<void> {
    for (const held of this.#all()) this.#fail(held, { code: 'STAGE_STOPPED', message: why })
    await Promise.all(this.#tasks)
  }

  /**
   * Refuses what others open from now on: they try another route. Our own requests go on until the node stops.
   * Resolves when nothing is open, or the time is up.
   */
  async drain(options: { readonly timeoutMs: number }): Promise<void> {
    this.#isDraining = true
    if (this.#held.size === 0) return
    await new Promise<void>(resolve => {
      const cancel = this.#deps.clock.after(options.timeoutMs, resolve)
      this.#onEmpty.push(() => {
        cancel()
        resolve()
      })
    })
  }

  /** Fails every generation and waits until their slots are empty. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.evict('the node is stopping')
  }

  *#all(): Generator<Held> {
    for (const held of this.#held.values()) if (held.generation.isOpen) yield held
  }

  #open(session: Session, open: StageOpen): void {
    const served = this.#deps.stage?.served()
    const refusal = this.#check(session.peer, open, served)
    if (refusal !== undefined || served === undefined) {
      const { code, message, retryAfterMs } = refusal ?? noModel
      session.send({ kind: 'refused', generation: open.generation, code, message, retryAfterMs })
      return
    }
    const slot = this.#slots.take()
    if (slot === undefined) {
      this.#refuseBusy(session, open.generation)
      return
    }
    const { peer, addresses } = open.successor
    const decode = this.#deps.links.acquire(peer, 'decode', addresses)
    const isLast = open.layers.last === served.layerCount
    // The entry gets results on the decode stream only: they are a row at most for each chunk.
    const prefill = isLast ? decode : this.#deps.links.acquire(peer, 'prefill', addresses)
    if (decode === undefined || prefill === undefined) {
      decode?.release()
      this.#slots.settled(this.#slots.release(slot), true)
      this.#refuseBusy(session, open.generation)
      return
    }
    const openedAt = this.#deps.clock.monotonic()
    const facts = { open, entry: session.peer, slot, width: served.width, isLast, openedAt }
    const held: Held = {
      generation: new StageGeneration(facts),
      session,
      decode,
      prefill,
      cancelDeadline: this.#deps.clock.after(open.deadlineMs, () => {
        if (held.generation.isOpen)
          this.#fail(held, { code: 'STAGE_DEADLINE', message: 'the time of the generation is up' })
      }),
      isCancelled: false,
    }
    this.#held.set(open.generation, held)
    session.send({ kind: 'opened', generation: open.generation })
  }

  /** Why a generation cannot be opened here, other than for want of a slot. */
  #check(entry: string, open: StageOpen, served: ServedStage | undefined): Refusal | undefined {
    const { layers, predecessor, successor } = open
    if (this.#isStopped || (this.#isDraining && entry !== this.#deps.self)) {
      return { code: 'STAGE_STOPPED', message: 'the node is stopping' }
    }
    if (served === undefined || served.model !== open.model) return noModel
    this.#slots.resize(served.slots)
    if (!containsLayers(served.layers, layers)) {
      const message = `layers ${formatLayers(layers)} were asked for, ${formatLayers(served.layers)} are here`
      return { code: 'STAGE_LAYERS', message }
    }
    if (open.profile !== '' && open.profile !== served.profile) {
      return { code: 'STAGE_PROFILE', message: `the numeric profile here is ${served.profile}` }
    }
    const isFirst = layers.first === 0
    const isLast = layers.last === served.layerCount
    const isRing = isLast ? successor.peer === entry : successor.peer !== this.#deps.self
    if ((isFirst && predecessor !== entry) || !isRing) {
      return { code: 'STAGE_ROUTE', message: 'a route begins and ends at its entry and passes a stage once' }
    }
    if (open.positionsMax > served.contextMax) {
      return {
        code: 'STAGE_CONTEXT',
        message: `${open.positionsMax} positions were asked for, ${served.contextMax} fit`,
      }
    }
    if (this.#held.has(open.generation)) {
      return { code: 'STAGE_GENERATION_EXISTS', message: 'this generation is open already' }
    }
    const count = [...this.#all()].filter(held => held.generation.entry === entry).length
    if (count >= this.#options.generationsPerEntryMax) {
      return {
        code: 'STAGE_QUOTA',
        message: `one entry may hold ${this.#options.generationsPerEntryMax} generations here`,
      }
    }
    const state = this.#deps.stage?.engine.status().state
    if (state === 'ready') return undefined
    return { code: 'STAGE_BUSY', message: `the engine is ${state}`, retryAfterMs: BUSY_RETRY_MS_MAX }
  }

  #refuseBusy(session: Session, generation: string): void {
    const dirty = this.#slots.dirty()
    if (dirty !== undefined) this.#own(this.#zero(dirty))
    const retryAfterMs = this.#slots.isReleasing ? BUSY_RETRY_MS_MIN : BUSY_RETRY_MS_MAX / 4
    session.send({ kind: 'refused', generation, code: 'STAGE_BUSY', message: 'every slot is taken', retryAfterMs })
  }

  #cancel(session: Session, id: string): void {
    const held = this.#held.get(id)
    if (held === undefined) {
      session.send({ kind: 'closed', generation: id })
      return
    }
    if (held.generation.entry !== session.peer) {
      session.send(toFailed(id, { code: 'STAGE_NOT_ENTRY', message: 'only its entry may end a generation' }))
      return
    }
    held.isCancelled = true
    if (held.generation.isOpen) this.#close(held)
  }

  async #compute(task: ComputeTask): Promise<void> {
    const { generation, step, rows, session } = task
    const held = this.#held.get(generation.id)
    const { clock, stage } = this.#deps
    if (held === undefined || stage === undefined || !generation.isOpen) return
    if (step.deadlineAt !== undefined && clock.monotonic() > step.deadlineAt) {
      this.#fail(held, { code: 'STAGE_DEADLINE', message: `the time of step ${step.header.step} was up before it ran` })
      return
    }
    const { slot, layers } = generation
    const { position, count } = step.header
    const outputs = generation.outputsOf(step.header)
    try {
      const result = await stage.engine.step({ slot, layers, position, count, outputs, rows })
      if (generation.isOpen) {
        const output = generation.finished(step, result, clock.monotonic())
        if (output !== undefined) this.#forward(held, output)
        if (step.purpose === 'prefill') session.credit(generation.id, step.header.step)
      }
    } catch (error) {
      if (generation.isOpen) this.#fail(held, toStageFault(error))
    }
    // It was ended while it ran: only now can nothing write to its slot any more.
    if (generation.isClosing) this.#own(this.#release(held))
  }

  #forward(held: Held, output: StepOutput): void {
    const link = output.purpose === 'decode' ? held.decode : held.prefill
    link.sendStep(output.header, output.rows, () => held.generation.isOpen)
  }

  #lost(held: Held, peer: string): void {
    if (!held.generation.isOpen) return
    this.#fail(held, { code: 'STAGE_LOST', message: `the connection to ${peer} was lost`, peer })
  }

  /** Ends a generation by an error of it, and tells its entry. */
  #fail(held: Held, fault: StageFault): void {
    const { generation, session } = held
    this.#deps.log.info('a generation failed', { generation: generation.id, code: fault.code, message: fault.message })
    session.send(toFailed(generation.id, fault))
    this.#close(held)
  }

  #close(held: Held): void {
    const { generation } = held
    generation.close()
    this.#letGo(held)
    if (!this.#queue.isRunning(generation)) this.#own(this.#release(held))
  }

  /** Gives back everything but the slot. */
  #letGo(held: Held): void {
    held.cancelDeadline()
    this.#queue.drop(held.generation)
    held.decode.release()
    if (held.prefill !== held.decode) held.prefill.release()
    this.#ended.add(held.generation.id)
  }

  async #release(held: Held): Promise<void> {
    await this.#zero(held.generation.slot)
    if (held.generation.isClosing) this.#forget(held)
  }

  #forget(held: Held): void {
    held.generation.closed()
    this.#held.delete(held.generation.id)
    if (this.#held.size === 0) for (const tell of this.#onEmpty.splice(0)) tell()
    if (held.isCancelled) held.session.send({ kind: 'closed', generation: held.generation.id })
  }

  /** Zeroes a slot. Where that fails the slot stays out of use until a later try, or a crash, has emptied it. */
  async #zero(slot: number): Promise<void> {
    const release = this.#slots.release(slot)
    try {
      await this.#deps.stage?.engine.release(slot)
      this.#slots.settled(release, true)
    } catch (error) {
      this.#deps.log.warn('a slot could not be zeroed', { slot, reason: toStageFault(error).message })
      this.#slots.settled(release, false)
    }
  }

  /** The engine's process ended: its slots are gone, whatever they held. */
  #crashed(reason: string): void {
    const message = `the engine ended: ${reason}`
    for (const held of this.#held.values()) {
      const { generation } = held
      if (generation.isOpen) {
        held.session.send(toFailed(generation.id, { code: 'ENGINE_CRASHED', message }))
        generation.close()
        this.#letGo(held)
      }
      this.#forget(held)
    }
    this.#slots.reset()
  }

  #own(task: Promise<void>): void {
    const owned = task.finally(() => this.#tasks.delete(owned))
    this.#tasks.add(owned)
  }
}

const noModel: Refusal = { code: 'STAGE_MODEL', message: 'this model is not served here' }

function toFailed(generation: string, fault: StageFault): StageMessage {
  const message = fault.message.slice(0, STAGE_SENTENCE_CHARS_MAX)
  return { kind: 'failed', generation, code: fault.code, message, peer: fault.peer }
}
