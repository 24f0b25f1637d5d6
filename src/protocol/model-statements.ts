/**
 * What nodes sign about models: manifests and votes. The payloads are `#formats`', the envelopes `#identity`'s; here the
 * two meet. The signature says who says it; the model itself is settled by its core alone.
 */
import {
  type DescriptionFault,
  decodeManifest,
  decodeVote,
  encodeManifest,
  encodeVote,
  type ModelManifest,
  type ModelVote,
} from '#formats'
import { type EnvelopeFault, type KeyProvider, openEnvelope, signEnvelope } from '#identity'

const MANIFEST_DOMAIN = 'koinon/model-manifest/1'
const VOTE_DOMAIN = 'koinon/model-vote/1'

export type SignedManifest = {
  readonly manifest: ModelManifest
  /** Peer id. */
  readonly signer: string
}

export type SignedVote = {
  readonly vote: ModelVote
  /** Peer id of the key that has signed: the voter may have handed over to another since. */
  readonly signer: string
}

type Signer = Pick<KeyProvider, 'publicKey' | 'sign'>

/**
 * @returns an envelope of 16 KiB at most
 * @throws FormatError FORMAT_MANIFEST_…; KeyringError where the token or service that holds the key fails
 */
export function signManifest(signer: Signer, manifest: ModelManifest): Promise<Uint8Array> {
  return signEnvelope(signer, MANIFEST_DOMAIN, encodeManifest(manifest))
}

/** Checks the signature and the form. Whether it fits the core, `checkManifest` says. */
export function openManifest(bytes: Uint8Array): SignedManifest | EnvelopeFault | DescriptionFault {
  const opened = openEnvelope(MANIFEST_DOMAIN, bytes)
  if ('code' in opened) return opened
  const manifest = decodeManifest(opened.payload)
  return 'code' in manifest ? manifest : { manifest, signer: opened.peer }
}

/** @throws FormatError FORMAT_VOTE_MALFORMED; KeyringError where the token or service that holds the key fails */
export function signVote(signer: Signer, vote: ModelVote): Promise<Uint8Array> {
  return signEnvelope(signer, VOTE_DOMAIN, encodeVote(vote))
}

/** Checks the signature and the form. */
export function openVote(bytes: Uint8Array): SignedVote | EnvelopeFault | DescriptionFault {
  const opened = openEnvelope(VOTE_DOMAIN, bytes)
  if ('code' in opened) return opened
  const vote = decodeVote(opened.payload)
  return 'code' in vote ? vote : { vote, signer: opened.peer }
}
