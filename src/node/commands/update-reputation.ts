/**
 * UPDATE_REPUTATION: a peer says what it thinks of another one. The rater is whoever the connection has proved the caller
 * to be, so nobody can speak for another; nobody can rate itself.
 */
import { z } from 'zod'
import { defineCommand } from '#protocol'
import { CommandError } from './errors.ts'
import { COMMENT_CHARS_MAX, LOOK_UP_DEADLINE_MS } from '../limits.ts'
import { peerSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

const request = z.object({
  peer: peerSchema,
  /** -1 (bad) to 1 (good). */
  score: z.number().min(-1).max(1),
  comment: z.string().max(COMMENT_CHARS_MAX).optional(),
})

export function updateReputation({ ratings, now }: CommandServices) {
  return defineCommand({
    type: 35,
    name: 'UPDATE_REPUTATION',
    request,
    response: z.object({ peer: z.string(), score: z.number().nullable(), count: z.int() }),
    cost: 2,
    rate: { perSecond: 0.5, burst: 10 },
    right: 'member',
    deadlineMs: LOOK_UP_DEADLINE_MS,
    priority: 'low',
    handle: async ({ peer, score, comment = '' }, { caller }) => {
      const isOwn = peer === caller.peer
      if (isOwn || !ratings.rate({ rater: caller.peer, subject: peer, score, comment, at: now() })) {
        const message = isOwn ? 'a peer cannot rate itself' : 'the rating was not taken: of a key of its own, or older'
        throw new CommandError({ code: 'NODE_RATING_REFUSED' }, message)
      }
      const { mean, count } = ratings.of(peer)
      return { body: { peer, score: mean ?? null, count } }
    },
  })
}
