/** Resumptions with a peer that changes its messages, leaves fields out, or knows another secret. */
import assert from 'node:assert/strict'
import { type HandshakeFault, Resumption } from '#identity'
import type { Chance } from '../lib/chance.ts'
import type { Fuzzer } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'

type Message = Parameters<Resumption['read']>[0]

/** X25519 points of small order, and what is no reduced number. */
const POINTS = [
  new Uint8Array(32),
  new Uint8Array(32).fill(1, 0, 1),
  new Uint8Array(32).fill(0xff),
  Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 0xec : i === 31 ? 0x7f : 0xff)),
  Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 0xed : i === 31 ? 0x7f : 0xff)),
]

export const resumptions: Fuzzer = { name: 'resumptions', kind: 'pure', open: () => ({ run }) }

function run(chance: Chance): string {
  const secret = chance.bytes(32)
  const other = chance.isOneIn(4) ? chance.bytes(32) : secret
  const prologue = chance.bytes(chance.size(200))
  const dialler = new Resumption(chance, { role: 'dialler', secret, prologue })
  const listener = new Resumption(chance, { role: 'listener', secret: other, prologue })
  const attacked = chance.below(4)
  const earlier: Message[] = []
  for (let index = 0; index < 3; index++) {
    const [from, to] = index % 2 === 0 ? [dialler, listener] : [listener, dialler]
    const message = from.write()
    const said = index === attacked ? changed(chance, message, earlier) : message
    const fault = to.read(said)
    if (fault !== undefined) return refused(to, fault, said)
    // A share cannot be checked by itself: the macs find out.
    if (!same(said, message)) assert.ok(index === 0 && said.mac === undefined, 'a changed mac was taken')
    if (!same(said, message) || secret !== other) continue
    earlier.push(message)
  }
  assert.ok(secret === other && attacked === 3, 'a resumption was taken that its two sides do not share')
  assert.deepEqual(dialler.result().send, listener.result().receive)
  return 'done'
}

function changed(chance: Chance, message: Message, earlier: readonly Message[]): Message {
  if (earlier.length > 0 && chance.isOneIn(4)) return { ...chance.pick(earlier) }
  const { share, mac } = message
  const bytes = (right: Uint8Array | undefined): Uint8Array | undefined =>
    chance.pick([
      () => undefined,
      () => chance.bytes(32),
      () => chance.pick(POINTS),
      () => mutateBytes(chance, right ?? chance.bytes(32)),
    ])()
  // Only what differs counts as changed.
  const other = { share: chance.isOneIn(2) ? bytes(share) : share, mac: chance.isOneIn(2) ? bytes(mac) : mac }
  return same(other, message) ? { share: chance.bytes(32), mac: chance.bytes(32) } : other
}

function refused(resumption: Resumption, fault: HandshakeFault, said: Message): string {
  assert.equal(resumption.turn, 'failed')
  assert.equal(resumption.read(said), fault)
  assert.throws(() => resumption.result())
  return fault.code
}

function same(a: Message, b: Message): boolean {
  const text = ({ share, mac }: Message): string =>
    [share, mac].map(part => (part === undefined ? '-' : Buffer.from(part).toString('hex'))).join(' ')
  return text(a) === text(b)
}
