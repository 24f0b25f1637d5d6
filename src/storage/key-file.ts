/**
 * The node's key on disk, with the statements by which former keys handed over to it: made once, replaced whole or not
 * at all, and never read where others could have read it.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { assert, messageOf, type Random } from '#base'
import {
  createNodeIdentity,
  decryptKeyFile,
  encodeKeyFile,
  encryptKeyFile,
  type HeldIdentity,
  isKeyFileEncrypted,
  parseKeyFile,
  verifyHandover,
} from '#identity'
import { commitFile, discardFile, readPrivateFile, stageFile } from './durable-file.ts'
import { StorageError } from './errors.ts'
import { KEY_FILE_BYTES_MAX } from './limits.ts'
import { handoversOf, type OwnHandovers, readHandovers, textWith } from './own-handovers.ts'

/** Encrypted where there is a passphrase. */
export type KeyProtection = { readonly passphrase?: string }

/** Keys of one data directory. Reading needs no lock; who writes holds the directory's. */
export interface KeyStore {
  /** Path of the key file, whether it is there or not. */
  readonly path: string
  /** The key file's text, checked; undefined: there is none. It is a secret. @throws StorageError, IdentityError */
  read(): Promise<{ readonly text: string; readonly isEncrypted: boolean } | undefined>
  /**
   * Undefined: there is no key. A key in the clear is read whatever the passphrase.
   * @throws StorageError STORAGE_PERMISSIONS, STORAGE_UNUSABLE; IdentityError, as IDENTITY_PASSPHRASE_NEEDED
   */
  load(options?: KeyProtection): Promise<HeldIdentity | undefined>
  /** Loads the key, or makes one the first time. @throws as `load` */
  loadOrCreate(options?: KeyProtection): Promise<HeldIdentity>
  /**
   * Writes a key.
   * @param options.replaces take the place of a key that is there
   * @throws StorageError STORAGE_KEY_EXISTS, STORAGE_UNUSABLE; IdentityError IDENTITY_PASSPHRASE_LENGTH
   */
  save(identity: HeldIdentity, options?: KeyProtection & { readonly replaces?: boolean }): Promise<void>
  /** What is known of how a key came to be this node's. @throws StorageError STORAGE_HANDOVERS, STORAGE_PERMISSIONS */
  handoversOf(peer: string): Promise<OwnHandovers>
  /**
   * Records that the key has changed; resolves when nothing can undo it. Wherever this is cut off, the node starts with
   * the old key as if nothing had been, or with the new key and the statement.
   * @param rotation.next the new key where it lies in the key file; else that file stays as it is
   * @throws as `save`; the old key is the node's then
   */
  rotate(rotation: KeyProtection & { readonly statement: Uint8Array; readonly next?: HeldIdentity }): Promise<void>
}

/** @param directory a data directory, which need not be there yet */
export function createKeyStore(directory: string, deps: { readonly random: Random }): KeyStore {
  return new FileKeyStore(directory, deps.random)
}

class FileKeyStore implements KeyStore {
  readonly path: string
  readonly #directory: string
  readonly #handovers: string
  readonly #random: Random

  constructor(directory: string, random: Random) {
    this.#directory = join(directory, 'keys')
    this.path = join(this.#directory, 'node.key')
    this.#handovers = join(this.#directory, 'handovers')
    this.#random = random
  }

  async read(): Promise<{ readonly text: string; readonly isEncrypted: boolean } | undefined> {
    const options = { what: 'the node key', bytesMax: KEY_FILE_BYTES_MAX }
    const text = await this.#guard(() => readPrivateFile(this.path, options))
    return text === undefined ? undefined : { text, isEncrypted: isKeyFileEncrypted(text) }
  }

  async load({ passphrase }: KeyProtection = {}): Promise<HeldIdentity | undefined> {
    const file = await this.read()
    if (file === undefined) return undefined
    return passphrase === undefined ? parseKeyFile(file.text) : decryptKeyFile(file.text, passphrase)
  }

  async loadOrCreate(options: KeyProtection = {}): Promise<HeldIdentity> {
    const before = await this.load(options)
    if (before !== undefined) return before
    const identity = await createNodeIdentity(this.#random)
    await this.save(identity, options)
    return identity
  }

  async save(identity: HeldIdentity, options: KeyProtection & { readonly replaces?: boolean } = {}): Promise<void> {
    const text = await this.#textOf(identity, options)
    await this.#guard(async () => {
      const before = await readPrivateFile(this.path, { what: 'the node key', bytesMax: KEY_FILE_BYTES_MAX })
      if (before !== undefined && options.replaces !== true) throw keyExists(this.path)
      await this.#makeDirectory()
      await stageFile(this.path, text)
      await commitFile(this.path)
    })
  }

  async handoversOf(peer: string): Promise<OwnHandovers> {
    return this.#guard(async () => handoversOf(this.#handovers, await readHandovers(this.#handovers, peer), peer))
  }

  async rotate(
    rotation: KeyProtection & { readonly statement: Uint8Array; readonly next?: HeldIdentity },
  ): Promise<void> {
    const { statement, next } = rotation
    const handover = verifyHandover(statement)
    assert(!('code' in handover) && (next === undefined || next.peer === handover.to.peer), 'a statement for this key')
    const keyText = next === undefined ? undefined : await this.#textOf(next, rotation)
    await this.#guard(async () => {
      await this.#makeDirectory()
      const list = await readHandovers(this.#handovers, handover.from.peer)
      // What an earlier rotation had no time for: else its statement would be lost with the file that is written now.
      if (list.isStaged) await commitFile(this.#handovers)
      try {
        if (keyText !== undefined) await stageFile(this.path, keyText)
        await stageFile(this.#handovers, textWith(list, statement))
        if (keyText !== undefined) await commitFile(this.path)
      } catch (error) {
        await discardFile(this.#handovers)
        await discardFile(this.path)
        throw error
      }
      if (keyText === undefined) await commitFile(this.#handovers)
      // The key is the new one already, and the statement is found where it is: the next rotation does this.
      else await commitFile(this.#handovers).catch(() => undefined)
    })
  }

  #textOf(identity: HeldIdentity, { passphrase }: KeyProtection): string | Promise<string> {
    return passphrase === undefined
      ? encodeKeyFile(identity)
      : encryptKeyFile({ random: this.#random }, identity, passphrase)
  }

  async #makeDirectory(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
  }

  async #guard<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      if (error instanceof Error && 'fault' in error) throw error
      throw new StorageError(
        { code: 'STORAGE_UNUSABLE', path: this.path },
        `cannot use the keys in ${this.#directory}: ${messageOf(error)}`,
        { cause: error },
      )
    }
  }
}

function keyExists(path: string): StorageError {
  return new StorageError(
    { code: 'STORAGE_KEY_EXISTS', path },
    `there is a node key in ${path} already: move it away, or use another --data-dir`,
  )
}
