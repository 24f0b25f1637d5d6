/** Messages, codecs, protocol ids and size limits of everything that crosses a process or a network. Runs in a browser. */
export { encodeFrame, FrameReader } from './framing.ts'
export {
  decodeHello,
  encodeHello,
  HELLO_VERSION,
  type HelloMessage,
  type KnownPeer,
  NONCE_BYTES,
  type RefusalReason,
  type SwarmRole,
  swarmProof,
} from './hello.ts'
export * from './limits.ts'
export * from './node-contract.ts'
export { type NodeOffer, nodeOfferSchema, type StageOffer } from './offer.ts'
export { AGENT, PROTOCOLS, type ProtocolId } from './protocols.ts'
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
export { type StageFailed, type StageMessage, type StageOpen, type StageRefused } from './stage-messages.ts'
