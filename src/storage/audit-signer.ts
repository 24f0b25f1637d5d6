/**
 * Signs the end of the audit log, every so many entries or after a while, beside the writing of entries: a key in a
 * token or a service may take its time, or fail. A signature covers all entries up to its own.
 */
import type { StatementSync } from 'node:sqlite'
import { abortable, type CancelTimer, TimeoutError, toHex, withDeadline } from '#base'
import { ed25519Verifier } from '#crypto'
import { checkpointMessage, FIRST_PREVIOUS } from './audit-entry.ts'
import { AUDIT_CHECKPOINT_ENTRIES, AUDIT_CHECKPOINT_MS_MAX, AUDIT_CLOSE_MS_MAX, AUDIT_SIGN_MS_MAX } from './limits.ts'
import { prepareRead, type StoreDeps } from './rows.ts'

/** The node's key, as far as the audit log needs it. */
export type CheckpointSigner = {
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>
}

type LogEnd = {
  readonly head: () => { readonly seq: number; readonly hash: Uint8Array }
  /** Number of the last entry that is signed. */
  readonly signed: number
}

export class AuditSigner {
  readonly #deps: StoreDeps
  readonly #head: LogEnd['head']
  readonly #insert: StatementSync
  readonly #findKey: StatementSync
  readonly #saveKey: StatementSync
  #signer: CheckpointSigner | undefined
  #signed: number
  /** The end of the log at the last attempt: one that failed is not repeated with every entry. */
  #attempted: number
  #running: Promise<void> | undefined
  #cancelTimer: CancelTimer | undefined
  #isClosed = false

  constructor(deps: StoreDeps, { head, signed }: LogEnd) {
    this.#deps = deps
    this.#head = head
    this.#signed = signed
    this.#attempted = signed
    // An entry that was pruned while its signature was made needs none.
    this.#insert = deps.database.prepare(
      `INSERT INTO audit_checkpoints (seq, at, hash, public_key, signature)
       SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM audit WHERE seq = ?1)`,
    )
    this.#findKey = prepareRead(deps.database, 'SELECT signer FROM audit_state WHERE id = 1')
    this.#saveKey = deps.database.prepare(
      `INSERT INTO audit_state (id, anchor_seq, anchor_hash, signer) VALUES (1, 0, ?1, ?2)
       ON CONFLICT (id) DO UPDATE SET signer = excluded.signer`,
    )
  }

  setSigner(signer: CheckpointSigner): void {
    this.#signer = signer
    const isNew = this.#deps.guard.attempt('note whose key signs the audit log', true, () => {
      const before = this.#findKey.get()?.['signer']
      if (before instanceof Uint8Array && toHex(before) === toHex(signer.publicKey)) return false
      this.#saveKey.run(FIRST_PREVIOUS, signer.publicKey)
      return true
    })
    // What the key before has signed counts as signed when this one has signed something behind it: soon, then.
    if (isNew) this.#attempted = this.#head().seq - AUDIT_CHECKPOINT_ENTRIES
    this.appended()
  }

  /** To be called when the log may have become longer. */
  appended(): void {
    const { seq } = this.#head()
    if (this.#signer === undefined || this.#isClosed || this.#running !== undefined || seq <= this.#signed) return
    if (seq - this.#attempted >= AUDIT_CHECKPOINT_ENTRIES) {
      void this.#run()
      return
    }
    this.#cancelTimer ??= this.#deps.clock.after(AUDIT_CHECKPOINT_MS_MAX, () => void this.#run())
  }

  /** Signs the end of the log as it is now. Never rejects. */
  async checkpoint(): Promise<void> {
    const { seq } = this.#head()
    // One that is on its way may be of an earlier end.
    await this.#running
    if (this.#signed < seq && !this.#isClosed) await this.#run()
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    const timeout = new AbortController()
    const error = new TimeoutError('signing the audit log', AUDIT_CLOSE_MS_MAX)
    const cancel = this.#deps.clock.after(AUDIT_CLOSE_MS_MAX, () => timeout.abort(error))
    try {
      await abortable(this.checkpoint(), timeout.signal)
    } catch (error) {
      this.#deps.guard.warn('sign the end of the audit log', error)
    } finally {
      cancel()
      this.#isClosed = true
      this.#cancelTimer?.()
    }
  }

  #run(): Promise<void> {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#running ??= this.#sign().finally(() => {
      this.#running = undefined
      this.appended()
    })
    return this.#running
  }

  /** Never rejects. */
  async #sign(): Promise<void> {
    const { clock, guard } = this.#deps
    const { seq, hash } = this.#head()
    const signer = this.#signer
    this.#attempted = seq
    if (signer === undefined) return
    try {
      const at = Math.max(0, Math.trunc(clock.now()))
      const message = checkpointMessage(BigInt(seq), BigInt(at), hash)
      // By a promise even where the key answers at once: whoever records an entry does not wait for it.
      const sign = (): Promise<Uint8Array> => Promise.resolve().then(() => signer.sign(message))
      const signature = await withDeadline(clock, { what: 'signing the audit log', timeoutMs: AUDIT_SIGN_MS_MAX }, sign)
      // A token that errs must not make the log look forged.
      if (!ed25519Verifier(signer.publicKey).verify(message, signature))
        throw new TypeError('the signature does not hold')
      if (this.#isClosed) return
      this.#insert.run(seq, at, hash, signer.publicKey, signature)
      this.#signed = seq
    } catch (error) {
      guard.warn('sign the audit log', error)
    }
  }
}
