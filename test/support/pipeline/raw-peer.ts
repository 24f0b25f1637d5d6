/** A peer that speaks the stage protocol frame by frame, right or wrong as a test wants it. For unit tests. */
import type { ByteStream } from '#base'
import {
  encodeStageControl,
  encodeStageStart,
  encodeStageStepParts,
  PROTOCOLS,
  StageFrameReader,
  type StageMessage,
  type StageOpen,
  type StagePurpose,
  STEP_DTYPE_F32,
  type StepHeader,
} from '#wire'
import { embedding, WIDTH } from './fake-engines.ts'
import { LAYER_COUNT, MODEL, settle, type TestSwarm } from './memory-swarm.ts'

export const GENERATION = '11'.repeat(16)

/** One stream, with everything that came on it. */
export class RawStream {
  readonly stream: ByteStream
  readonly messages: StageMessage[] = []
  readonly headers: StepHeader[] = []
  credits = 0
  hasEnded = false

  constructor(stream: ByteStream) {
    this.stream = stream
    void this.#read()
  }

  async #read(): Promise<void> {
    const reader = new StageFrameReader({
      start: () => undefined,
      rows: () => undefined,
      message: message => void this.messages.push(message),
      step: header => void this.headers.push(header),
      credit: () => void this.credits++,
    })
    try {
      for await (const piece of this.stream.received) reader.push(piece)
    } catch {
      // A reset is one of the ends that tests look for.
    }
    this.hasEnded = true
  }

  send(message: StageMessage): void {
    this.stream.send(encodeStageControl(message))
  }

  /** Sends a step; by default the next token's row of generation GENERATION. */
  step(more: Partial<StepHeader> = {}, rows: Uint8Array = embedding(3)): void {
    const header: StepHeader = {
      kind: 'step',
      generation: GENERATION,
      step: 0,
      position: 0,
      count: rows.byteLength / WIDTH / 4,
      outputs: 1,
      dtype: STEP_DTYPE_F32,
      width: WIDTH,
      deadlineMs: 0,
      byteLength: rows.byteLength,
      ...more,
    }
    for (const frame of encodeStageStepParts(header, rows)) this.stream.send(frame)
  }

  /** The codes of all refusals and failures. */
  codes(): string[] {
    return this.messages.flatMap(message => ('code' in message ? [message.code] : []))
  }
}

/** Opens a stream from `from`, which need not be a node of the swarm. */
export async function rawStream(
  swarm: TestSwarm,
  ends: { readonly from: string; readonly to: string },
  purpose: StagePurpose | undefined,
): Promise<RawStream> {
  const options = { signal: new AbortController().signal, addresses: [] }
  const raw = new RawStream(await swarm.opener(ends.from)(ends.to, PROTOCOLS.stage, options))
  if (purpose !== undefined) raw.stream.send(encodeStageStart(purpose))
  await settle()
  return raw
}

/** An OPEN as an entry called `mallory` sends it for a model that one stage serves whole. */
export function openOf(more: Partial<StageOpen> = {}): StageOpen {
  return {
    kind: 'open',
    generation: GENERATION,
    model: MODEL,
    profile: 'fake',
    layers: { first: 0, last: LAYER_COUNT },
    predecessor: 'mallory',
    successor: { peer: 'mallory', addresses: [] },
    positionsMax: 64,
    deadlineMs: 60_000,
    ...more,
  }
}

/** Lets `mallory` be reached: collects the streams that others open to it. */
export function addRawNode(swarm: TestSwarm, peer = 'mallory'): RawStream[] {
  const streams: RawStream[] = []
  const accept = (stream: ByteStream): Promise<void> => {
    streams.push(new RawStream(stream))
    return Promise.resolve()
  }
  swarm.addPeer(peer, accept)
  return streams
}
