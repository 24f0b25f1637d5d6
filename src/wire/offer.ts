/**
 * What a node tells its peers about itself: machine, wishes and the stages that it serves. Peers send it, so every
 * field is checked and bounded here before anything uses it.
 */
import { z } from 'zod'
import { OFFER_STAGES_MAX, PEER_ADDRESSES_MAX, REGION_CHARS_MAX } from './limits.ts'

const modelId = z.string().regex(/^[0-9a-f]{64}$/)
const layers = z
  .object({ first: z.int().min(0).max(9_999), last: z.int().min(1).max(10_000) })
  .refine(range => range.first < range.last, 'first must be below last')

/** A stage that a peer serves now. */
const stageOfferSchema = z.object({
  /** Model id: SHA-256 of the canonical core, 64 hexadecimal digits. */
  model: modelId,
  /** The model's own name, for people. */
  name: z.string().max(200),
  architecture: z.string().max(40),
  layers,
  /** How many layers the whole model has. */
  layerCount: z.int().min(1).max(10_000),
  /** Width of a hidden row, in numbers. */
  width: z.int().min(1).max(1_000_000),
  /** Positions that one generation may use. */
  contextMax: z.int().min(1).max(10_000_000),
  /** How many generations fit at once, and how many more fit now. */
  slots: z.int().min(1).max(1_024),
  slotsFree: z.int().min(0).max(1_024),
  /** Numeric profile: engine version, CPU variant or GPU, buffer types, threads, KV and wire types. */
  profile: z.string().max(200),
  /** Measured time of a one-row step through these layers, in milliseconds. */
  stepMs: z.number().min(0).max(1e7),
})
export type StageOffer = z.infer<typeof stageOfferSchema>

/** A node's whole offer. */
export const nodeOfferSchema = z.object({
  agent: z.string().max(80),
  /** Where the node can be dialled: multiaddrs that end in its peer id. */
  addresses: z.array(z.string().max(300)).max(PEER_ADDRESSES_MAX),
  /** TCP port of the node's data plane, at the addresses where it is reached itself; without one, streams go over libp2p. */
  planePort: z.int().min(1).max(65_535).optional(),
  /** Set while the node relays: places for reservations, and how many are free. The region is a hint of its owner. */
  relay: z
    .object({
      slots: z.int().min(0).max(65_535),
      slotsFree: z.int().min(0).max(65_535),
      region: z.string().max(REGION_CHARS_MAX).optional(),
    })
    .optional(),
  /** Solution of the node's id puzzle: 8 bytes in hexadecimal digits. */
  puzzle: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .optional(),
  /** UDP port of the node's STUN server, at the addresses where it is reached itself; public nodes have one. */
  stunPort: z.int().min(1).max(65_535).optional(),
  /** Memory that the node gives to weights and KV, in bytes. */
  memoryBytes: z
    .number()
    .int()
    .min(0)
    .max(2 ** 50),
  /** Positions of KV that the node keeps room for on each of its layers: slots times context. */
  kvPositions: z
    .int()
    .min(0)
    .max(2 ** 40)
    .optional(),
  threads: z.int().min(1).max(4_096),
  /** Measured: bytes of weights that a one-row step reads in a second. */
  weightBytesPerSecond: z.number().min(0).max(1e15),
  /** Set while the node waits for its share of this model (automatic placement). */
  placing: modelId.optional(),
  stages: z.array(stageOfferSchema).max(OFFER_STAGES_MAX),
})
export type NodeOffer = z.infer<typeof nodeOfferSchema>
