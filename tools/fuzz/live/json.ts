/** Peers of `/json-message/1.0` that send what is no message, no command, or no honest one, to a running node. */
import { PROTOCOLS, withLengthPrefix } from '#wire'
import type { RawConnection } from '../../../test/support/raw-peer.ts'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { type FuzzContext, type Fuzzer, type Outcome, type Target, within } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'
import { jsonBody } from '../pure/json-messages.ts'
import { isGone } from './attacker.ts'

const MESSAGES_MAX = 6
const SILENCE_MS = 150

export const liveJson: Fuzzer = { name: 'live-json', kind: 'live', corpusOf: 'json-messages', open }

async function open({ node, corpus }: FuzzContext): Promise<Target> {
  const live = await node()
  const attack = async (chance: Chance, messages: readonly Uint8Array[]): Promise<Outcome> => {
    const attacker = await live.attacker(chance)
    try {
      return await talk(chance, await attacker.dial(), messages)
    } catch (error) {
      if (isGone(error)) return 'cut'
      throw error
    } finally {
      await attacker.stop()
    }
  }
  return {
    run: chance => {
      const bodies = Array.from({ length: chance.between(1, MESSAGES_MAX) }, () => jsonBody(chance, corpus))
      const messages = bodies.map(withLengthPrefix)
      return attack(
        chance,
        messages.map(bytes => (chance.isOneIn(12) ? mutateBytes(chance, bytes) : bytes)),
      )
    },
    check: input => attack(new Chance(seedOfBytes(input)), [withLengthPrefix(input)]),
    settle: () => live.verify(),
  }
}

async function talk(chance: Chance, raw: RawConnection, messages: readonly Uint8Array[]): Promise<Outcome> {
  const json = await raw.stream(PROTOCOLS.json)
  let answers = 0
  try {
    for (const message of messages) for (const piece of cut(chance, message)) json.send(piece)
    if (chance.isOneIn(2)) json.close().catch(() => undefined) // Says that no more comes, and waits for answers.
    const pieces = json.received[Symbol.asyncIterator]()
    for (; answers < 100; answers++) {
      if ((await within('an answer', SILENCE_MS, pieces.next())).done === true)
        return `ended after ${Math.min(answers, 3)}`
    }
  } catch (error) {
    if (!isGone(error)) throw error
  } finally {
    raw.connection.abort(new Error('the attack is over'))
  }
  return `silent after ${Math.min(answers, 3)}`
}
