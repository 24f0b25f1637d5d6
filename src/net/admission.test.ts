import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { HelloMessage } from '#wire'
import { Admission, type AdmissionStep } from './admission.ts'

const DIALLER_NONCE = new Uint8Array(32).fill(1)
const LISTENER_NONCE = new Uint8Array(32).fill(2)

function secretOf(text: string | undefined): { readonly secret?: Uint8Array } {
  return text === undefined ? {} : { secret: new TextEncoder().encode(text) }
}

function dialler(secret?: string): Admission {
  return new Admission({ role: 'dialler', self: 'd', peer: 'l', nonce: DIALLER_NONCE, ...secretOf(secret) })
}

function listener(secret?: string): Admission {
  return new Admission({ role: 'listener', self: 'l', peer: 'd', nonce: LISTENER_NONCE, ...secretOf(secret) })
}

/** Lets the two talk until nobody has anything to say; gives back what was said and what each decided. */
function converse(d: Admission, l: Admission) {
  const verdicts: { d?: AdmissionStep['verdict']; l?: AdmissionStep['verdict'] } = {}
  const said: string[] = []
  let toListener = d.begin()
  let toDialler = l.begin()
  while (toListener.length + toDialler.length > 0) {
    const [forL, forD] = [toListener, toDialler]
    toListener = []
    toDialler = []
    for (const message of forL) {
      said.push(`d:${message.kind}`)
      if (verdicts.l !== undefined) continue
      const step = l.receive(message)
      if (step.verdict !== undefined) verdicts.l = step.verdict
      toDialler = [...toDialler, ...step.send]
    }
    for (const message of forD) {
      said.push(`l:${message.kind}`)
      if (verdicts.d !== undefined) continue
      const step = d.receive(message)
      if (step.verdict !== undefined) verdicts.d = step.verdict
      toListener = [...toListener, ...step.send]
    }
  }
  return { said, verdicts }
}

describe('net / admission', () => {
  it('admits both where both know the secret, and the dialler proves first', () => {
    assert.deepEqual(converse(dialler('s'), listener('s')), {
      said: ['d:hello', 'l:hello', 'd:proof', 'l:proof'],
      verdicts: { l: 'admitted', d: 'admitted' },
    })
  })

  it('admits both after the hellos where neither has a secret', () => {
    assert.deepEqual(converse(dialler(), listener()), {
      said: ['d:hello', 'l:hello'],
      verdicts: { l: 'admitted', d: 'admitted' },
    })
  })

  it('refuses another secret before the listener has proved anything', () => {
    assert.deepEqual(converse(dialler('s'), listener('t')), {
      said: ['d:hello', 'l:hello', 'd:proof'],
      verdicts: { l: { refused: 'proof-wrong' } },
    })
  })

  it('refuses where one has a secret and the other has none', () => {
    assert.deepEqual(converse(dialler('s'), listener()).verdicts, { l: { refused: 'secret-unexpected' } })
    assert.deepEqual(converse(dialler(), listener('s')).verdicts, { l: { refused: 'secret-needed' } })
  })

  it('does not take a listener without a secret for one of the swarm, whatever it says', () => {
    const d = dialler('s')
    d.begin()
    const open: HelloMessage = { kind: 'hello', version: 1, nonce: LISTENER_NONCE, secret: false }
    assert.deepEqual(d.receive(open), { send: [], verdict: { refused: 'secret-needed' } })
  })

  it('does not take its own proof back for the answer', () => {
    const d = dialler('s')
    d.begin()
    const [proof] = d.receive({ kind: 'hello', version: 1, nonce: DIALLER_NONCE, secret: true }).send
    assert.ok(proof?.kind === 'proof')
    assert.deepEqual(d.receive(proof), { send: [], verdict: { refused: 'proof-wrong' } })
  })

  it('refuses whatever comes out of turn', () => {
    const early: HelloMessage[] = [
      { kind: 'proof', mac: new Uint8Array(32) },
      { kind: 'ping', id: 1 },
      { kind: 'peers', peers: [] },
    ]
    for (const message of early) {
      assert.deepEqual(listener('s').receive(message).verdict, { refused: 'malformed' })
      assert.deepEqual(dialler('s').receive(message).verdict, { refused: 'malformed' })
    }
    const l = listener('s')
    const hello: HelloMessage = { kind: 'hello', version: 1, nonce: DIALLER_NONCE, secret: true }
    assert.equal(l.receive(hello).verdict, undefined)
    assert.deepEqual(l.receive(hello).verdict, { refused: 'malformed' })
  })
})
