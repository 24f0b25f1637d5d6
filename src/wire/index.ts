/** Messages, codecs, protocol ids and size limits of everything that crosses a process or a network. Runs in a browser. */
export {
  type AttachmentHeader,
  cancelSchema,
  type ErrorMessage,
  errorSchema,
  type EventMessage,
  eventSchema,
  PRIORITIES,
  type Priority,
  type RequestMessage,
  requestSchema,
  type ResponseMessage,
  responseSchema,
} from './command-messages.ts'
export {
  type BodyFault,
  CONTROL_SCHEMAS,
  type ControlBody,
  type ControlType,
  decodeBody,
  encodeBody,
  type Hello,
  type KnownPeer,
  NONCE_BYTES,
  type RefusalReason,
  type Resume,
} from './control-messages.ts'
export * from './frame.ts'
export { FrameReader } from './frame-reader.ts'
export * from './frame-types.ts'
export { LengthPrefixReader, withLengthPrefix } from './length-prefix.ts'
export * from './limits.ts'
export { isOfThisMachine } from './machine-address.ts'
export type * from './network-contract.ts'
export * from './node-contract.ts'
export { type NodeOffer, nodeOfferSchema, type StageOffer } from './offer.ts'
export {
  type CircuitLimits,
  encodeRelayMessage,
  RELAY_HEAD_BYTES,
  RELAY_SESSION_BYTES,
  type RelayCut,
  relayDataHead,
  type RelayFrame,
  type RelayFrameFault,
  RelayFrameReader,
  type RelayMessage,
  type RelayRefusal,
} from './relay-messages.ts'
export type * from './relay-report.ts'
export {
  decodePunchMessage,
  encodePunchMessage,
  PUNCH_TOKEN_BYTES,
  type PunchIceOffer,
  type PunchMessage,
  type PunchMethod,
  type PunchNatKind,
  type PunchTcpOffer,
} from './punch-messages.ts'
export * from './versions.ts'
export * from './openai.ts'
export {
  encodeStageControl,
  encodeStageCredit,
  encodeStageStart,
  encodeStageStep,
  encodeStageStepParts,
  type StageFrameFault,
  StageFrameReader,
  type StageFrameSink,
  type StagePurpose,
  STEP_DTYPE_F32,
  STEP_HEADER_BYTES,
  type StepHeader,
} from './stage-frames.ts'
export { type ProofContext, type SwarmRole, swarmProof } from './swarm-proof.ts'
export { type StageFailed, type StageMessage, type StageOpen, type StageRefused } from './stage-messages.ts'
export type {
  AddModelRequest,
  ModelDetails,
  ModelHolding,
  ModelTorrent,
  PullEnd,
  PullRequest,
  TransferEvent,
  TransferProgress,
  VoteSummary,
  WeightsOptions,
  WeightsService,
} from './weights-contract.ts'
export { benchmarksSchema, licenceSchema } from './weights-schema.ts'
