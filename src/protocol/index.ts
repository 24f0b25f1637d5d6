/** Sessions, replay protection, commands and their limits: state machines without I/O. */
export { type Attachment, type Caller, type Command, type CommandAnswer, type CommandContext, defineCommand, type Right } from './command.ts'
export { ReplayFilter, replayKey } from './replay-filter.ts'
export { acceptSealedStream, openSealedStream } from './sealed-stream.ts'
export { SecureSession, type SessionSigner } from './secure-session.ts'
export { SessionError } from './session-errors.ts'
export { signFrame, verifyFrame } from './signed-frames.ts'
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
