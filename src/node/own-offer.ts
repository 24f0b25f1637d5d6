/** What this node offers to its peers, put together from its parts whenever it is asked for. */
import { availableMemory } from 'node:process'
import type { Host } from '#net'
import type { Pipeline } from '#pipeline'
import { formatBytes } from '#base'
import { AGENT, type NodeOffer, PEER_ADDRESSES_MAX } from '#wire'
import { NodeError } from './errors.ts'
import { MEMORY_SHARE } from './limits.ts'
import type { LocalModel } from './model-library.ts'
import type { OwnStage } from './own-stage.ts'
import type { NodeConfig } from './types.ts'

/** What is offered once the node knows which model it serves. */
export type Offered = {
  readonly pipeline: Pick<Pipeline, 'stages' | 'entry'>
  readonly stage: OwnStage | undefined
  /** What does not change while the node runs: other nodes plan with it. */
  readonly fixed: Pick<NodeOffer, 'memoryBytes' | 'kvPositions'>
}

/** What placement and loading find out. */
export type Found = {
  placing?: string
  weightBytesPerSecond: number
  stunPort?: () => number | undefined
  puzzle?: () => string | undefined
}

export type OfferParts = {
  readonly host: Pick<Host, 'addresses'>
  /** Undefined: nothing yet, and nobody plans with this node. */
  readonly offered: Offered | undefined
  readonly threads: number
  readonly found: Found
}

export function makeOffer({ host, offered, threads, found }: OfferParts): NodeOffer {
  const [stunPort, puzzle] = [found.stunPort?.(), found.puzzle?.()]
  const stage = offered?.stage?.offer(offered.pipeline.stages.slotsFree())
  return {
    agent: AGENT,
    addresses: host.addresses().slice(0, PEER_ADDRESSES_MAX),
    ...(stunPort === undefined ? {} : { stunPort }),
    ...(puzzle === undefined ? {} : { puzzle }),
    ...(offered === undefined ? { memoryBytes: 0, kvPositions: 0 } : offered.fixed),
    threads,
    // Whole numbers: every node must plan with exactly the same ones.
    weightBytesPerSecond: Math.round(found.weightBytesPerSecond),
    ...(found.placing === undefined ? {} : { placing: found.placing }),
    stages: stage === undefined ? [] : [stage],
  }
}

/**
 * Memory for this node's layers: what it may take less what the edges need.
 * @throws NodeError NODE_DOES_NOT_FIT where not even the edges fit
 */
export function memoryForLayers(config: Pick<NodeConfig, 'memoryMax'>, model: Pick<LocalModel, 'edgeBytes'>): number {
  const budget = Math.floor(config.memoryMax ?? availableMemory() * MEMORY_SHARE)
  const left = budget - model.edgeBytes
  if (left >= 0) return left
  throw new NodeError(
    { code: 'NODE_DOES_NOT_FIT', missingBytes: -left },
    `embedding and output head need ${formatBytes(model.edgeBytes)}, but the node may only take ${formatBytes(budget)}; allow more memory or take a smaller model`,
  )
}
