/**
 * The entry role: opens a generation on every stage of its route, feeds the first stage, takes rows from the last one,
 * and lets the edge engine choose tokens. Whatever ends a generation, every stage is told at once.
 */
import {
  abortable,
  abortError,
  type CancelTimer,
  type Clock,
  type Logger,
  messageOf,
  type Random,
  sleep,
  toHex,
  uniform,
} from '#base'
import type { EdgeEngine, NextToken } from '#engine'
import {
  type GenerationStatus,
  PEER_ADDRESSES_MAX,
  STAGE_CHUNK_ROWS_MAX,
  STAGE_POSITIONS_MAX,
  type StageMessage,
  type StagePurpose,
  type StepHeader,
} from '#wire'
import { EntryGeneration } from './entry-generation.ts'
import { fromReport, lostError, PipelineError, stoppedError } from './errors.ts'
import {
  BUSY_RETRY_MS_MAX,
  BUSY_RETRY_MS_MIN,
  CLOSE_MS_MAX,
  ENDED_GENERATIONS_MAX,
  ENTRY_GENERATIONS_MAX,
  ROUTE_HOPS_MAX,
} from './limits.ts'
import type { Link, Links } from './links.ts'
import { EndedGenerations, type Session, type Taking } from './session.ts'
import type { Entry, GenerateRequest, GenerationEvent } from './types.ts'

export type EntryRoleDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly self: string
  readonly selfAddresses: () => readonly string[]
  readonly links: Links
  readonly edge: EdgeEngine | undefined
}

export type EntryRoleOptions = {
  readonly decodeTimeoutMs: number
  readonly prefillTimeoutMs: number
  readonly deadlineMs: number
  readonly openTimeoutMs: number
}

/** A generation and what this node holds for it. */
type Held = {
  readonly generation: EntryGeneration
  /** Control streams, by peer; data streams to the first stage. */
  readonly controls: ReadonlyMap<string, Link>
  readonly decode: Link
  readonly prefill: Link
  /** Ends the waits of the engine that this generation is in. */
  readonly ended: AbortController
  /** Set while stages are asked to forget it. */
  cancelClose: CancelTimer | undefined
}

export class EntryRole implements Entry {
  readonly #deps: EntryRoleDeps
  readonly #options: EntryRoleOptions
  readonly #held = new Map<string, Held>()
  readonly #endedIds = new EndedGenerations(ENDED_GENERATIONS_MAX)
  #isStopped = false

  constructor(deps: EntryRoleDeps, options: EntryRoleOptions) {
    this.#deps = deps
    this.#options = options
  }

  generations(): readonly GenerationStatus[] {
    const now = this.#deps.clock.monotonic()
    return [...this.#held.values()]
      .filter(held => held.generation.isLive)
      .map(({ generation }) => ({
        generation: generation.id,
        role: 'entry',
        model: generation.model,
        ageMs: now - generation.openedAt,
        positions: generation.positions,
        positionsMax: generation.positionsMax,
        route: generation.route.map(({ peer, layers }) => ({ peer, layers })),
      }))
  }

  async *generate(
    request: GenerateRequest,
    options: { readonly signal: AbortSignal },
  ): AsyncGenerator<GenerationEvent> {
    const { signal } = options
    const { edge } = this.#deps
    if (edge === undefined) throw new PipelineError({ code: 'PIPELINE_NO_EDGE' }, 'no prompt can enter at this node')
    checkRequest(request)
    const deadlineAt = this.#deps.clock.monotonic() + this.#options.deadlineMs
    const held = await this.#openRoute(request, { signal, deadlineAt })
    const unwatch = this.#watch(held, { signal, deadlineAt })
    try {
      yield { kind: 'opened', generation: held.generation.id }
      yield* this.#tokens(edge, held, request)
    } finally {
      unwatch()
      this.#end(held, undefined)
    }
  }

  /** The header of a result came. */
  begin(session: Session, header: StepHeader): Taking {
    const held = this.#held.get(header.generation)
    if (held === undefined || !held.generation.isLast(session.peer)) {
      return { kind: this.#endedIds.has(header.generation) ? 'skip' : 'stray' }
    }
    const { generation } = held
    if (!generation.isLive) return { kind: 'skip' }
    const what = generation.resultComes(header)
    if (what !== undefined) {
      const { peer } = session
      const message = `stage ${peer} sent a result that was not asked for: ${what}`
      this.#end(held, new PipelineError({ code: 'PIPELINE_RESULT', peer, what }, message))
      return { kind: 'skip' }
    }
    return {
      kind: 'take',
      take: rows => generation.resultCame(rows),
      lost: () => this.#end(held, lostError(session.peer, 'a result broke off')),
    }
  }

  /** An answer or a complaint came on a stream that we opened. */
  message(peer: string, purpose: StagePurpose, message: StageMessage): void {
    const held = this.#held.get(message.generation)
    if (held === undefined) return
    const { generation } = held
    if (purpose === 'control' ? !generation.hasPeer(peer) : !generation.isFirst(peer)) return
    switch (message.kind) {
      case 'opened':
        generation.opened(peer)
        return
      case 'closed':
        generation.closed(peer)
        if (generation.hasEnded) this.#letGo(held)
        return
      case 'refused':
      case 'failed':
        this.#end(held, fromReport(peer, message))
        return
      case 'open':
      case 'cancel':
        this.#deps.log.debug('a message that no stage sends', { peer, kind: message.kind })
    }
  }

  credit(peer: string, id: string): void {
    const generation = this.#held.get(id)?.generation
    if (generation?.isFirst(peer) === true) generation.credited()
  }

  linkLost(peer: string, purpose: StagePurpose, error: unknown): void {
    for (const held of this.#held.values()) {
      const { generation } = held
      if (purpose === 'control' ? generation.hasPeer(peer) : generation.isFirst(peer)) {
        this.#lost(held, peer, { error, isGone: purpose === 'control' })
      }
    }
  }

  peerLeft(peer: string): void {
    for (const held of this.#held.values()) {
      if (held.generation.hasPeer(peer)) this.#lost(held, peer, { error: undefined, isGone: true })
    }
  }

  /** Ends every generation; the stages are told as long as there are streams. */
  stop(): void {
    this.#isStopped = true
    for (const held of this.#held.values()) {
      this.#end(held, stoppedError())
      this.#letGo(held)
    }
  }

  async *#tokens(edge: EdgeEngine, held: Held, request: GenerateRequest): AsyncGenerator<GenerationEvent> {
    const { generation, ended } = held
    const { prompt, sampling, tokensMax, topLogprobs, logits, ignoreEnd } = request
    const sampler = await edge.openSampler(sampling, prompt)
    try {
      let row = await this.#prefill(edge, held, prompt)
      const nextOptions = {
        ...(topLogprobs === undefined ? {} : { topLogprobs }),
        ...(logits === undefined ? {} : { logits }),
      }
      for (let count = 1; ; count++) {
        // It settles within one compute, whatever ends the generation: that is soon enough to look.
        const next: NextToken = await edge.next(sampler, row, nextOptions)
        if (ended.signal.aborted) throw abortError(ended.signal)
        const isOver = count === tokensMax || (next.isEnd && ignoreEnd !== true)
        // The route computes the next step while the caller reads this token.
        if (!isOver && generation.isRunning) this.#decode(held, next.row)
        yield { kind: 'token', next }
        if (isOver) return
        row = await this.#until(held, this.#options.decodeTimeoutMs, () => generation.takeResult())
      }
    } finally {
      edge.closeSampler(sampler).catch((error: unknown) => {
        this.#deps.log.debug('a sampler could not be closed', { reason: messageOf(error) })
      })
    }
  }

  /** @returns the row from which the first token is chosen */
  async #prefill(edge: EdgeEngine, held: Held, prompt: Int32Array): Promise<Uint8Array> {
    const { generation, prefill, ended } = held
    const { prefillTimeoutMs } = this.#options
    for (let start = 0; start < prompt.length; start += STAGE_CHUNK_ROWS_MAX) {
      const tokens = prompt.subarray(start, start + STAGE_CHUNK_ROWS_MAX)
      const rows = await abortable(edge.embed(tokens), ended.signal)
      await this.#until(held, prefillTimeoutMs, () => (generation.hasCredit ? true : undefined))
      const outputs = start + tokens.length === prompt.length ? 1 : 0
      const header = generation.askChunk({ count: tokens.length, outputs, deadlineMs: prefillTimeoutMs })
      checkRows(rows, header)
      prefill.sendStep(header, rows, () => generation.isLive)
    }
    for (;;) {
      const result = await this.#until(held, prefillTimeoutMs, () => generation.takeResult())
      if (result.byteLength > 0) return result
    }
  }

  #decode(held: Held, row: Uint8Array): void {
    const { generation, decode } = held
    const header = generation.ask({ count: 1, outputs: 1, deadlineMs: this.#options.decodeTimeoutMs })
    checkRows(row, header)
    decode.sendStep(header, row, () => generation.isLive)
  }

  /** Waits until `pick` gives something. Throws why the generation ended, if it does; ends it after `timeoutMs`. */
  async #until<T>(held: Held, timeoutMs: number, pick: () => T | undefined): Promise<T> {
    const { generation } = held
    const cancel = this.#deps.clock.after(timeoutMs, () => {
      const message = `the route did not answer within ${timeoutMs} ms`
      this.#end(held, new PipelineError({ code: 'PIPELINE_STEP_TIMEOUT', timeoutMs }, message))
    })
    try {
      for (;;) {
        if (generation.error !== undefined) throw generation.error
        const picked = pick()
        if (picked !== undefined) return picked
        await generation.changed()
      }
    } finally {
      cancel()
    }
  }

  /** Finds a slot on every stage; asks again while one of them is busy. */
  async #openRoute(
    request: GenerateRequest,
    options: { readonly signal: AbortSignal; readonly deadlineAt: number },
  ): Promise<Held> {
    const { clock, random } = this.#deps
    const { signal } = options
    const giveUpAt = clock.monotonic() + this.#options.openTimeoutMs
    for (;;) {
      if (signal.aborted) throw abortError(signal)
      const held = this.#begin(request, options.deadlineAt)
      const unwatch = this.#watch(held, options)
      try {
        const timeoutMs = Math.max(1, giveUpAt - clock.monotonic())
        await this.#until(held, timeoutMs, () => (held.generation.isRunning ? true : undefined))
        return held
      } catch (error) {
        // Slots that others gave us are given back first: two entries that each hold half a route would wait for ever.
        this.#end(held, undefined)
        const retryMs = busyRetryMs(error)
        if (retryMs === undefined || clock.monotonic() + retryMs >= giveUpAt) throw error
        await sleep(clock, retryMs * (1 + uniform(random)), { signal })
      } finally {
        unwatch()
      }
    }
  }

  /** Asks every stage for a slot. */
  #begin(request: GenerateRequest, deadlineAt: number): Held {
    const { clock, random, self, selfAddresses, links } = this.#deps
    if (this.#isStopped) throw stoppedError()
    const { route, model, width } = request
    const first = route[0]
    if (first === undefined || this.#held.size >= ENTRY_GENERATIONS_MAX) throw tooMany(self)
    const acquired: Link[] = []
    const acquire = (hop: { peer: string; addresses: readonly string[] }, purpose: StagePurpose): Link => {
      const link = links.acquire(hop.peer, purpose, hop.addresses)
      if (link === undefined) {
        for (const other of acquired) other.release()
        throw tooMany(self)
      }
      acquired.push(link)
      return link
    }
    const openedAt = clock.monotonic()
    const positionsMax = request.prompt.length + request.tokensMax
    const id = toHex(random.bytes(16))
    const held: Held = {
      generation: new EntryGeneration({ id, model, width, route, positionsMax, openedAt }),
      controls: new Map(route.map(hop => [hop.peer, acquire(hop, 'control')])),
      decode: acquire(first, 'decode'),
      prefill: acquire(first, 'prefill'),
      ended: new AbortController(),
      cancelClose: undefined,
    }
    this.#held.set(id, held)
    const entry = { peer: self, addresses: selfAddresses().slice(0, PEER_ADDRESSES_MAX) }
    for (const [i, hop] of route.entries()) {
      const next = route[i + 1]
      const successor = next ?? entry
      held.controls.get(hop.peer)?.sendMessage({
        kind: 'open',
        generation: id,
        model,
        profile: hop.profile,
        layers: hop.layers,
        predecessor: route[i - 1]?.peer ?? self,
        successor: { peer: successor.peer, addresses: successor.addresses.slice(0, PEER_ADDRESSES_MAX) },
        positionsMax,
        deadlineMs: Math.max(1, Math.ceil(deadlineAt - openedAt)),
      })
    }
    return held
  }

  /** Ends the generation when its caller leaves or its time is up. @returns how to stop watching */
  #watch(held: Held, options: { readonly signal: AbortSignal; readonly deadlineAt: number }): () => void {
    const { signal, deadlineAt } = options
    const { deadlineMs } = this.#options
    const onAbort = (): void => this.#end(held, abortError(signal))
    const cancel = this.#deps.clock.after(Math.max(0, deadlineAt - this.#deps.clock.monotonic()), () => {
      const message = `the generation did not end within ${deadlineMs} ms`
      this.#end(held, new PipelineError({ code: 'PIPELINE_DEADLINE', deadlineMs }, message))
    })
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    return () => {
      cancel()
      signal.removeEventListener('abort', onAbort)
    }
  }

  #lost(held: Held, peer: string, facts: { readonly error: unknown; readonly isGone: boolean }): void {
    this.#end(held, lostError(peer, facts.error), facts.isGone ? peer : undefined)
    if (!facts.isGone) return
    // Its rows went with the control stream: nobody will say so.
    held.generation.closed(peer)
    if (held.generation.hasEnded) this.#letGo(held)
  }

  /** Ends a generation, for the first reason that is given, and tells every stage at once, but for one that is gone. */
  #end(held: Held, error: Error | undefined, gone?: string): void {
    const { generation, controls, ended } = held
    const peers = generation.end(error)
    if (peers === undefined) return
    this.#endedIds.add(generation.id)
    ended.abort(error)
    for (const peer of peers) {
      if (peer !== gone) controls.get(peer)?.sendMessage({ kind: 'cancel', generation: generation.id })
    }
    held.cancelClose = this.#deps.clock.after(CLOSE_MS_MAX, () => this.#letGo(held))
  }

  #letGo(held: Held): void {
    const { generation, controls, decode, prefill } = held
    if (!this.#held.delete(generation.id)) return
    held.cancelClose?.()
    generation.abandon()
    for (const link of [...controls.values(), decode, prefill]) link.release()
  }
}

function busyRetryMs(error: unknown): number | undefined {
  if (!(error instanceof PipelineError) || error.fault.code !== 'STAGE_BUSY') return undefined
  return Math.min(Math.max(error.fault.retryAfterMs ?? BUSY_RETRY_MS_MIN, BUSY_RETRY_MS_MIN), BUSY_RETRY_MS_MAX)
}

function tooMany(self: string): PipelineError {
  return new PipelineError({ code: 'STAGE_BUSY', peer: self }, 'too many generations are under way at this node')
}

/** Rows of our own edge engine that do not fit the request are a mistake in it, found before a peer finds it. */
function checkRows(rows: Uint8Array, header: StepHeader): void {
  if (rows.byteLength === header.byteLength) return
  const what = `${header.count} rows of width ${header.width} were wanted, the edge engine gave ${rows.byteLength} bytes`
  throw new PipelineError({ code: 'PIPELINE_REQUEST', what }, what)
}

/** @throws PipelineError where the request cannot be run as it is */
function checkRequest(request: GenerateRequest): void {
  const what = problemOf(request)
  if (what !== undefined) throw new PipelineError({ code: 'PIPELINE_REQUEST', what }, `the request cannot run: ${what}`)
}

function problemOf({ route, prompt, tokensMax, model }: GenerateRequest): string | undefined {
  if (!/^[0-9a-f]{64}$/.test(model)) return 'the model id is not 64 hexadecimal digits'
  if (prompt.length === 0) return 'the prompt is empty'
  if (!Number.isSafeInteger(tokensMax) || tokensMax < 1) return 'at least one token must be asked for'
  if (prompt.length + tokensMax > STAGE_POSITIONS_MAX) return `more than ${STAGE_POSITIONS_MAX} positions`
  if (route.length === 0 || route.length > ROUTE_HOPS_MAX) return `a route of ${route.length} stages`
  if (new Set(route.map(hop => hop.peer)).size < route.length) return 'the route passes a stage twice'
  let next = 0
  for (const { layers } of route) {
    if (layers.first !== next || layers.last <= layers.first) return `no stage of the route continues at layer ${next}`
    next = layers.last
  }
  return undefined
}
