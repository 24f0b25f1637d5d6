/**
 * Where metadata is put and got: Mainline (BEP 44), Kademlia, or both. Whatever answers, only what the peer's own key has
 * signed is taken, and of two the one with the higher number.
 */
import { codeOf, type Logger, messageOf } from '#base'
import { publicKeyOfPeer } from '#crypto'
import { type KeyProvider, openEnvelope, signEnvelope } from '#identity'
import { type BencodeValue, decodeBencode, encodeBencode } from '#formats'
import { MainlineError, type MainlineNode } from '#mainline'
import { DiscoveryError, isFault, type PeerFault } from './errors.ts'
import { decodePeerMetadata, encodePeerMetadata, type VersionedMetadata } from './peer-metadata.ts'
import type { AbortOptions, KadRecords } from './types.ts'

/** The kind of metadata among the records of a peer in Kademlia, and what it is signed as. */
const KAD_KIND = 'metadata'
const DOMAIN = 'koinon/peer-metadata/1'

export type MetadataNetworkDeps = {
  readonly log: Logger
  readonly signer: KeyProvider
  readonly mainline?: Pick<MainlineNode, 'getMutable' | 'putMutable'> | undefined
  readonly kad?: Pick<KadRecords, 'get' | 'put'> | undefined
  /** Hears of metadata that its own node has signed and that is wrong all the same. */
  readonly onFault?: (peer: string, fault: PeerFault) => void
}

export interface MetadataNetwork {
  /** Undefined: nobody has any, or nobody answered. Never rejects but for the signal. */
  get(peer: string, options: AbortOptions): Promise<VersionedMetadata | undefined>
  /**
   * @returns nodes that have stored it; Kademlia counts as one
   * @throws DiscoveryError DISCOVERY_METADATA_NEWER; what the networks throw where none has stored it
   */
  put(item: VersionedMetadata, options: AbortOptions): Promise<number>
}

export function createMetadataNetwork(deps: MetadataNetworkDeps): MetadataNetwork {
  const get = async (peer: string, options: AbortOptions): Promise<VersionedMetadata | undefined> => {
    const publicKey = publicKeyOfPeer(peer)
    if (publicKey === undefined) return undefined
    const asked = [fromMainline(deps, { peer, publicKey }, options), fromKad(deps, peer, options)]
    let newest: VersionedMetadata | undefined
    for (const outcome of await Promise.allSettled(asked)) {
      if (outcome.status === 'rejected') {
        deps.log.debug('metadata could not be asked for', { error: messageOf(outcome.reason) })
      } else if (outcome.value !== undefined && isFault(outcome.value)) {
        deps.onFault?.(peer, outcome.value)
      } else if (outcome.value !== undefined && (newest === undefined || outcome.value.sequence > newest.sequence)) {
        newest = outcome.value
      }
    }
    options.signal?.throwIfAborted()
    return newest
  }
  const put = async (item: VersionedMetadata, options: AbortOptions): Promise<number> => {
    const outcomes = await Promise.allSettled([toMainline(deps, item, options), toKad(deps, item, options)])
    let stored = 0
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') stored += outcome.value
    }
    const failures = outcomes.filter(outcome => outcome.status === 'rejected').map(outcome => outcome.reason as unknown)
    const newer = failures.find(error => codeOf(error) === 'DISCOVERY_METADATA_NEWER')
    if (newer !== undefined) throw newer
    if (stored === 0 && failures.length > 0) throw failures[0]
    return stored
  }
  return { get, put }
}

async function fromMainline(
  { mainline }: MetadataNetworkDeps,
  { publicKey }: { readonly peer: string; readonly publicKey: Uint8Array },
  options: AbortOptions,
): Promise<VersionedMetadata | PeerFault | undefined> {
  // The node has checked the signature under this key: the target, SHA-1 of the key, is the stable id.
  const item = await mainline?.getMutable(publicKey, undefined, options)
  return item === undefined ? undefined : versioned(item.value, item.seq)
}

async function fromKad(
  { kad }: MetadataNetworkDeps,
  peer: string,
  options: AbortOptions,
): Promise<VersionedMetadata | PeerFault | undefined> {
  const bytes = await kad?.get(KAD_KIND, peer, options)
  if (bytes === undefined) return undefined
  const opened = openEnvelope(DOMAIN, bytes)
  if ('code' in opened || opened.peer !== peer) {
    return { code: 'DISCOVERY_METADATA_SIGNER', what: 'metadata that its peer has not signed' }
  }
  const value = decodeBencode(opened.payload)
  const { m, s } =
    typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array) ? asDict(value) : {}
  if (m === undefined || typeof s !== 'number' || s < 0) {
    return { code: 'DISCOVERY_METADATA_MALFORMED', what: 'metadata without a number' }
  }
  return versioned(m, s)
}

async function toMainline(
  { mainline, signer }: MetadataNetworkDeps,
  { metadata, sequence }: VersionedMetadata,
  options: AbortOptions,
): Promise<number> {
  if (mainline === undefined) return 0
  try {
    return await mainline.putMutable({ signer, seq: sequence, value: encodePeerMetadata(metadata).value }, options)
  } catch (error) {
    if (!(error instanceof MainlineError) || error.fault.code !== 'MAINLINE_ITEM_NEWER') throw error
    const fault = { code: 'DISCOVERY_METADATA_NEWER', sequence: error.fault.seq } as const
    throw new DiscoveryError(fault, 'the network holds newer metadata of this node', { cause: error })
  }
}

async function toKad(
  { kad, signer }: MetadataNetworkDeps,
  { metadata, sequence }: VersionedMetadata,
  options: AbortOptions,
): Promise<number> {
  const payload = encodeBencode({ m: encodePeerMetadata(metadata).value, s: sequence })
  if (kad === undefined || payload === undefined) return 0
  await kad.put({ kind: KAD_KIND, payload: await signEnvelope(signer, DOMAIN, payload) }, options)
  return 1
}

function versioned(value: BencodeValue, sequence: number): VersionedMetadata | PeerFault {
  const metadata = decodePeerMetadata(value)
  return isFault(metadata) ? metadata : { metadata, sequence }
}

function asDict(value: object): { readonly [key: string]: BencodeValue } {
  return value as { readonly [key: string]: BencodeValue }
}
