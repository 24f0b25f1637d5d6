/** Datagrams of the Mainline DHT: bencode, and what KRPC makes of it. */
import assert from 'node:assert/strict'
import { decodeBencode, encodeBencode } from '../../../src/formats/bencode.ts'
import { decodeMessage } from '../../../src/mainline/krpc.ts'
import { byInputs, type Fuzzer, type Outcome } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'

const ID = 'i'.repeat(20)
const KEY = 'k'.repeat(32)
const SIGNATURE = 's'.repeat(64)

const DATAGRAMS = [
  `d1:ad2:id20:${ID}e1:q4:ping1:t2:aa1:y1:qe`,
  `d1:ad2:id20:${ID}6:target20:${ID}4:wantl2:n42:n6ee1:q9:find_node2:roi1e1:t2:aa1:y1:qe`,
  `d1:ad2:id20:${ID}9:info_hash20:${ID}e1:q9:get_peers1:t2:aa1:y1:qe`,
  `d1:ad2:id20:${ID}12:implied_porti1e9:info_hash20:${ID}4:porti6881e5:token2:tte1:q13:announce_peer1:t2:aa1:y1:qe`,
  `d1:ad2:id20:${ID}3:seqi1e6:target20:${ID}e1:q3:get1:t2:aa1:y1:qe`,
  `d1:ad3:casi1e2:id20:${ID}1:k32:${KEY}4:salt1:x3:seqi2e3:sig64:${SIGNATURE}5:token2:tt1:v5:valuee1:q3:put1:t2:aa1:y1:qe`,
  `d2:ip6:abcdef1:rd2:id20:${ID}5:nodes26:${ID}abcdef6:valuesl6:abcdefe5:token2:tte1:t2:aa1:y1:re`,
  `d1:rd2:id20:${ID}1:k32:${KEY}3:seqi2e3:sig64:${SIGNATURE}5:token2:tt1:vd1:ali1ei-2eeee1:t2:aa1:y1:re`,
  'd1:eli203e5:wronge1:t2:aa1:y1:ee',
].map(text => new TextEncoder().encode(text))

export const datagrams: Fuzzer = {
  name: 'datagrams',
  kind: 'pure',
  open: ({ corpus }) =>
    byInputs({ make: chance => mutateBytes(chance, chance.pick([...DATAGRAMS, ...corpus]), DATAGRAMS), check }),
}

function check(input: Uint8Array): Outcome {
  const value = decodeBencode(input)
  const message = decodeMessage(input)
  if (value === undefined) {
    assert.equal(message.kind, 'wrong')
    return 'no bencode'
  }
  const encoded = encodeBencode(value)
  // Keys with surrogates can be read and are not written, as the library puts them in another order.
  if (encoded !== undefined) {
    assert.ok(encoded.byteLength === input.byteLength, 'the same value in another size')
    assert.deepEqual(decodeBencode(encoded), value)
  }
  if (message.kind === 'wrong') return `wrong ${message.of} ${message.code} ${message.text.slice(0, 24)}`
  return message.kind === 'query' ? `query ${message.body.method}` : message.kind
}
