/**
 * The one error hierarchy. Every module has a union of faults (`{ code, ...facts }`) and one class over it, which
 * extends `KoinonError`. Programs switch on `fault.code`; people read `message`. A fault is plain data, so it survives
 * a pipe to a child process and a stream to a peer.
 */

/** What went wrong, for programs: a code from `docs/reference/errors.md` and the facts that belong to it. */
export interface Fault {
  readonly code: string
}

/** Base of every error that Koinon throws on purpose. */
export class KoinonError<F extends Fault = Fault> extends Error {
  override readonly name: string = 'KoinonError'
  readonly fault: F

  /**
   * @param fault what went wrong, for programs
   * @param message what went wrong, for people: one sentence that says what to do where that is known
   */
  constructor(fault: F, message: string, options?: ErrorOptions) {
    super(message, options)
    this.fault = fault
  }

  get code(): F['code'] {
    return this.fault.code
  }
}

/** Reads the code of anything that was thrown; what is not ours is `INTERNAL`. */
export function codeOf(error: unknown): string {
  return error instanceof KoinonError ? error.code : 'INTERNAL'
}

/** Reads the sentence of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Makes an aborted signal's reason into an `Error`, whatever the caller aborted with. */
export function abortError(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error(`aborted: ${String(signal.reason)}`)
}

/** Something that cannot happen did: a bug of ours. Never caught except at the top. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new TypeError(`assertion failed: ${message}`)
}
