/**
 * Asks peers to dial us, and believes what it sees: a nonce that nobody but the asked peer knows, on a connection that
 * came in from outside just now. A peer's word alone counts only where it says that it could not.
 */
import { type ByteStream, type Clock, messageOf, type Random, toHex, withDeadline } from '#base'
import type { Host, ProbeHandler } from '#net'
import { NONCE_BYTES, PROTOCOLS } from '#wire'
import { decodePlace, encodePlace, isPublicIp, type Place } from './address.ts'
import { decodeAnswer, encodeRequest, readAnswer, readNonce } from './dial-back-messages.ts'
import { ReachError } from './errors.ts'
import { DIAL_BACK_MS_MAX, DIAL_BACK_REQUEST_MS_MAX } from './limits.ts'

export type DialBackClientDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly host: Pick<Host, 'open'>
  /** Which addresses are of the internet. @default public ones */
  readonly isUsable?: (ip: string) => boolean
}

/** A peer that may be asked. */
export type Helper = { readonly peer: string; readonly ip: string }

type Awaited = {
  readonly helper: Helper
  readonly place: Place
  readonly seen: PromiseWithResolvers<'seen'>
}

export class DialBackClient {
  readonly #deps: DialBackClientDeps
  /** By the nonce as text. One entry for each question that is under way. */
  readonly #awaited = new Map<string, Awaited>()

  constructor(deps: DialBackClientDeps) {
    this.#deps = deps
  }

  /**
   * Asks one peer to dial one place. True: a nonce came in there. False: the peer says that it could not.
   * @throws ReachError REACH_DIAL_BACK_REFUSED where nothing follows from what happened; the signal's reason
   */
  async ask(helper: Helper, place: Place, options: { readonly signal: AbortSignal }): Promise<boolean> {
    const { clock, random } = this.#deps
    const nonce = random.bytes(NONCE_BYTES)
    const key = toHex(nonce)
    const awaited: Awaited = { helper, place, seen: Promise.withResolvers() }
    this.#awaited.set(key, awaited)
    const deadline = { what: 'a dial-back', timeoutMs: DIAL_BACK_MS_MAX, signal: options.signal }
    try {
      return await withDeadline(clock, deadline, async signal => {
        const answer = this.#outcome(helper, { place, nonce, signal })
        return (await Promise.race([awaited.seen.promise, answer])) === 'seen'
      })
    } catch (error) {
      if (options.signal.aborted || error instanceof ReachError) throw error
      throw refused(helper, messageOf(error), error)
    } finally {
      this.#awaited.delete(key)
    }
  }

  /** Takes the streams that dial-backs bring. */
  readonly onProbe: ProbeHandler = async (stream, from) => {
    const { clock } = this.#deps
    const deadline = { what: 'the nonce of a dial-back', timeoutMs: DIAL_BACK_REQUEST_MS_MAX }
    const nonce = await withDeadline(clock, deadline, () => readNonce(stream))
    const awaited = nonce === undefined ? undefined : this.#awaited.get(toHex(nonce))
    if (awaited !== undefined && this.#fits(awaited, stream, from)) awaited.seen.resolve('seen')
    await stream.close()
  }

  /**
   * Whether the peer that was asked comes by the way that was asked about, and from the internet: a peer that also has a
   * machine in our own network could come in there, which says nothing about the outside.
   */
  #fits({ helper, place }: Awaited, stream: ByteStream, from: Parameters<ProbeHandler>[1]): boolean {
    const { isUsable = isPublicIp } = this.#deps
    const source = decodePlace(from.address)
    if (stream.peer !== helper.peer || source === undefined || !isUsable(source.ip)) return false
    if (from.isPlane !== (place.transport === 'plane')) return false
    return from.isPlane || source.transport === place.transport
  }

  async #outcome(
    helper: Helper,
    asked: { readonly place: Place; readonly nonce: Uint8Array; readonly signal: AbortSignal },
  ): Promise<'failed'> {
    const { random, host } = this.#deps
    const { place, nonce, signal } = asked
    const stream = await host.open(helper.peer, PROTOCOLS.reach, { signal })
    const onAbort = (): void => stream.abort(new Error('the question is over'))
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      stream.send(encodeRequest(random, { address: encodePlace(place), plane: place.transport === 'plane', nonce }))
      const body = await readAnswer(stream)
      await stream.close()
      const outcome = body === undefined ? undefined : decodeAnswer(body)
      if (outcome === 'failed') return 'failed'
      // "dialled" without a nonce here: on its way still, or not true. The nonce has come first where all is well.
      throw refused(helper, outcome ?? 'no answer')
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }
}

function refused(helper: Helper, reason: string, cause?: unknown): ReachError {
  const fault = { code: 'REACH_DIAL_BACK_REFUSED', peer: helper.peer, reason } as const
  return new ReachError(fault, `the peer did not dial back: ${reason}`, { cause })
}
