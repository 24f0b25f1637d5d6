/**
 * One punch, as both sides speak it. Who starts is the caller:
 *
 *     caller                              callee
 *     connect  ─────────────────────────►
 *              ◄───────────────────────── connect        both know now which ways to try, in which order
 *     offer    ─────────────────────────►                before each attempt; each side sends its own
 *              ◄───────────────────────── offer           as soon as it is prepared
 *     ping     ─────────────────────────►
 *              ◄───────────────────────── pong           the round trip on this very stream
 *     sync     ─────────────────────────►                the callee dials at once,
 *                                                        the caller after half a round trip
 *     result   ◄────────────────────────► result         joined on both sides: done; else the next attempt
 *
 * Whether an attempt can work follows from both offers, so both sides go on, or to the next way, without a word.
 */
import { type Clock, type Logger, messageOf, sleep, withDeadline } from '#base'
import type { PunchMethod } from '#wire'
import type { PunchTalk } from './talk.ts'
import type { PreparedWay, PunchConnect, PunchContext, PunchOffer, PunchRole, PunchWay } from './types.ts'

export type ConversationDeps = {
  readonly clock: Clock
  readonly log: Logger
  /** Our own peer id. */
  readonly self: string
  readonly ways: readonly PunchWay[]
  /** What we say of ourselves. */
  readonly connect: PunchConnect
}

/** The way that led to a joined session. @throws NetError NET_PUNCH_FAILED; StreamError; the signal's reason */
export async function converse(
  deps: ConversationDeps,
  talk: PunchTalk,
  options: { readonly role: PunchRole; readonly theirs?: PunchConnect; readonly signal: AbortSignal },
): Promise<PunchMethod> {
  const { role, signal } = options
  const { connect: ours, self, ways } = deps
  talk.send(ours)
  const theirs = options.theirs ?? (await talk.next(['connect'], { signal }))
  for (const way of ways) {
    const isOutbound = speaksFirst(way.method, { ours, theirs, isSmaller: self < talk.peer })
    if (isOutbound === undefined) continue
    const context = { peer: talk.peer, role, isOutbound, signal }
    for (let attempt = 0; attempt < way.attemptsMax; attempt++) {
      const result = await attemptOnce(deps, talk, { way, attempt, context })
      if (result === 'joined') return way.method
      if (result === 'cannot') break
    }
  }
  throw talk.failure('no-way')
}

type Attempt = { readonly way: PunchWay; readonly attempt: number; readonly context: PunchContext }

async function attemptOnce(
  deps: ConversationDeps,
  talk: PunchTalk,
  { way, attempt, context }: Attempt,
): Promise<'joined' | 'failed' | 'cannot'> {
  const { log } = deps
  const { signal } = context
  const prepared = await way.prepare(context).catch((error: unknown) => {
    signal.throwIfAborted()
    log.debug('a direct connection was not prepared', { method: way.method, error: messageOf(error) })
    return undefined
  })
  try {
    talk.send(prepared?.offer ?? { type: 'offer' })
    const theirs = await talk.next(['offer'], { signal })
    if (prepared?.can(theirs, attempt) !== true) {
      const mappings = [prepared?.offer.tcp?.mapping, theirs.tcp?.mapping]
        .map(mapping => mapping ?? 'nothing')
        .join(', ')
      log.debug('a way to a direct connection cannot work', { method: way.method, attempt, mappings })
      return 'cannot'
    }
    await meet(deps, talk, context)
    const isJoined = await join(deps, prepared, { way, attempt, context, theirs })
    talk.send({ type: 'result', isJoined })
    const result = await talk.next(['result'], { timeoutMs: way.joinMsMax + RESULT_MS, signal })
    log.debug('an attempt at a direct connection', { method: way.method, attempt, isJoined, other: result.isJoined })
    return isJoined && result.isJoined ? 'joined' : 'failed'
  } finally {
    prepared?.release()
  }
}

/** How much later than ours the other side's result may come, beside the attempt itself. */
const RESULT_MS = 5_000

/** Both leave it at about the same moment. */
async function meet(
  { clock }: ConversationDeps,
  talk: PunchTalk,
  { role, signal }: Pick<PunchContext, 'role' | 'signal'>,
): Promise<void> {
  if (role === 'callee') {
    await talk.next(['ping'], { signal })
    talk.send({ type: 'pong' })
    await talk.next(['sync'], { signal })
    return
  }
  const sentAt = clock.monotonic()
  talk.send({ type: 'ping' })
  await talk.next(['pong'], { signal })
  const rttMs = clock.monotonic() - sentAt
  talk.send({ type: 'sync' })
  await sleep(clock, rttMs / 2, { signal })
}

async function join(
  { clock, log }: ConversationDeps,
  prepared: PreparedWay,
  { way, attempt, context, theirs }: Attempt & { readonly theirs: PunchOffer },
): Promise<boolean> {
  const deadline = { what: 'a direct connection', timeoutMs: way.joinMsMax, signal: context.signal }
  try {
    await withDeadline(clock, deadline, signal => prepared.join(theirs, { attempt, signal }))
    return true
  } catch (error) {
    context.signal.throwIfAborted()
    log.debug('an attempt at a direct connection failed', { method: way.method, attempt, error: messageOf(error) })
    return false
  }
}

/** Undefined where the two cannot go that way at all. Both sides come to opposite answers. */
function speaksFirst(
  method: PunchMethod,
  facts: { readonly ours: PunchConnect; readonly theirs: PunchConnect; readonly isSmaller: boolean },
): boolean | undefined {
  const { ours, theirs, isSmaller } = facts
  if (!ours.methods.includes(method) || !theirs.methods.includes(method)) return undefined
  if (method === 'tcp') return isSmaller
  const kinds = [ours.nat, theirs.nat]
  if (kinds.includes('blocked') || kinds.every(kind => kind === 'symmetric')) return undefined
  if (ours.listensQuic && theirs.listensQuic) return isSmaller
  return ours.listensQuic || theirs.listensQuic ? theirs.listensQuic : undefined
}
