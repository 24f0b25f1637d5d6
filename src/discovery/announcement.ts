/**
 * Announcements: the stages and services of one node, in its own words. A signed envelope of domain `koinon/services/1`
 * around dag-cbor {expiresAt, peer, sequence, services: [{layerCount?, layers?, model?, modelName?, service}]}. One for a
 * node: the newest counts, and an empty list takes everything back.
 */
import { encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { assert } from '#base'
import { peerOfPublicKey } from '#crypto'
import { decodeCanonical, type KeyProvider, openEnvelope, signEnvelope } from '#identity'
import { DiscoveryError, type PeerFault } from './errors.ts'
import {
  ANNOUNCEMENT_BYTES_MAX,
  ANNOUNCEMENT_LIFE_MS_MAX,
  CLOCK_SKEW_MS_MAX,
  MODEL_NAME_CHARS_MAX,
  SERVICE_NAME_CHARS_MAX,
  SERVICES_MAX,
} from './limits.ts'
import type { Service, ServiceQuery } from './types.ts'

const DOMAIN = 'koinon/services/1'

/** An announcement whose signature is its peer's. */
export type Announcement = {
  /** Peer id. */
  readonly peer: string
  readonly sequence: number
  /** Unix milliseconds. */
  readonly expiresAt: number
  readonly services: readonly Service[]
  /** As it was signed. */
  readonly bytes: Uint8Array
}

export const serviceName = z
  .string()
  .max(SERVICE_NAME_CHARS_MAX)
  .regex(/^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/)
const modelId = z.string().regex(/^[0-9a-f]{64}$/)
const serviceSchema = z.strictObject({
  service: serviceName,
  model: modelId.exactOptional(),
  modelName: z.string().max(MODEL_NAME_CHARS_MAX).exactOptional(),
  layers: z
    .strictObject({ first: z.int().min(0).max(9_999), last: z.int().min(1).max(10_000) })
    .refine(({ first, last }) => first < last)
    .exactOptional(),
  layerCount: z.int().min(1).max(10_000).exactOptional(),
})
const schema = z.strictObject({
  expiresAt: z.int().min(0),
  peer: z.string().max(100),
  sequence: z.int().min(0),
  services: z.array(serviceSchema).max(SERVICES_MAX),
})

/** @throws DiscoveryError DISCOVERY_ANNOUNCEMENT_INVALID */
export function assertServices(services: readonly Service[]): void {
  if (schema.shape.services.safeParse(services).success && encode(services).byteLength < ANNOUNCEMENT_BYTES_MAX - 512)
    return
  throw new DiscoveryError(
    { code: 'DISCOVERY_ANNOUNCEMENT_INVALID' },
    `at most ${SERVICES_MAX} services are announced; their names have lower-case letters, digits, dots and dashes`,
  )
}

/** @throws KeyringError where the token or service that holds the key fails */
export async function signAnnouncement(
  signer: Pick<KeyProvider, 'publicKey' | 'sign'>,
  { sequence, expiresAt, services }: Pick<Announcement, 'sequence' | 'expiresAt' | 'services'>,
): Promise<Announcement> {
  const peer = peerOfPublicKey(signer.publicKey)
  const bytes = await signEnvelope(signer, DOMAIN, encode({ expiresAt, peer, sequence, services }))
  assert(bytes.byteLength <= ANNOUNCEMENT_BYTES_MAX, 'an announcement that others would refuse')
  return { peer, sequence, expiresAt, services, bytes }
}

/**
 * Checks an announcement; undefined: it has expired, which is nobody's fault.
 * @param now Unix milliseconds
 */
export function openAnnouncement(bytes: Uint8Array, now: number): Announcement | PeerFault | undefined {
  if (bytes.byteLength > ANNOUNCEMENT_BYTES_MAX) return wrong('is too long')
  const opened = openEnvelope(DOMAIN, bytes)
  if ('code' in opened) return wrong(`is not signed as one (${opened.code})`)
  const body = decodeCanonical(schema, opened.payload)
  if (body === undefined) return wrong('does not parse')
  if (body.peer !== opened.peer) return wrong('was signed by another peer')
  if (body.expiresAt > now + ANNOUNCEMENT_LIFE_MS_MAX + CLOCK_SKEW_MS_MAX) return wrong('would be good for too long')
  if (body.expiresAt <= now) return undefined
  return { ...body, bytes }
}

/** Whether a service is what was asked for. */
export function isAnswerTo(service: Service, { service: name, model }: ServiceQuery): boolean {
  if (service.service !== name) return false
  if (model === undefined || service.modelName === model) return true
  return model.length >= 8 && service.model?.startsWith(model.toLowerCase()) === true
}

function wrong(what: string): PeerFault {
  return { code: 'DISCOVERY_ANNOUNCEMENT', what: `an announcement that ${what}` }
}
