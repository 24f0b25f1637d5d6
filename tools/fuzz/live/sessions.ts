/**
 * Messages of an established session, against a running node: they carry the right signature and seal, so that what is in
 * them reaches schemas, dispatcher and handlers.
 */
import assert from 'node:assert/strict'
import { Refusal } from '#protocol'
import { CONTROL_SCHEMAS, decodeBody, encodeBody, errorSchema, FRAME_TYPES } from '#wire'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import type { FuzzContext, Fuzzer, Outcome, Target } from '../lib/fuzzer.ts'
import { body, COMMANDS, MESSAGE_TYPES, obeyed } from '../pure/bodies.ts'
import { type Attacker, isGone } from './attacker.ts'
import { Pool } from './pool.ts'

const PONG_ID = 0xf0_0000
const MESSAGES_MAX = 6
const COMMAND_TYPES = COMMANDS.map(({ type }) => type)
/** What nobody sends, or not there. */
const OTHER_TYPES = [0, 1, 2, 3, 5, 6, 13, 20, 31, 43, 63, 64, 127]

export const liveSessions: Fuzzer = { name: 'live-sessions', kind: 'live', corpusOf: 'bodies', open }

async function open({ node, corpus }: FuzzContext): Promise<Target> {
  const live = await node()
  const pool = new Pool(live)
  let pongs = 0
  const say = async (attacker: Attacker, inputs: readonly Uint8Array[]): Promise<Outcome> => {
    for (const input of inputs) attacker.say((input[0] ?? 0) & 0x7f, input.subarray(1))
    return answered(attacker, PONG_ID + (pongs++ % 0xffff))
  }
  const make = (chance: Chance): Uint8Array =>
    chance.isOneIn(3)
      ? obeyed(chance, live.model)
      : body(chance, { types: chance.pick([COMMAND_TYPES, COMMAND_TYPES, MESSAGE_TYPES, OTHER_TYPES]), corpus })
  return {
    run: chance => {
      const inputs = Array.from({ length: chance.between(1, MESSAGES_MAX) }, () => make(chance))
      return pool.use(chance, attacker => say(attacker, inputs))
    },
    check: input => pool.use(new Chance(seedOfBytes(input)), attacker => say(attacker, [input])),
    settle: async () => {
      await pool.close()
      await live.verify()
    },
    close: () => pool.close(),
  }
}

/** Reads until the pong, or until the node has cut the link. A node that does neither hangs. */
export async function answered(attacker: Attacker, id: number): Promise<Outcome> {
  const { control } = attacker
  if (control === undefined) return 'cut at once'
  attacker.say(FRAME_TYPES.ping, encodeBody({ id }))
  let said = 'nothing'
  try {
    for (;;) {
      const { type, body } = await control.next()
      said = answerIn(type, body) ?? said
      if (type !== FRAME_TYPES.pong) continue
      const pong = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.pong], body)
      assert.ok('body' in pong, 'a pong that cannot be read')
      if (pong.body.id === id) return said
    }
  } catch (error) {
    if (!isGone(error)) throw error
    assert.equal(control.link.state, 'closed', 'the node answers nothing and cuts nothing')
    const reason = await control.ended
    return reason instanceof Refusal ? reason.fault.reason : 'cut'
  }
}

/** What a request was answered with. */
function answerIn(type: number, body: Uint8Array): Outcome | undefined {
  if (type === FRAME_TYPES.response) return 'a response'
  if (type === FRAME_TYPES.event) return 'an event'
  if (type !== FRAME_TYPES.error) return undefined
  const error = decodeBody(errorSchema, body)
  assert.ok('body' in error, 'an error that cannot be read')
  assert.notEqual(error.body.code, 'PROTOCOL_INTERNAL', error.body.message)
  return error.body.code
}
