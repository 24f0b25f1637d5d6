import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fromHex, ManualClock, toHex } from '#base'
import { ed25519Signer } from '#crypto'
import { encodeBencode } from '#formats'
import { ItemStore } from './item-store.ts'
import { immutableTarget, isSignatureRight, mutableTarget, signedBytes } from './items.ts'
import { STORED_ITEM_MS, STORED_ITEMS_MAX, STORED_ITEMS_PER_ADDRESS_MAX } from './limits.ts'
import type { PutQuery } from './query.ts'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const seed = (fill: number): Uint8Array => new Uint8Array(32).fill(fill)
const HOST = '5.5.5.5'

type Put = Pick<PutQuery, 'value' | 'valueBytes' | 'signed'>

function encoded(value: Uint8Array): Uint8Array {
  return encodeBencode(value) ?? new Uint8Array()
}

function signedPut(put: { seq: number; value?: string; cas?: number; salt?: string; key?: number }): Put {
  const signer = ed25519Signer(seed(put.key ?? 1))
  const [value, salt] = [text(put.value ?? 'value'), text(put.salt ?? '')]
  const { seq, cas } = put
  const signature = signer.sign(signedBytes({ salt, seq, valueBytes: encoded(value) }))
  return { value, valueBytes: encoded(value), signed: { publicKey: signer.publicKey, signature, salt, seq, cas } }
}

function plainPut(value: string): Put {
  return { value: text(value), valueBytes: encoded(text(value)), signed: undefined }
}

describe('what BEP 44 has published', () => {
  const publicKey = fromHex('77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548')
  const valueBytes = encoded(text('Hello World!'))
  const vectors = [
    {
      salt: '',
      signed: '3:seqi1e1:v12:Hello World!',
      target: '4a533d47ec9c7d95b1ad75f576cffc641853b750',
      signature:
        '305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01',
    },
    {
      salt: 'foobar',
      signed: '4:salt6:foobar3:seqi1e1:v12:Hello World!',
      target: '411eba73b6f087ca51a3795d9c8c938d365e32c1',
      signature:
        '6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17ddf9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08',
    },
  ]

  for (const vector of vectors) {
    it(`a signed value, salt '${vector.salt}'`, () => {
      const item = { salt: text(vector.salt), seq: 1, valueBytes }
      assert.equal(new TextDecoder().decode(signedBytes(item)), vector.signed)
      assert.equal(toHex(mutableTarget(publicKey, item.salt)), vector.target)
      const signature = fromHex(vector.signature)
      assert.ok(isSignatureRight({ ...item, publicKey, signature }))
      assert.ok(!isSignatureRight({ ...item, seq: 2, publicKey, signature }))
    })
  }

  it('a value under its hash', () => {
    assert.equal(toHex(immutableTarget(valueBytes)), 'e5f96f6f38320f0f33959cb4d3d656452117aadb')
  })
})

describe('stored values', () => {
  it('a number never falls, and stands for one value', () => {
    const store = new ItemStore({ clock: new ManualClock() })
    const target = mutableTarget(ed25519Signer(seed(1)).publicKey, new Uint8Array())
    const seqOf = (): number | undefined => store.find(target)?.signed?.seq
    assert.equal(store.put(signedPut({ seq: 5 }), HOST), undefined)
    assert.equal(store.put(signedPut({ seq: 4 }), HOST)?.code, 302)
    assert.equal(store.put(signedPut({ seq: 5, value: 'other' }), HOST)?.code, 302)
    assert.equal(store.put(signedPut({ seq: 5 }), HOST), undefined, 'the same again keeps it alive')
    assert.equal(store.put(signedPut({ seq: 6, cas: 4 }), HOST)?.code, 301)
    assert.equal(seqOf(), 5)
    assert.equal(store.put(signedPut({ seq: 6, cas: 5 }), HOST), undefined)
    assert.equal(seqOf(), 6)
    const forged = signedPut({ seq: 7 })
    assert.equal(store.put({ ...forged, valueBytes: encoded(text('forged')) }, HOST)?.code, 206)
    assert.equal(seqOf(), 6)
    assert.equal(store.put(signedPut({ seq: 1, salt: 'another place' }), HOST), undefined)
    assert.equal(store.size, 2)
  })

  it('two hours after the last put they are gone', () => {
    const clock = new ManualClock()
    const store = new ItemStore({ clock })
    store.put(plainPut('kept'), HOST)
    store.put(plainPut('left'), HOST)
    clock.advance(STORED_ITEM_MS - 1)
    store.put(plainPut('kept'), HOST)
    clock.advance(1)
    assert.equal(store.find(immutableTarget(encoded(text('left')))), undefined)
    assert.ok(store.find(immutableTarget(encoded(text('kept')))) !== undefined)
    assert.equal(store.size, 1)
  })

  it('one address gets so many places, and pushes nobody out; all together are bounded', () => {
    const store = new ItemStore({ clock: new ManualClock() })
    store.put(plainPut('of another'), '6.6.6.6')
    for (let i = 0; i < STORED_ITEMS_PER_ADDRESS_MAX; i++) assert.equal(store.put(plainPut(`${i}`), HOST), undefined)
    assert.equal(store.put(plainPut('one more'), HOST)?.code, 202)
    assert.equal(store.put(plainPut('0'), HOST), undefined, 'what is there may be put again')
    for (let i = 0; i < 2 * STORED_ITEMS_MAX; i++) store.put(plainPut(`more ${i}`), `7.7.${i >> 8}.${i & 255}`)
    assert.equal(store.size, STORED_ITEMS_MAX)
  })
})
