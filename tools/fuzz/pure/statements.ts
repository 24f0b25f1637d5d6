/**
 * What nodes sign for others to keep: hand-overs and chains of them, peer records, envelopes. Bytes that were changed
 * prove nothing; bytes that are signed anew, whatever is in them, must not throw.
 */
import assert from 'node:assert/strict'
import { encode } from '@ipld/dag-cbor'
import { concatBytes } from '#base'
import { type Ed25519Signer, ed25519Signer, peerOfPublicKey } from '#crypto'
import {
  createHandover,
  createPeerRecord,
  openEnvelope,
  signEnvelope,
  verifyChain,
  verifyHandover,
  verifyPeerRecord,
} from '#identity'
import type { Chance } from '../lib/chance.ts'
import type { Fuzzer, Outcome, Target } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'
import { mutateValue } from '../lib/mutate-value.ts'

const NOW = 1_800_000_000_000
const RECORD = 'koinon/peer-record/1'
const HANDOVER = 'koinon/handover/1'
const DAY_MS = 24 * 60 * 60 * 1000
const KEYS_COUNT = 5

export const statements: Fuzzer = { name: 'statements', kind: 'pure', open }

async function open(): Promise<Target> {
  const keys = Array.from({ length: KEYS_COUNT }, (_, i) => ed25519Signer(new Uint8Array(32).fill(i + 1)))
  const [first] = keys
  assert.ok(first !== undefined)
  const chain = await Promise.all(
    keys.slice(1).map((to, i) => createHandover({ from: keys[i] ?? first, to, at: NOW + i, sequence: i + 1 })),
  )
  const record = await createPeerRecord(first, {
    sequence: 1,
    addresses: ['/ip4/127.0.0.1/tcp/1', '/dns4/a.example/tcp/2'],
    expiresAt: NOW + DAY_MS,
  })
  const all = [...chain, record]
  const run = async (chance: Chance): Promise<Outcome> => {
    if (chance.isOneIn(2)) return forged(chance, all)
    return chance.isOneIn(2) ? signedAnew(chance, first) : shuffled(chance, chain)
  }
  return { run, check: looked }
}

function forged(chance: Chance, all: readonly Uint8Array[]): Outcome {
  const bytes = mutateBytes(chance, chance.pick(all), all)
  if (all.some(known => Buffer.from(known).equals(bytes))) return 'unchanged'
  const results = [verifyHandover(bytes), verifyPeerRecord(bytes, NOW), openEnvelope(RECORD, bytes)]
  for (const result of results) assert.ok('code' in result, 'changed bytes were taken for a statement')
  return codeOf(results[chance.below(3)])
}

/** What a peer can make that has keys of its own. */
async function signedAnew(chance: Chance, signer: Ed25519Signer): Promise<Outcome> {
  if (chance.isOneIn(2)) {
    const peer = peerOfPublicKey(signer.publicKey)
    const fields = { addresses: ['/ip4/127.0.0.1/tcp/1'], expiresAt: NOW + DAY_MS, peer, sequence: 1 }
    const payload = changedBytes(chance, fields)
    if (payload === undefined || payload.byteLength > 15_000) return 'unwritable'
    return looked(await signEnvelope(signer, RECORD, payload))
  }
  const to = ed25519Signer(chance.bytes(32))
  const fields = { at: NOW, domain: HANDOVER, from: signer.publicKey, sequence: 1, to: to.publicKey }
  const body = changedBytes(chance, fields)
  if (body === undefined) return 'unwritable'
  const message = concatBytes([new TextEncoder().encode(HANDOVER), Uint8Array.of(0), body])
  return looked(encode({ body, new: to.sign(message), old: signer.sign(message) }))
}

function changedBytes(chance: Chance, fields: object): Uint8Array | undefined {
  try {
    const bytes = encode(mutateValue(chance, fields))
    return chance.isOneIn(3) ? mutateBytes(chance, bytes) : bytes
  } catch {
    return undefined // What dag-cbor cannot write, nobody can sign.
  }
}

/** Statements that are good, in an order that is not. */
function shuffled(chance: Chance, chain: readonly Uint8Array[]): Outcome {
  const order = Array.from({ length: chance.between(0, 18) }, () => chance.pick(chain))
  const result = verifyChain(order)
  const first = chain.indexOf(order[0] ?? chain[0] ?? new Uint8Array())
  const isInOrder = order.every((statement, i) => statement === chain[first + i])
  assert.equal('code' in result, !isInOrder, 'a chain was judged by something else than its order')
  return codeOf(result)
}

function looked(bytes: Uint8Array): Outcome {
  const results = [
    verifyHandover(bytes),
    verifyPeerRecord(bytes, NOW),
    openEnvelope(RECORD, bytes),
    verifyChain([bytes]),
  ]
  return results.map(codeOf).join(' ')
}

function codeOf(result: object | undefined): Outcome {
  return result !== undefined && 'code' in result ? String(result.code) : 'good'
}
