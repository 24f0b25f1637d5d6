/**
 * The channels of one session: their numbers and the secrets that their keys are made of.
 *
 * Each side has a chain of secrets for the channels that it opens: one step gives the two direction secrets of the next
 * number and the chain's next link, and the link before is forgotten. So every number has one channel in the life of the
 * chain, and whoever takes the memory later finds nothing that opens a channel which has ended.
 */
import { assert, concatBytes } from '#base'
import { AEAD_KEY_BYTES, hkdfSha256 } from '#crypto'
import { CHANNELS_AHEAD_MAX } from './limits.ts'
import { SessionError } from './session-errors.ts'

export type SessionRole = 'dialler' | 'listener'

/** 32 bytes each, by who sends. */
export type ChannelSecrets = { readonly dialler: Uint8Array; readonly listener: Uint8Array }

const CHAIN_INFO: Readonly<Record<SessionRole, Uint8Array>> = {
  dialler: new TextEncoder().encode('koinon/channels/1 dialler'),
  listener: new TextEncoder().encode('koinon/channels/1 listener'),
}
const CHANNEL_INFO = new TextEncoder().encode('koinon/channel/1')
const NUMBER_MAX = 0xffff_ffff

/** The numbers that one side opens. */
export class ChannelChain {
  readonly #session: Uint8Array
  #link: Uint8Array
  #next: number
  /** Numbers that were overtaken, and their secrets. */
  readonly #skipped = new Map<number, ChannelSecrets>()

  /**
   * @param options.opener who opens the channels of this chain
   * @param options.secrets of the session's two directions, 32 bytes each; they are not kept
   */
  constructor(options: {
    readonly opener: SessionRole
    readonly session: Uint8Array
    readonly secrets: ChannelSecrets
  }) {
    const { opener, session, secrets } = options
    this.#session = session
    this.#next = opener === 'dialler' ? 1 : 2
    const both = concatBytes([secrets.dialler, secrets.listener])
    this.#link = hkdfSha256(both, session, CHAIN_INFO[opener], AEAD_KEY_BYTES)
    both.fill(0)
  }

  /** Takes the next number. For channels that we open. @throws SessionError when there is none left */
  take(): { readonly number: number; readonly secrets: ChannelSecrets } {
    if (this.#next > NUMBER_MAX) {
      throw new SessionError({ code: 'PROTOCOL_SESSION_EXHAUSTED' }, 'the session has used up its channels: resume it')
    }
    const number = this.#next
    const [step] = this.#steps(number)
    assert(step !== undefined, 'there is a step to the next number')
    this.#link = step.link
    this.#next = number + 2
    return { number, secrets: step.secrets }
  }

  /**
   * The secrets of a number that the other side says it opens. Nothing changes before `commit`, which is called once a
   * frame has proved that the other side has them. Undefined: another side's number, one that was used or given up, or
   * one further ahead than streams overtake one another.
   */
  find(number: number): { readonly secrets: ChannelSecrets; readonly commit: () => void } | undefined {
    const skipped = this.#skipped.get(number)
    if (skipped !== undefined) return { secrets: skipped, commit: () => void this.#skipped.delete(number) }
    const isOurs = number % 2 === this.#next % 2 && number <= NUMBER_MAX
    if (!isOurs || number < this.#next || number > this.#next + 2 * CHANNELS_AHEAD_MAX) return undefined
    const steps = this.#steps(number)
    const last = steps.pop()
    assert(last !== undefined, 'there is a step to a number ahead')
    const commit = (): void => {
      for (const step of steps) this.#skipped.set(step.number, step.secrets)
      for (const oldest of this.#skipped.keys()) {
        if (this.#skipped.size <= CHANNELS_AHEAD_MAX) break
        this.#skipped.delete(oldest)
      }
      this.#link = last.link
      this.#next = number + 2
    }
    return { secrets: last.secrets, commit }
  }

  close(): void {
    this.#link = new Uint8Array(0)
    this.#next = NUMBER_MAX + 1
    this.#skipped.clear()
  }

  #steps(to: number): Step[] {
    const steps: Step[] = []
    let link = this.#link
    for (let number = this.#next; number <= to; number += 2) {
      const info = new Uint8Array(CHANNEL_INFO.byteLength + 4)
      info.set(CHANNEL_INFO)
      new DataView(info.buffer).setUint32(CHANNEL_INFO.byteLength, number)
      const bytes = hkdfSha256(link, this.#session, info, 3 * AEAD_KEY_BYTES)
      link = bytes.slice(0, AEAD_KEY_BYTES)
      steps.push({
        number,
        link,
        secrets: {
          dialler: bytes.slice(AEAD_KEY_BYTES, 2 * AEAD_KEY_BYTES),
          listener: bytes.slice(2 * AEAD_KEY_BYTES),
        },
      })
    }
    return steps
  }
}

type Step = { readonly number: number; readonly link: Uint8Array; readonly secrets: ChannelSecrets }
