/** A node's key in a token: a session that stays open, and one signature after the other. */
import { type Clock, type Random, toHex } from '#base'
import { ED25519_SIGNATURE_BYTES } from '#crypto'
import type { KeyProvider } from '#identity'
import { checkedKey } from '../checked-key.ts'
import { KeyringError } from '../errors.ts'
import type { Pkcs11Source } from '../key-source.ts'
import { TOKEN_OPEN_MS_MAX, TOKEN_SIGN_MS_MAX } from '../limits.ts'
import { CKM, nameOfResult } from './constants.ts'
import { mechanismBytes, stableCopy, Ulongs } from './memory.ts'
import { Pkcs11Module, ResultError } from './module.ts'
import { findKey, generateKey, type TokenKey } from './objects.ts'
import { openSession, type TokenSession } from './token.ts'

const OPENING = { what: 'the token', timeoutMs: TOKEN_OPEN_MS_MAX } as const
const SIGNING = { what: 'the token', timeoutMs: TOKEN_SIGN_MS_MAX } as const

/** The session is gone, and with it the login; the token may still be there, or there again. */
const SESSION_LOST = new Set([
  'CKR_CRYPTOKI_NOT_INITIALIZED',
  'CKR_DEVICE_REMOVED',
  'CKR_KEY_HANDLE_INVALID',
  'CKR_OBJECT_HANDLE_INVALID',
  'CKR_SESSION_CLOSED',
  'CKR_SESSION_HANDLE_INVALID',
  'CKR_TOKEN_NOT_PRESENT',
  'CKR_USER_NOT_LOGGED_IN',
])
const CANNOT_SIGN = new Set([
  'CKR_MECHANISM_INVALID',
  'CKR_MECHANISM_PARAM_INVALID',
  'CKR_KEY_TYPE_INCONSISTENT',
  'CKR_KEY_FUNCTION_NOT_PERMITTED',
  'CKR_FUNCTION_NOT_SUPPORTED',
])

/**
 * Opens the key that `source` names, and tries it.
 * @throws KeyringError
 */
export async function openPkcs11Key(deps: { readonly clock: Clock }, source: Pkcs11Source): Promise<KeyProvider> {
  const module = await Pkcs11Module.acquire(deps.clock, source.module)
  const key = new Pkcs11Key(module, source)
  try {
    const publicKey = await key.open()
    return await checkedKey({
      kind: 'pkcs11',
      publicKey,
      signRaw: message => key.sign(message),
      close: () => key.close(),
    })
  } catch (error) {
    await key.close()
    throw error
  }
}

/**
 * Makes an Ed25519 key on a token; its private half cannot be read out of it.
 * @throws KeyringError KEYRING_KEY_EXISTS, KEYRING_MECHANISM and those of opening a token
 */
export async function createPkcs11Key(
  deps: { readonly clock: Clock; readonly random: Random },
  source: Pkcs11Source,
): Promise<void> {
  const module = await Pkcs11Module.acquire(deps.clock, source.module)
  try {
    await module.exclusive(OPENING, async () => {
      const session = await openSession(module, source, { isWriting: true })
      try {
        await generateKey({ module, session: session.handle }, source, new Uint8Array(deps.random.bytes(16)))
      } finally {
        await module.tryCall('C_CloseSession', session.handle)
      }
    })
  } finally {
    await module.release()
  }
}

class Pkcs11Key {
  readonly #module: Pkcs11Module
  readonly #source: Pkcs11Source
  #opened: { readonly session: TokenSession; readonly key: TokenKey } | undefined
  #publicKey: Uint8Array | undefined
  /** Why the token is not asked again: every wrong PIN brings it nearer to locking itself. */
  #refused: KeyringError | undefined
  #closed: Promise<void> | undefined

  constructor(module: Pkcs11Module, source: Pkcs11Source) {
    this.#module = module
    this.#source = source
  }

  /** @returns the public key, 32 bytes */
  async open(): Promise<Uint8Array> {
    const { key } = await this.#module.exclusive(OPENING, () => this.#begin())
    this.#publicKey = key.publicKey
    return key.publicKey
  }

  sign(message: Uint8Array): Promise<Uint8Array> {
    return this.#module.exclusive(SIGNING, async () => {
      if (this.#closed !== undefined) throw closedError()
      if (this.#refused !== undefined) throw this.#refused
      try {
        return await this.#signOnce(message)
      } catch (error) {
        if (!(error instanceof ResultError)) throw error
        const name = nameOfResult(error.result)
        if (CANNOT_SIGN.has(name)) {
          const sentence = `the token makes no Ed25519 signatures with this key (${name})`
          throw new KeyringError({ code: 'KEYRING_MECHANISM' }, sentence, { cause: error })
        }
        if (!SESSION_LOST.has(name)) throw error
        await this.#end()
        return this.#signOnce(message)
      }
    })
  }

  /** Never rejects: there is nothing that a caller could do about a token that does not answer any more. */
  close(): Promise<void> {
    this.#closed ??= this.#module
      .exclusive(OPENING, () => this.#end())
      .then(() => this.#module.release())
      .catch(() => undefined)
    return this.#closed
  }

  async #signOnce(message: Uint8Array): Promise<Uint8Array> {
    const { session, key } = this.#opened ?? (await this.#begin())
    const module = this.#module
    await module.call('C_SignInit', session.handle, mechanismBytes(CKM.eddsa), key.handle)
    if (key.alwaysAuthenticate) await session.confirm()
    const signature = new Uint8Array(new ArrayBuffer(ED25519_SIGNATURE_BYTES))
    const size = new Ulongs(1, signature.byteLength)
    await module.call('C_Sign', session.handle, stableCopy(message), message.byteLength, signature, size.bytes)
    return signature.subarray(0, size.at(0))
  }

  async #begin(): Promise<{ readonly session: TokenSession; readonly key: TokenKey }> {
    try {
      const session = await openSession(this.#module, this.#source, { isWriting: false })
      try {
        const key = await findKey({ module: this.#module, session: session.handle }, this.#source)
        if (this.#publicKey !== undefined && toHex(key.publicKey) !== toHex(this.#publicKey)) throw replacedError()
        this.#opened = { session, key }
        return this.#opened
      } catch (error) {
        await this.#module.tryCall('C_CloseSession', session.handle)
        throw error
      }
    } catch (error) {
      if (error instanceof KeyringError && error.code.startsWith('KEYRING_PIN_')) this.#refused = error
      throw error
    }
  }

  async #end(): Promise<void> {
    const opened = this.#opened
    this.#opened = undefined
    // Whatever it returns: there is nothing more to be done about a session that cannot be closed.
    if (opened !== undefined) await this.#module.tryCall('C_CloseSession', opened.session.handle)
  }
}

function replacedError(): KeyringError {
  return new KeyringError({ code: 'KEYRING_KEY_UNKNOWN', found: 0 }, 'the token has another key of this name now')
}

function closedError(): KeyringError {
  return new KeyringError({ code: 'KEYRING_CLOSED' }, 'the key was closed')
}
