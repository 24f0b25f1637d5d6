/** GET_CAPABILITIES: what this node is, speaks, serves and answers. */
import { z } from 'zod'
import { defineCommand } from '#protocol'
import { AGENT, CIPHER_SUITES, PROTOCOL_VERSIONS } from '#wire'
import { LOOK_UP_DEADLINE_MS } from '../limits.ts'
import { addressesSchema, hashSchema, stageSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'
import { toStageFacts } from './stage-facts.ts'

const response = z.object({
  peer: z.string(),
  agent: z.string(),
  addresses: addressesSchema,
  protocol_versions: z.array(z.int()),
  cipher_suites: z.array(z.string()),
  capabilities: z.array(z.string()),
  commands: z.array(z.object({ name: z.string(), type: z.int(), right: z.string() })),
  /** The model that prompts can enter with here, whether layers of it are served here or not. */
  models: z.array(
    z.object({
      id: hashSchema,
      name: z.string(),
      architecture: z.string(),
      layer_count: z.int(),
      /** Positions that it was trained for. */
      context_trained: z.int(),
      stages: z.array(stageSchema),
    }),
  ),
  /** Bytes that the node gives to weights and KV rows of its layers. */
  memory_bytes: z.int().min(0),
  threads: z.int().min(1),
  /** Generations that its stages could take now. */
  slots_free: z.int().min(0),
})

export function getCapabilities({ self, model, capabilities, commands, ownOffer }: CommandServices) {
  return defineCommand({
    type: 32,
    name: 'GET_CAPABILITIES',
    request: z.object({}),
    response,
    cost: 1,
    rate: { perSecond: 5, burst: 20 },
    right: 'guest',
    deadlineMs: LOOK_UP_DEADLINE_MS,
    priority: 'normal',
    handle: async () => {
      const offer = ownOffer()
      const stages = offer.stages.map(toStageFacts)
      return {
        body: {
          peer: self,
          agent: AGENT,
          addresses: offer.addresses,
          protocol_versions: [...PROTOCOL_VERSIONS],
          cipher_suites: [...CIPHER_SUITES],
          capabilities: [...capabilities],
          commands: commands().map(({ name, type, right }) => ({ name, type, right })),
          models: [
            {
              id: model.id,
              name: model.name,
              architecture: model.config.architecture,
              layer_count: model.config.layerCount,
              context_trained: model.config.contextTrain,
              stages: stages.filter(stage => stage.model === model.id),
            },
          ],
          memory_bytes: offer.memoryBytes,
          threads: offer.threads,
          slots_free: stages.reduce((sum, stage) => sum + stage.slots_free, 0),
        },
      }
    },
  })
}
