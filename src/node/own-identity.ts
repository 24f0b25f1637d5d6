/**
 * Which identity the node has: from its data directory, or from where its owner keeps the key. And how it gets another:
 * the key that it has and the one that it is to have sign a hand-over, which is kept beside the keys and told to peers.
 */
import type { Clock, Logger, Random } from '#base'
import {
  createHandover,
  createNodeIdentity,
  type HeldIdentity,
  identityOfSecret,
  type KeyProvider,
  type NodeIdentity,
  nextSecret,
} from '#identity'
import { type KeySource, openKey } from '#keyring'
import type { KeyStore, OwnHandovers } from '#storage'
import { NodeError } from './errors.ts'
import type { KeyRotationRequest, NodeConfig } from './types.ts'

/** What peers must be told of a change of the key. */
export type Rotation = {
  /** Peer ids. */
  readonly from: string
  readonly to: string
  /** Signs with the new key. */
  readonly signer: KeyProvider
  /** Both keys have signed it. */
  readonly statement: Uint8Array
}

export interface OwnIdentity {
  /** As it was when the node started: libp2p keeps it until the next start. */
  readonly identity: NodeIdentity
  /** How that key came to be what it is, the oldest statement first. */
  readonly handovers: readonly Uint8Array[]
  /** Whether the key was made just now. */
  readonly isNew: boolean
  /**
   * Replaces the key; resolves when that is on the disk, so that a node that is killed afterwards starts with the new
   * one. One after the other.
   * @throws NodeError NODE_KEY_FIXED, NODE_KEY_USED; KeyringError, StorageError, IdentityError: the key stays then
   */
  rotate(request?: KeyRotationRequest): Promise<Rotation>
  /** Ends what tokens and services hold open. */
  close(): Promise<void>
}

type Deps = { readonly clock: Clock; readonly random: Random; readonly log: Logger }
type Config = Pick<NodeConfig, 'key' | 'passphrase' | 'hybridSignatures'>

/**
 * Opens the key that the configuration names; without one, that of the data directory, which is made the first time.
 * @throws NodeError NODE_KEY_GIVEN_UP; KeyringError, StorageError, IdentityError
 */
export async function openOwnIdentity(deps: Deps, config: Config, keys: KeyStore): Promise<OwnIdentity> {
  const protection = config.passphrase === undefined ? {} : { passphrase: config.passphrase }
  const source = config.key ?? { kind: 'file' }
  const isNew = source.kind === 'file' && (await keys.read()) === undefined
  const identity = await openKey({ clock: deps.clock, readFile: () => keys.loadOrCreate(protection) }, source)
  try {
    const handovers = await keys.handoversOf(identity.peer)
    if (handovers.successor !== undefined) throw givenUp(identity.peer, handovers.successor)
    await warn(deps.log, { config, identity, keys })
    return new RotatingIdentity(deps, {
      keys,
      protection,
      identity,
      handovers,
      isInFile: source.kind === 'file',
      isNew,
    })
  } catch (error) {
    await identity.provider.close()
    throw error
  }
}

/** What an owner may believe and is not so. */
async function warn(
  log: Logger,
  { config, identity, keys }: { readonly config: Config; readonly identity: NodeIdentity; readonly keys: KeyStore },
): Promise<void> {
  if (config.hybridSignatures === true && identity.hybrid === undefined) {
    log.warn('handshakes are signed with Ed25519 alone: tokens and key services hold no ML-DSA-65 key')
  }
  if (config.passphrase === undefined || (config.key ?? { kind: 'file' }).kind !== 'file') return
  if ((await keys.read())?.isEncrypted === false) {
    log.warn('there is a passphrase, but the node key is not encrypted: `koinon keys passphrase` does that')
  }
}

type Held = {
  readonly keys: KeyStore
  readonly protection: { readonly passphrase?: string }
  readonly identity: NodeIdentity
  readonly handovers: OwnHandovers
  readonly isInFile: boolean
  readonly isNew: boolean
}

class RotatingIdentity implements OwnIdentity {
  readonly identity: NodeIdentity
  readonly handovers: readonly Uint8Array[]
  readonly isNew: boolean
  readonly #deps: Deps
  readonly #opened: KeyProvider[]
  #held: Held
  #last: Promise<unknown> = Promise.resolve()

  constructor(deps: Deps, held: Held) {
    this.identity = held.identity
    this.handovers = held.handovers.statements
    this.isNew = held.isNew
    this.#deps = deps
    this.#held = held
    this.#opened = [held.identity.provider]
  }

  rotate(request: KeyRotationRequest = {}): Promise<Rotation> {
    const turn = this.#last.then(() => this.#rotate(request))
    this.#last = turn.catch(() => undefined) // Whoever asked is told.
    return turn
  }

  async close(): Promise<void> {
    await this.#last
    await Promise.all(this.#opened.map(provider => provider.close()))
  }

  async #rotate(request: KeyRotationRequest): Promise<Rotation> {
    const { keys, protection, identity, handovers } = this.#held
    const next = await this.#nextKey(request)
    try {
      const statement = await createHandover({
        from: identity.provider,
        to: next.identity.provider,
        at: Math.max(Math.trunc(this.#deps.clock.now()), handovers.at),
        sequence: handovers.sequence + 1,
      })
      const written = next.toWrite === undefined ? {} : { next: next.toWrite }
      await keys.rotate({ ...protection, statement, ...written })
      const { peer, provider } = next.identity
      this.#opened.push(provider)
      this.#held = { ...this.#held, ...next, handovers: await keys.handoversOf(peer) }
      return { from: identity.peer, to: peer, signer: provider, statement }
    } catch (error) {
      await next.identity.provider.close()
      throw error
    }
  }

  async #nextKey({ to, newPhrase }: KeyRotationRequest): Promise<NextKey> {
    const next = await this.#openNext(to, newPhrase === true)
    const { peer } = next.identity
    const known = await this.#held.keys.handoversOf(peer)
    if (peer !== this.#held.identity.peer && known.sequence === 0 && known.successor === undefined) return next
    await next.identity.provider.close()
    throw new NodeError(
      { code: 'NODE_KEY_USED', peer },
      `${peer} is or was a key of this node: a key that was given up cannot come back`,
    )
  }

  async #openNext(to: KeySource | undefined, wantsNewPhrase: boolean): Promise<NextKey> {
    const { keys, protection, identity, isInFile } = this.#held
    const { clock, random } = this.#deps
    if (to === undefined && !isInFile) throw fixed(identity.provider.kind)
    if (to !== undefined && (to.kind !== 'file' || !isInFile)) {
      const create = async (): Promise<HeldIdentity> => (await keys.load(protection)) ?? createNodeIdentity(random)
      const opened = await openKey({ clock, readFile: create }, to)
      const toWrite = to.kind === 'file' && (await keys.read()) === undefined ? (opened as HeldIdentity) : undefined
      return { identity: opened, isInFile: to.kind === 'file', toWrite }
    }
    const held = wantsNewPhrase ? undefined : await keys.load(protection)
    const made =
      held === undefined ? await createNodeIdentity(random) : identityOfSecret(nextSecret(held.secret, random), 'file')
    return { identity: made, isInFile: true, toWrite: made }
  }
}

type NextKey = {
  readonly identity: NodeIdentity
  readonly isInFile: boolean
  /** Where it is to be written into the key file. */
  readonly toWrite: HeldIdentity | undefined
}

function givenUp(peer: string, successor: string): NodeError {
  return new NodeError(
    { code: 'NODE_KEY_GIVEN_UP', peer, successor },
    `the key ${peer} has handed over to ${successor} and is not this node's any more: name where that one lies with --key`,
  )
}

function fixed(kind: KeyProvider['kind']): NodeError {
  const where = { file: 'a file', environment: 'the environment', pkcs11: 'a token', kms: 'a key service' }[kind]
  return new NodeError(
    { code: 'NODE_KEY_FIXED', kind },
    `the node key lies in ${where}, which makes no further ones by itself: name where the new key lies with --to`,
  )
}
