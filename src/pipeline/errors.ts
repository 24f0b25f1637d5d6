/** What can go wrong with a generation: one union of faults for both roles, entry and stage. */
import { codeOf, KoinonError, messageOf } from '#base'
import type { StageFailed, StageRefused } from '#wire'

export type PipelineFault =
  /** The request cannot be run as it is: an empty prompt, a route with a hole. */
  | { readonly code: 'PIPELINE_REQUEST'; readonly what: string }
  /** This node has no edge engine: nothing can enter here. */
  | { readonly code: 'PIPELINE_NO_EDGE' }
  | { readonly code: 'PIPELINE_STOPPED' }
  /** No result of a step came in time. */
  | { readonly code: 'PIPELINE_STEP_TIMEOUT'; readonly timeoutMs: number }
  /** The generation lived longer than it may. */
  | { readonly code: 'PIPELINE_DEADLINE'; readonly deadlineMs: number }
  /** The last stage of the route sent a result that does not fit what was asked. */
  | { readonly code: 'PIPELINE_RESULT'; readonly peer: string; readonly what: string }
  /** A peer broke the protocol: it loses the stream. */
  | { readonly code: 'PIPELINE_PROTOCOL'; readonly peer: string; readonly what: string }
  /** A stage could not do its part. `peer`: whom it is about; `reported`: its own code where that is not ours. */
  | StageFailure

type StageFailure = {
  readonly code:
    | 'STAGE_BUSY'
    | 'STAGE_CONTEXT'
    | 'STAGE_DEADLINE'
    | 'STAGE_FAILED'
    | 'STAGE_FLOW'
    | 'STAGE_GENERATION_EXISTS'
    | 'STAGE_GENERATION_UNKNOWN'
    | 'STAGE_LAYERS'
    | 'STAGE_LOST'
    | 'STAGE_MODEL'
    | 'STAGE_NOT_ENTRY'
    | 'STAGE_NOT_PREDECESSOR'
    | 'STAGE_PROFILE'
    | 'STAGE_QUOTA'
    | 'STAGE_ROUTE'
    | 'STAGE_SHAPE'
    | 'STAGE_STEP_ORDER'
    | 'STAGE_STOPPED'
    | 'ENGINE_CRASHED'
    | 'ENGINE_NON_FINITE'
    | 'ENGINE_OUT_OF_RANGE'
  readonly peer: string
  readonly reported?: string
  readonly retryAfterMs?: number
}

export type StageCode = StageFailure['code']

/** What a stage may report over the wire. Anything else that a peer says becomes `STAGE_FAILED`. */
const STAGE_CODES: Readonly<Record<StageCode, true>> = {
  STAGE_BUSY: true,
  STAGE_CONTEXT: true,
  STAGE_DEADLINE: true,
  STAGE_FAILED: true,
  STAGE_FLOW: true,
  STAGE_GENERATION_EXISTS: true,
  STAGE_GENERATION_UNKNOWN: true,
  STAGE_LAYERS: true,
  STAGE_LOST: true,
  STAGE_MODEL: true,
  STAGE_NOT_ENTRY: true,
  STAGE_NOT_PREDECESSOR: true,
  STAGE_PROFILE: true,
  STAGE_QUOTA: true,
  STAGE_ROUTE: true,
  STAGE_SHAPE: true,
  STAGE_STEP_ORDER: true,
  STAGE_STOPPED: true,
  ENGINE_CRASHED: true,
  ENGINE_NON_FINITE: true,
  ENGINE_OUT_OF_RANGE: true,
}

/** The error of everything in this module. */
export class PipelineError extends KoinonError<PipelineFault> {
  override readonly name = 'PipelineError'
}

/**
 * Why a stage ends or refuses something, before it is known who will read it. The code is one of ours, or one of the
 * engine's as it is: the entry decides what it knows.
 */
export type StageFault = { readonly code: string; readonly message: string; readonly peer?: string }

/** An error of the stage's own, as it is reported. */
export function toStageFault(error: unknown): StageFault {
  return { code: codeOf(error), message: messageOf(error) }
}

/** What a peer reported, as an error of ours. Its sentence is quoted, its code checked. */
export function fromReport(reporter: string, report: StageFailed | StageRefused): PipelineError {
  const peer = report.kind === 'failed' ? (report.peer ?? reporter) : reporter
  const known = stageCodeOf(report.code)
  const retryAfterMs = report.kind === 'refused' ? report.retryAfterMs : undefined
  return new PipelineError(
    {
      code: known ?? 'STAGE_FAILED',
      peer,
      ...(known === undefined ? { reported: report.code } : {}),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    },
    `stage ${reporter}: ${report.message}`,
  )
}

export function lostError(peer: string, cause?: unknown): PipelineError {
  const why = cause === undefined ? 'it left' : messageOf(cause)
  return new PipelineError({ code: 'STAGE_LOST', peer }, `the connection to stage ${peer} was lost: ${why}`, { cause })
}

export function protocolError(peer: string, what: string): PipelineError {
  return new PipelineError({ code: 'PIPELINE_PROTOCOL', peer, what }, `${peer} broke the stage protocol: ${what}`)
}

export function stoppedError(): PipelineError {
  return new PipelineError({ code: 'PIPELINE_STOPPED' }, 'this node is stopping')
}

/** The code itself where it is one that stages report. */
function stageCodeOf(code: string): StageCode | undefined {
  return Object.hasOwn(STAGE_CODES, code) ? (code as StageCode) : undefined
}
