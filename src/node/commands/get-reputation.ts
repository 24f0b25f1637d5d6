/** GET_REPUTATION: what others have said about a peer, and what this node has counted itself. */
import { z } from 'zod'
import { defineCommand } from '#protocol'
import { LOOK_UP_DEADLINE_MS } from '../limits.ts'
import { peerSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

const count = z.int().min(0)

const response = z.object({
  peer: z.string(),
  /** Mean of all ratings, -1 to 1; null: nobody has rated the peer. */
  score: z.number().min(-1).max(1).nullable(),
  /** Ratings that the score is made of. */
  count,
  /** What became of this node's own requests to the peer. */
  own: z.object({ served: count, failed: count, refused: count }),
  /** The newest first. */
  ratings: z.array(z.object({ rater: z.string(), score: z.number(), comment: z.string(), at: count })),
})

export function getReputation({ ratings }: CommandServices) {
  return defineCommand({
    type: 34,
    name: 'GET_REPUTATION',
    request: z.object({ peer: peerSchema }),
    response,
    cost: 1,
    rate: { perSecond: 5, burst: 20 },
    right: 'member',
    deadlineMs: LOOK_UP_DEADLINE_MS,
    priority: 'normal',
    handle: async ({ peer }) => {
      const found = ratings.of(peer)
      const shown = found.ratings.map(({ rater, score, comment, at }) => ({ rater, score, comment, at }))
      return {
        body: { peer, score: found.mean ?? null, count: found.count, own: { ...found.own }, ratings: shown },
      }
    },
  })
}
