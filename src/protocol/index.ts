/** Sessions, replay protection, commands and their limits: state machines without I/O. */
export type { AnswerSink } from './answer-stream.ts'
export { BackOff } from './back-off.ts'
export {
  type Attachment,
  type Caller,
  type Command,
  type CommandAnswer,
  type CommandContext,
  defineCommand,
  type Right,
} from './command.ts'
export { Dispatcher, type DispatcherCounts, type DispatcherDeps, type IncomingCall } from './dispatcher.ts'
export { ProtocolError, type ProtocolFault } from './errors.ts'
export {
  openManifest,
  openVote,
  type SignedManifest,
  type SignedVote,
  signManifest,
  signVote,
} from './model-statements.ts'
export { Penalties, type PenaltyKind, type Verdict } from './penalties.ts'
export { PenaltyRecords } from './penalty-records.ts'
export { RateLimits } from './rate-limits.ts'
export { CommandRegistry } from './registry.ts'
export {
  type Answer,
  type IncomingAnswer,
  type OutgoingCancel,
  type OutgoingRequest,
  type RequestConnection,
  Requester,
  type RequestOptions,
} from './requester.ts'
export { type AnswerError, toldOf } from './told-error.ts'
export { TokenBucket } from './token-bucket.ts'
export { decodePlaneIdentity, encodePlaneIdentity, type PlaneIdentity } from './plane-key.ts'
export { ReplayFilter } from './replay-filter.ts'
export { acceptSealedStream, openSealedStream } from './sealed-stream.ts'
export { SecureSession } from './secure-session.ts'
export { SessionClaims } from './session-claims.ts'
export type { SessionErrorFault } from './session-errors.ts'
export { signFrame } from './signed-frames.ts'
export type {
  AuditKind,
  AuditLog,
  PeerKeyStore,
  PenaltyStore,
  ReplayStore,
  SessionFault,
  SessionStore,
  StoredPenalty,
  StoredSession,
} from './types.ts'
export { ControlLink, type LinkDeps, type LinkFacts, type LinkMessage, type LinkState } from './control-link.ts'
export type { Party } from './negotiation.ts'
export { Refusal, type RefusalFacts, type RefusalFault } from './refusal.ts'
export { attachmentOfBytes, readAll } from './transfer/attachments.ts'
export type { OfferOutcome } from './transfer/offers.ts'
export { type OfferOptions, type ReceiveOptions, Transfers, type TransfersDeps } from './transfer/transfers.ts'
export type { DigestedAttachment, TransferContent, TransferSink, TransferStore } from './transfer/types.ts'
export { isPeerToBlame, TransferError, type TransferFault } from './transfer-errors.ts'
