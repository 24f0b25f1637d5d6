/** Nodes whose keys lie in a token and in a key service, among others: what libp2p and sessions sign is signed there. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { systemClock, systemRandom } from '#base'
import { createHandover, createNodeIdentity, type NodeIdentity } from '#identity'
import { createTokenKey, type KeySource, openKey, type Pkcs11Source } from '#keyring'
import { KMS_KEY, KMS_REGION, startKmsServer } from './support/kms-server.ts'
import { firstAddress, hasPeers, nextEvent, offerOf, startHost } from './support/net-hosts.ts'
import { createSoftHsm, PIN, SOFTHSM_MODULE, SOFTHSM_SKIP } from './support/softhsm.ts'

const TIMEOUT = { timeout: 60_000 }
const hsm = SOFTHSM_SKIP === false ? createSoftHsm(after) : undefined
const kms = await startKmsServer(after)
const KMS: KeySource = { kind: 'kms', key: KMS_KEY, region: KMS_REGION, endpoint: kms.endpoint }
const deps = { clock: systemClock, random: systemRandom, readFile: () => assert.fail('no file is read') }

// Made before the module is initialised, which looks for tokens then.
const token = hsm?.addToken('node token') ?? ''
let count = 0

/** The identity of a new key on the token. */
async function tokenIdentity(): Promise<NodeIdentity> {
  const source: Pkcs11Source = { kind: 'pkcs11', module: SOFTHSM_MODULE, token, label: `node ${count++}`, pin: PIN }
  await createTokenKey(deps, source)
  return openKey(deps, source)
}

async function connects(
  t: { after(action: () => Promise<void>): void },
  identities: readonly [NodeIdentity | undefined, NodeIdentity | undefined],
): Promise<void> {
  const hosts = await Promise.all(identities.map(identity => startHost(t, identity === undefined ? {} : { identity })))
  const [a, b] = hosts
  assert.ok(a !== undefined && b !== undefined)
  for (const [i, identity] of identities.entries()) {
    if (identity === undefined) continue
    assert.equal(hosts[i]?.id, identity.peer)
    t.after(() => identity.provider.close())
  }
  assert.equal(await a.connect(firstAddress(b)), b.id)
  await Promise.all([hasPeers(a, [b.id]), hasPeers(b, [a.id])])
  const protocol = a.peers()[0]?.protocol
  assert.match(protocol?.session ?? '', /^[0-9a-f-]{36}$/)
}

test('a node with its key in a token meets one with its key in a file', { ...TIMEOUT, skip: SOFTHSM_SKIP }, async t => {
  await connects(t, [await tokenIdentity(), undefined])
  await connects(t, [undefined, await tokenIdentity()])
})

test('a node with its key in a key service meets one with its key in a file', TIMEOUT, async t => {
  const before = kms.requests.length
  await connects(t, [await openKey(deps, KMS), undefined])
  assert.ok(kms.requests.slice(before).filter(({ operation }) => operation === 'Sign').length > 3)
  await connects(t, [undefined, await openKey(deps, KMS)])
})

test('a node with its key in a token meets one with its key in a service', {
  ...TIMEOUT,
  skip: SOFTHSM_SKIP,
}, async t => {
  await connects(t, [await tokenIdentity(), await openKey(deps, KMS)])
})

test('a node goes over to a key in a token while it talks to a peer', { ...TIMEOUT, skip: SOFTHSM_SKIP }, async t => {
  const old = await createNodeIdentity(systemRandom)
  const [a, b] = await Promise.all([startHost(t, { identity: old }), startHost(t)])
  await a.connect(firstAddress(b))
  await Promise.all([hasPeers(a, [b.id]), hasPeers(b, [a.id])])
  const { provider, peer } = await tokenIdentity()
  t.after(() => provider.close())
  const session = b.peers()[0]?.protocol.session
  const changed = nextEvent(b, ({ peer: { protocol } }) => protocol.key === peer)
  const statement = await createHandover({ from: old.provider, to: provider, at: systemClock.now(), sequence: 1 })
  a.rotate(provider, statement)
  // Something that the new key signs.
  a.announce(offerOf('after'))
  assert.equal((await changed).protocol.session, session, 'the session goes on')
})
