/** LOAD_SHARD: this node's stage takes other layers, and offers them. For peers that the node's owner trusts. */
import { z } from 'zod'
import { defineCommand } from '#protocol'
import { findModel } from '../model-library.ts'
import { LOAD_DEADLINE_MS } from '../limits.ts'
import { layersSchema, modelNameSchema, stageSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'
import { toStageFacts } from './stage-facts.ts'

const request = z.object({
  model: modelNameSchema,
  layers: layersSchema,
  /** End the generations that run on the stage; without it they are a reason to refuse. */
  force: z.boolean().default(false),
})

export function loadShard({ model, loadShard: load, ownOffer }: CommandServices) {
  return defineCommand({
    type: 40,
    name: 'LOAD_SHARD',
    request,
    response: z.object({ stages: z.array(stageSchema) }),
    cost: 32,
    rate: { perSecond: 0.1, burst: 3 },
    right: 'trusted',
    deadlineMs: LOAD_DEADLINE_MS,
    priority: 'low',
    handle: async ({ model: name, layers, force }, { caller, signal }) => {
      findModel([model], name)
      await load({ layers, force, by: caller.peer }, { signal })
      return { body: { stages: ownOffer().stages.map(toStageFacts) } }
    },
  })
}
