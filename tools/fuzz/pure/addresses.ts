/** Addresses and peer ids as peers write them. */
import assert from 'node:assert/strict'
import { peerOfPublicKey, publicKeyOfPeer } from '#crypto'
import { addressesOf, decodeAddress } from '../../../src/net/address.ts'
import { byInputs, type Fuzzer, type Outcome } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'

const PEER = '12D3KooWH8cdLxfJxjxEJF7Ee3waDRUs27yb6YzD6cq4n7gpeY3Z'

const TEXTS = [
  `/ip4/127.0.0.1/tcp/4001/p2p/${PEER}`,
  `/ip6/::1/tcp/4001/p2p/${PEER}`,
  `/dns4/node.example/tcp/1/p2p/${PEER}`,
  `/dnsaddr/node.example/p2p/${PEER}`,
  `/ip4/1.2.3.4/tcp/1/p2p/${PEER}/p2p-circuit/p2p/${PEER}`,
  '/ip6zone/eth0/ip6/fe80::1/tcp/1',
  '/unix/%2ftmp%2fsocket',
  `/ip4/1.2.3.4/udp/1/quic-v1/p2p/${PEER}`,
  '/ip4/0.0.0.0/tcp/65535',
  PEER,
  'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
  'bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rqt5kczyn7lcm3l',
].map(text => new TextEncoder().encode(text))

export const addresses: Fuzzer = {
  name: 'addresses',
  kind: 'pure',
  open: ({ corpus }) =>
    byInputs({ make: chance => mutateBytes(chance, chance.pick([...TEXTS, ...corpus]), TEXTS), check }),
}

function check(input: Uint8Array): Outcome {
  const text = Buffer.from(input).toString('utf8')
  const key = publicKeyOfPeer(text)
  if (key !== undefined) assert.equal(publicKeyOfPeer(peerOfPublicKey(key))?.join(), key.join())
  assert.ok(addressesOf(PEER, [text]).length <= 1)
  const address = decodeAddress(text)
  if (address === undefined) return key === undefined ? 'none' : 'peer'
  const again = decodeAddress(address.text)
  assert.ok(again !== undefined, 'an address that cannot be read again')
  assert.deepEqual([again.text, again.peer, again.host], [address.text, address.peer, address.host])
  return `${address.text.split('/')[1]}${address.peer === undefined ? '' : ' with a peer'}`
}
