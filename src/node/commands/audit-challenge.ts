/**
 * AUDIT_CHALLENGE: this node runs rows through its layers and answers with a digest of what came out, bound to a nonce
 * that it cannot have known before. Whoever has the same layers and the same numeric profile gets the same digest.
 *
 *   digest = SHA-256("koinon-audit/1" | nonce (32) | model id (32) | first u32 | last u32 | output rows, f32 LE)
 *
 * Integers are big-endian. Every part but the last has one length, so their borders are unambiguous.
 */
import { z } from 'zod'
import { concatBytes, fromHex, type LayerRange, toHex } from '#base'
import { sha256 } from '#crypto'
import { attachmentOfBytes, defineCommand, readAll } from '#protocol'
import { findModel } from '../model-library.ts'
import { AUDIT_DEADLINE_MS, AUDIT_ROWS_BYTES_MAX, AUDIT_ROWS_MAX } from '../limits.ts'
import { hashSchema, layersSchema, modelNameSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

const DOMAIN = new TextEncoder().encode('koinon-audit/1')

const request = z.object({
  model: modelNameSchema,
  /** A part of what is served here. Left out: all of it. */
  layers: layersSchema.optional(),
  /** Rows in the attachment, f32 little-endian: positions 0 to count - 1 of a generation. */
  count: z.int().min(1).max(AUDIT_ROWS_MAX),
  nonce: hashSchema,
  /** Send the computed rows too, as the attachment. */
  rows: z.boolean().default(false),
})

const response = z.object({
  model: hashSchema,
  layers: layersSchema,
  width: z.int(),
  profile: z.string(),
  digest: hashSchema,
})

/** What an AUDIT_PROOF must be for these output rows. */
function auditDigest(facts: {
  /** 64 hexadecimal digits. */
  readonly nonce: string
  /** Model id. */
  readonly model: string
  readonly layers: LayerRange
  readonly outputs: Uint8Array
}): string {
  const layers = new Uint8Array(8)
  const view = new DataView(layers.buffer)
  view.setUint32(0, facts.layers.first)
  view.setUint32(4, facts.layers.last)
  return toHex(sha256(concatBytes([DOMAIN, fromHex(facts.nonce), fromHex(facts.model), layers, facts.outputs])))
}

export function auditChallenge({ model, audit }: CommandServices) {
  return defineCommand({
    type: 42,
    name: 'AUDIT_CHALLENGE',
    answerName: 'AUDIT_PROOF',
    request,
    response,
    cost: 16,
    rate: { perSecond: 0.5, burst: 4 },
    right: 'member',
    deadlineMs: AUDIT_DEADLINE_MS,
    priority: 'low',
    attachmentBytesMax: AUDIT_ROWS_BYTES_MAX,
    handle: async ({ model: name, layers, count, nonce, rows }, { signal, attachment }) => {
      const { id } = findModel([model], name)
      const whole = { maxBytes: AUDIT_ROWS_BYTES_MAX, signal }
      const given = attachment === undefined ? new Uint8Array(0) : await readAll(attachment, whole)
      const result = await audit({ layers, count, rows: given }, { signal })
      const { outputs } = result
      const digest = auditDigest({ nonce, model: id, layers: result.layers, outputs })
      const body = { model: id, layers: result.layers, width: result.width, profile: result.profile, digest }
      return rows ? { body, attachment: attachmentOfBytes(outputs) } : { body }
    },
  })
}
