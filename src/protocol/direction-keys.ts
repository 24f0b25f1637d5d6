/**
 * The keys of one direction, of a session's control stream or of one of its channels. A key lives until it has sealed so
 * many bytes or frames or is so old; its successor is made of it one way (Noise's REKEY), so that whoever takes the
 * memory later cannot open what went before.
 *
 * Why these limits (`limits.ts`): under one key of AES-GCM, with IVs that never repeat, an attacker tells q frames of s
 * blocks from noise with an advantage of at most (s + q + 1)^2 / 2^129 (Iwata, Ohashi, Minematsu 2012, as in
 * draft-irtf-cfrg-aead-limits). 64 GiB are s = 2^32 blocks, and q is 2^32 at most: 2^-63. TLS 1.3 goes to 2^-57. A wrong
 * tag ends the session or stream, so forgery has one attempt.
 */
import { assert, type CancelTimer, type Clock } from '#base'
import { Aead, AEAD_IV_BYTES, AEAD_KEY_BYTES, type BegunOpen, type BegunSeal, type Sealed } from '#crypto'
import { OLD_KEY_MS_MAX, REKEY_FRAMES, REKEY_MS, REKEYS_AHEAD_MAX } from './limits.ts'
import { SessionError } from './session-errors.ts'

/** When a key is replaced, by whichever comes first. */
export type RekeyLimits = { readonly bytes: number; readonly frames: number; readonly ageMs: number }

/** The low half of an epoch counts the keys. */
const REKEYS_MAX = 0xffff

const ZEROS = new Uint8Array(AEAD_KEY_BYTES)
const NOTHING = new Uint8Array(0)
/** Noise, section 4.2: a nonce of 2^64 - 1 is set aside for this. No frame's sequence gets there. */
const REKEY_IV = Uint8Array.from({ length: AEAD_IV_BYTES }, (_, i) => (i < 4 ? 0 : 0xff))

/** Noise's REKEY for AES-GCM: the encryption of 32 zero bytes, without the tag. */
function rekeyed(aead: Aead): Uint8Array {
  return Uint8Array.from(aead.seal(REKEY_IV, NOTHING, ZEROS).ciphertext)
}

/** Four zero bytes, then the sequence (u64, big-endian): Noise's nonce for AES-GCM. */
class Iv {
  readonly bytes = new Uint8Array(AEAD_IV_BYTES)
  readonly #view = new DataView(this.bytes.buffer)

  of(sequence: number): Uint8Array {
    this.#view.setUint32(4, Math.floor(sequence / 2 ** 32))
    this.#view.setUint32(8, sequence >>> 0)
    return this.bytes
  }
}

/** The key that our frames are sealed with. */
export class SealingKey {
  readonly #clock: Clock
  readonly #limits: RekeyLimits
  readonly #iv = new Iv()
  #aead: Aead | undefined
  #rekeys = 0
  #bytes = 0
  #frames = 0
  #since: number

  /** @param secret 32 bytes; they are not kept */
  constructor(
    clock: Clock,
    options: { readonly secret: Uint8Array; readonly limits: Partial<RekeyLimits> & { readonly bytes: number } },
  ) {
    this.#clock = clock
    this.#limits = { frames: REKEY_FRAMES, ageMs: REKEY_MS, ...options.limits }
    this.#aead = new Aead(options.secret)
    this.#since = clock.monotonic()
  }

  /** How often the key was replaced. */
  get rekeys(): number {
    return this.#rekeys
  }

  /**
   * Replaces the key where that is due. Called before every frame, because the frame names its key.
   * @throws SessionError once there are no numbers for keys left, or after `close`
   */
  prepare(bytes: number): void {
    if (this.#aead === undefined) throw new SessionError({ code: 'PROTOCOL_SESSION_CLOSED' }, 'the session has ended')
    const { frames, bytes: bytesMax, ageMs } = this.#limits
    const isWorn = this.#frames > 0 && (this.#frames >= frames || this.#bytes + bytes > bytesMax)
    const now = this.#clock.monotonic()
    // A key that sealed nothing protects nothing yet: an idle stream does not count through its keys.
    if (isWorn || (this.#frames > 0 && now - this.#since >= ageMs)) this.#replace(this.#aead)
    if (this.#frames === 0) this.#since = now
    this.#frames++
    this.#bytes += bytes
  }

  /** What can be done of a seal before there is a plaintext. It is of no use once the key was replaced. */
  begin(sequence: number, associated: Uint8Array): BegunSeal {
    assert(this.#aead !== undefined, 'there is no key after close()')
    return this.#aead.beginSeal(this.#iv.of(sequence), associated)
  }

  seal(sequence: number, associated: Uint8Array, plaintext: Uint8Array): Sealed {
    return this.begin(sequence, associated).seal(plaintext)
  }

  close(): void {
    this.#aead = undefined
  }

  #replace(aead: Aead): void {
    if (this.#rekeys >= REKEYS_MAX) {
      throw new SessionError({ code: 'PROTOCOL_SESSION_EXHAUSTED' }, 'the session has used up its keys: resume it')
    }
    this.#aead = new Aead(rekeyed(aead))
    this.#rekeys++
    this.#bytes = 0
    this.#frames = 0
  }
}

/** One key of the other side, known or only tried. */
export type OpeningKey = { readonly rekeys: number; readonly aead: Aead }

/**
 * The keys that the other side's frames are opened with: the newest that was seen in use, a few before it for frames that
 * were overtaken, and what would come after it. A key is only taken over (`accept`) with a frame that proved authentic.
 */
export class OpeningKeys {
  readonly #clock: Clock
  readonly #iv = new Iv()
  #newest: OpeningKey | undefined
  #old: readonly OpeningKey[] = []
  #begun: { readonly aead: Aead; readonly sequence: number; readonly open: BegunOpen } | undefined
  #cancelForgetting: CancelTimer | undefined

  /** @param secret 32 bytes; they are not kept */
  constructor(clock: Clock, secret: Uint8Array) {
    this.#clock = clock
    this.#newest = { rekeys: 0, aead: new Aead(secret) }
  }

  get rekeys(): number {
    return this.#newest?.rekeys ?? 0
  }

  /** Undefined: forgotten, or further ahead than any sender gets. */
  at(rekeys: number): OpeningKey | undefined {
    const newest = this.#newest
    if (newest === undefined || rekeys === newest.rekeys) return newest
    if (rekeys < newest.rekeys) return this.#old.find(key => key.rekeys === rekeys)
    return rekeys > newest.rekeys + REKEYS_AHEAD_MAX ? undefined : after(newest, rekeys).at(-1)
  }

  /** Begins to open a frame that is still to come, most likely under the newest key, while nobody waits for it. */
  begin(sequence: number): void {
    const aead = this.#newest?.aead
    if (this.#begun?.aead === aead && this.#begun?.sequence === sequence) return
    if (aead !== undefined) this.#begun = { aead, sequence, open: aead.beginOpen(this.#iv.of(sequence)) }
  }

  /** Undefined where the frame is not authentic. */
  open(
    key: OpeningKey,
    sequence: number,
    frame: { readonly associated: Uint8Array; readonly ciphertext: Uint8Array; readonly tag: Uint8Array },
  ): Uint8Array | undefined {
    return key.aead.open(this.#iv.of(sequence), frame.associated, frame.ciphertext, frame.tag)
  }

  /** The same for a ciphertext in several pieces; as many come back. */
  openParts(
    key: OpeningKey,
    sequence: number,
    frame: { readonly associated: Uint8Array; readonly parts: readonly Uint8Array[]; readonly tag: Uint8Array },
  ): readonly Uint8Array[] | undefined {
    const begun = this.#begun
    this.#begun = undefined
    const isIt = begun?.aead === key.aead && begun.sequence === sequence
    const open = isIt ? begun.open : key.aead.beginOpen(this.#iv.of(sequence))
    return open.open(frame.associated, frame.parts, frame.tag)
  }

  /**
   * A frame under this key was authentic.
   * @param keepsOld whether frames under keys before it may still come
   */
  accept(key: OpeningKey, { keepsOld }: { readonly keepsOld: boolean }): void {
    const newest = this.#newest
    if (newest === undefined || key.rekeys <= newest.rekeys) return
    this.#newest = key
    if (!keepsOld) return
    const passed = [newest, ...after(newest, key.rekeys).slice(0, -1)]
    this.#old = [...this.#old, ...passed].slice(-REKEYS_AHEAD_MAX)
    this.#cancelForgetting?.()
    this.#cancelForgetting = this.#clock.after(OLD_KEY_MS_MAX, () => {
      this.#old = []
    })
  }

  close(): void {
    this.#cancelForgetting?.()
    this.#newest = undefined
    this.#old = []
    this.#begun = undefined
  }
}

/** The keys behind `key`, up to number `rekeys`. */
function after(key: OpeningKey, rekeys: number): OpeningKey[] {
  const keys: OpeningKey[] = []
  for (let last = key; last.rekeys < rekeys; ) {
    last = { rekeys: last.rekeys + 1, aead: new Aead(rekeyed(last.aead)) }
    keys.push(last)
  }
  return keys
}
