/**
 * What comes before a session, against a running node: bytes that are no frames, HELLOs and handshakes that were changed,
 * left out, repeated, and HELLOs whose signature holds and whose content does not.
 */
import { encode } from '@ipld/dag-cbor'
import { publicKeyOfPeer } from '#crypto'
import { Refusal, signFrame } from '#protocol'
import { CONTROL_SCHEMAS, decodeBody, type Frame, FRAME_TYPES, FrameReader, SESSION_ID_BYTES } from '#wire'
import type { RawConnection, RawControl, Tamper } from '../../../test/support/raw-peer.ts'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { type FuzzContext, type Fuzzer, type Outcome, type Target, within } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'
import { mutateValue } from '../lib/mutate-value.ts'
import { frame as anyFrame } from '../pure/frames.ts'
import { type Attacker, isGone } from './attacker.ts'
import type { LiveNode } from './live-node.ts'

/** A node that waits for the rest of a message waits longer than an attack is interesting. */
const SILENCE_MS = 400

export const liveHellos: Fuzzer = { name: 'live-hellos', kind: 'live', corpusOf: 'frames', open }

async function open({ node, corpus }: FuzzContext): Promise<Target> {
  const live = await node()
  const attack = (chance: Chance, tamperOf: (attacker: Attacker) => Tamper): Promise<Outcome> =>
    withAttacker(live, chance, async attacker => {
      // Who has been here before can try to resume.
      if (chance.isOneIn(3) && (await attacker.join())) attacker.leave()
      const connection = await attacker.dial()
      const control = await attacker.link(connection, { tamper: tamperOf(attacker) })
      return endOf(control, connection)
    })
  return {
    run: chance => attack(chance, attacker => tamper(chance, { attacker, live, corpus })),
    check: input => attack(new Chance(seedOfBytes(input)), () => (_, index) => (index === 0 ? [input] : [])),
    settle: () => live.verify(),
  }
}

async function withAttacker(
  live: LiveNode,
  chance: Chance,
  action: (attacker: Attacker) => Promise<Outcome>,
): Promise<Outcome> {
  const attacker = await live.attacker(chance)
  try {
    return await action(attacker)
  } catch (error) {
    if (isGone(error)) return 'cut'
    throw error
  } finally {
    await attacker.stop()
  }
}

async function endOf(control: RawControl, { connection }: RawConnection): Promise<Outcome> {
  const ended = control.ended.then(error =>
    error instanceof Refusal ? `${error.fault.by} ${error.fault.reason}` : 'cut',
  )
  try {
    return await within('the end', SILENCE_MS, ended)
  } catch {
    return control.link.state
  } finally {
    connection.abort(new Error('the attack is over'))
  }
}

type Parts = { readonly attacker: Attacker; readonly live: LiveNode; readonly corpus: readonly Uint8Array[] }

/** Changes one of the frames that our side sends. */
function tamper(chance: Chance, parts: Parts): Tamper {
  const at = chance.pick([0, 0, 1, 1, 2, 3])
  const said: Uint8Array[] = []
  const change = chance.pick<Tamper>([
    bytes => [mutateBytes(chance, bytes, parts.corpus)],
    bytes => cut(chance, mutateBytes(chance, bytes, said)),
    bytes => [bytes, bytes],
    () => [],
    () => [chance.pick(said)],
    () => [anyFrame(chance), anyFrame(chance)],
    bytes => [bytes.with(3, chance.below(256))],
    async bytes => [await signedAnew(chance, bytes, { ...parts, hello: said[0] ?? bytes })],
    async bytes => [await signedAnew(chance, bytes, { ...parts, hello: said[0] ?? bytes })],
    async bytes => [bytes, await signedAnew(chance, bytes, { ...parts, hello: said[0] ?? bytes })],
  ])
  return (bytes, index) => {
    said.push(bytes.slice())
    return index === at ? change(bytes, index) : [bytes]
  }
}

/** The frame with a changed payload and a signature that holds. */
async function signedAnew(
  chance: Chance,
  bytes: Uint8Array,
  { attacker, live, hello }: Parts & { readonly hello: Uint8Array },
): Promise<Uint8Array> {
  const [frame, first] = [frameIn(bytes), frameIn(hello)]
  const recipient = publicKeyOfPeer(live.peer)
  if (frame === undefined || first === undefined || recipient === undefined) return bytes
  const said = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.hello], first.payload)
  const proposed = 'body' in said ? said.body : undefined
  const session =
    frame.type === FRAME_TYPES.hello
      ? new Uint8Array(SESSION_ID_BYTES)
      : ((frame.type === FRAME_TYPES.resume ? proposed?.resume?.session : proposed?.session) ?? chance.bytes(16))
  return signFrame({
    type: chance.isOneIn(10) ? chance.below(20) : frame.type,
    payload: changedPayload(chance, frame),
    nonce: chance.isOneIn(10) ? { ...frame.nonce, sequence: Math.abs(chance.border()) } : frame.nonce,
    context: { sender: attacker.identity.provider.publicKey, recipient, session },
    signer: attacker.identity.provider,
  })
}

function changedPayload(chance: Chance, { type, payload }: Frame): Uint8Array {
  const schema = type === FRAME_TYPES.hello || type === FRAME_TYPES.resume ? CONTROL_SCHEMAS[type] : undefined
  const decoded = schema === undefined ? undefined : decodeBody(schema, payload)
  if (decoded === undefined || 'code' in decoded || chance.isOneIn(5)) return mutateBytes(chance, payload)
  try {
    return encode(mutateValue(chance, decoded.body))
  } catch {
    return mutateBytes(chance, payload) // What dag-cbor cannot write.
  }
}

function frameIn(bytes: Uint8Array): Frame | undefined {
  for (const frame of new FrameReader(() => 2 ** 20).push(bytes)) return 'code' in frame ? undefined : frame
  return undefined
}
