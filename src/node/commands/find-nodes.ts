/**
 * FIND_NODES: peers of this node, those nearest to an id first. Nearness is that of Mainline DHT: the exclusive or of
 * stable ids, which are SHA-1 of the Ed25519 public key.
 */
import { z } from 'zod'
import { fromHex, toHex } from '#base'
import { publicKeyOfPeer, sha1 } from '#crypto'
import { defineCommand } from '#protocol'
import { FOUND_NODES_MAX, LOOK_UP_DEADLINE_MS } from '../limits.ts'
import { addressesSchema, peerSchema, stageSchema } from './schemas.ts'
import type { CommandServices, KnownNode } from './services.ts'
import { toStageFacts } from './stage-facts.ts'

const stableId = z.string().regex(/^[0-9a-f]{40}$/)

const request = z.object({
  /** A peer id, or a stable id of 40 hexadecimal digits. Left out: in no particular order. */
  target: z.union([stableId, peerSchema]).optional(),
  /** Only nodes that serve layers of this: a model's id or name, or an architecture. */
  service: z.string().min(1).max(300).optional(),
  count: z.int().min(1).max(FOUND_NODES_MAX).default(FOUND_NODES_MAX),
})

const response = z.object({
  nodes: z
    .array(
      z.object({
        peer: z.string(),
        stable_id: stableId,
        addresses: addressesSchema,
        agent: z.string(),
        stages: z.array(stageSchema),
      }),
    )
    .max(FOUND_NODES_MAX),
})

export function findNodes({ peers }: CommandServices) {
  return defineCommand({
    type: 36,
    name: 'FIND_NODES',
    request,
    response,
    cost: 2,
    rate: { perSecond: 2, burst: 10 },
    right: 'guest',
    deadlineMs: LOOK_UP_DEADLINE_MS,
    priority: 'normal',
    handle: async ({ target, service, count }, { caller }) => {
      const known = peers().flatMap(node => {
        const id = stableIdOf(node.id)
        return id === undefined || node.id === caller.peer || !serves(node, service) ? [] : [{ node, id }]
      })
      const wanted = target === undefined ? undefined : targetId(target)
      if (wanted !== undefined) known.sort((a, b) => compareDistance(wanted, a.id, b.id))
      const nodes = known.slice(0, count).map(({ node, id }) => ({
        peer: node.id,
        stable_id: toHex(id),
        addresses: [...node.addresses],
        agent: node.offer.agent,
        stages: node.offer.stages.map(toStageFacts),
      }))
      return { body: { nodes } }
    },
  })
}

/** The id under which a node can be found: SHA-1 of its public key, 20 bytes. */
function stableIdOf(peer: string): Uint8Array | undefined {
  const key = publicKeyOfPeer(peer)
  return key === undefined ? undefined : sha1(key)
}

function targetId(target: string): Uint8Array | undefined {
  return stableIdOf(target) ?? fromHex(target)
}

function compareDistance(target: Uint8Array, a: Uint8Array, b: Uint8Array): number {
  for (const [i, byte] of target.entries()) {
    const difference = ((a[i] ?? 0) ^ byte) - ((b[i] ?? 0) ^ byte)
    if (difference !== 0) return difference
  }
  return 0
}

function serves({ offer }: KnownNode, service: string | undefined): boolean {
  if (service === undefined) return true
  return offer.stages.some(({ model, name, architecture }) => [model, name, architecture].includes(service))
}
