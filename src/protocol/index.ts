/** Sessions, replay protection, commands and their limits: state machines without I/O. */
export { type Attachment, type Caller, type Command, type CommandAnswer, type CommandContext, defineCommand, type Right } from './command.ts'
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
