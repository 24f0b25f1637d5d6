/**
 * Handshakes with a peer that changes what it says: bytes of its messages, messages of another handshake, too many, too
 * few; and, with keys that fit, a proof of identity that does not. Who changes anything must not get a session.
 */
import assert from 'node:assert/strict'
import { encode } from '@ipld/dag-cbor'
import { concatBytes } from '#base'
import { ed25519Signer, type Ed25519Signer, x25519Key } from '#crypto'
import { Handshake, type HandshakeFault } from '#identity'
import { HandshakeState } from '../../../src/identity/noise/handshake-state.ts'
import { XX_HFS } from '../../../src/identity/noise/pattern.ts'
import type { Chance } from '../lib/chance.ts'
import type { Fuzzer } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'
import { strangeValue } from '../lib/mutate-value.ts'

type Role = 'dialler' | 'listener'

const PAYLOAD_BYTES = 115

export const handshakes: Fuzzer = {
  name: 'handshakes',
  kind: 'pure',
  open: () => ({ run: chance => (chance.isOneIn(2) ? changedMessages(chance) : changedProof(chance)) }),
}

type Side = { readonly handshake: Handshake; readonly signer: Ed25519Signer }

function pair(chance: Chance): Record<Role, Side> {
  const signers = { dialler: ed25519Signer(chance.bytes(32)), listener: ed25519Signer(chance.bytes(32)) }
  const side = (role: Role, other: Role): Side => ({
    signer: signers[role],
    handshake: new Handshake(chance, {
      role,
      prologue: Uint8Array.of(1, 2, 3),
      identity: signers[role],
      expected: { publicKey: signers[other].publicKey },
    }),
  })
  return { dialler: side('dialler', 'listener'), listener: side('listener', 'dialler') }
}

async function changedMessages(chance: Chance): Promise<string> {
  const sides = pair(chance)
  const attacked = chance.below(4)
  const earlier: Uint8Array[] = []
  let isChanged = false
  for (let index = 0; index < 3; index++) {
    const [from, to] = index % 2 === 0 ? [sides.dialler, sides.listener] : [sides.listener, sides.dialler]
    const message = await from.handshake.write()
    const said = index === attacked ? changed(chance, message, earlier) : message
    const fault = to.handshake.read(said)
    // The first message is keys and nothing else: that they were changed is found out by who sent it.
    const isFound = isChanged || (index > 0 && !same(said, message))
    isChanged ||= !same(said, message)
    if (isFound || fault !== undefined) return refused(to.handshake, fault, said)
    if (isChanged) continue
    if (chance.isOneIn(8)) return refused(to.handshake, to.handshake.read(message), message)
    earlier.push(message)
  }
  const [ours, theirs] = [sides.dialler.handshake.result(), sides.listener.handshake.result()]
  assert.deepEqual([ours.send, ours.receive, ours.transcript], [theirs.receive, theirs.send, theirs.transcript])
  return 'done'
}

function changed(chance: Chance, message: Uint8Array, earlier: readonly Uint8Array[]): Uint8Array {
  if (chance.isOneIn(3) && earlier.length > 0) return chance.pick(earlier)
  if (chance.isOneIn(3)) return message.slice().fill(chance.pick([0, 0xff]), 0, chance.pick([32, 1216, message.length]))
  // Of the same length half of the time: others are refused before any cryptography.
  const other = mutateBytes(chance, message, earlier)
  if (chance.isOneIn(2)) return other
  const cut = other.subarray(0, message.byteLength)
  return concatBytes([cut, message.subarray(cut.byteLength)])
}

/** The keys fit, what is said with them does not. */
async function changedProof(chance: Chance): Promise<string> {
  const role = chance.pick(['dialler', 'listener'] as const)
  const sides = pair(chance)
  const victim = role === 'dialler' ? sides.listener : sides.dialler
  const attacker = new HandshakeState(chance, {
    pattern: XX_HFS,
    isInitiator: role === 'dialler',
    prologue: Uint8Array.of(1, 2, 3),
    s: x25519Key(chance.bytes(32)),
  })
  if (role === 'listener') attacker.readMessage(await victim.handshake.write())
  else {
    const first = write(attacker, new Uint8Array(0))
    assert.equal(victim.handshake.read(first), undefined)
    attacker.readMessage(await victim.handshake.write())
  }
  const said = write(attacker, proof(chance, sides[role].signer))
  return refused(victim.handshake, victim.handshake.read(said), said)
}

function write(state: HandshakeState, payload: Uint8Array): Uint8Array {
  const tokens = state.writeTokens()
  assert.ok(typeof tokens !== 'string')
  return concatBytes([tokens, state.writePayload(payload)])
}

/** A proof of the right length that proves nothing. */
function proof(chance: Chance, { publicKey }: Ed25519Signer): Uint8Array {
  const right = encode({ key: publicKey, signature: chance.bytes(64) })
  const bytes = chance.pick([
    () => right,
    () => encode({ key: chance.bytes(32), signature: chance.bytes(64) }),
    () => encode({ key: strangeValue(chance), signature: strangeValue(chance) }),
    () => mutateBytes(chance, right),
    () => new Uint8Array(PAYLOAD_BYTES).fill(chance.pick([0x81, 0xa1, 0x5f, 0xff])),
  ])()
  const fitting = new Uint8Array(PAYLOAD_BYTES)
  fitting.set(bytes.subarray(0, PAYLOAD_BYTES))
  return fitting
}

/** A fault ends a handshake for good. */
function refused(handshake: Handshake, fault: HandshakeFault | undefined, said: Uint8Array): string {
  assert.ok(fault !== undefined, 'a handshake took what its peer had not said')
  assert.equal(handshake.turn, 'failed')
  assert.equal(handshake.read(said), fault)
  assert.throws(() => handshake.result())
  return fault.code
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a).equals(b)
}
