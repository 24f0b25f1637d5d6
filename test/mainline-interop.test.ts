/** Koinon's node of the Mainline DHT beside two that others have written, on loopback: each finds what the other has put. */
import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
// @ts-expect-error The package has no types; what is used of it is stated below.
import BittorrentDht from 'bittorrent-dht'
import { silentLogger, systemClock, systemRandom, toHex } from '#base'
import { ed25519Signer, ed25519Verifier, sha1 } from '#crypto'
import { createMainlineNode, createUdpSockets, type Endpoint, type MainlineNode, type MainlineOptions } from '#mainline'
import { type LibtorrentDht, LIBTORRENT_SKIP, startLibtorrent } from './support/libtorrent-dht.ts'

/** What is used of bittorrent-dht's node. */
interface OtherDht {
  on(event: string, listener: (...args: never[]) => void): void
  once(event: string, listener: (...args: never[]) => void): void
  listen(port: number, address: string): void
  address(): { readonly port: number }
  lookup(infoHash: Buffer, done: (error: Error | null) => void): void
  announce(infoHash: Buffer, port: number, done: (error: Error | null) => void): void
  put(item: object, done: (error: Error | null, key: Buffer, stored: number) => void): void
  get(key: Buffer, options: object, done: (error: Error | null, item: OtherItem | null) => void): void
  destroy(done: () => void): void
}
type OtherItem = { readonly v: Buffer; readonly seq: number }
const OtherDht = BittorrentDht as new (options: object) => OtherDht

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

async function startOwn(host: string, options: MainlineOptions = {}): Promise<MainlineNode> {
  const sockets = createUdpSockets({ clock: systemClock }, { listen: [{ host, port: 0 }] })
  const deps = { clock: systemClock, random: systemRandom, log: silentLogger, sockets }
  const node = createMainlineNode(deps, { isLoopbackExempt: true, ...options })
  await node.start()
  return node
}

function portOf(node: MainlineNode): number {
  return node.status().families[0]?.local.port ?? 0
}

async function peersOf(node: MainlineNode, infoHash: Uint8Array): Promise<Endpoint[]> {
  const found: Endpoint[] = []
  for await (const peer of node.getPeers(infoHash)) found.push(peer)
  return found
}

/** Asks until the answer is there: another's process needs a moment for what it was told. */
async function eventually<T>(ask: () => Promise<T | undefined>): Promise<T> {
  const until = systemClock.monotonic() + 30_000
  while (systemClock.monotonic() < until) {
    const answer = await ask()
    if (answer !== undefined) return answer
  }
  throw new Error('nothing came')
}

for (const [name, host] of [
  ['IPv4', '127.0.0.1'],
  ['IPv6', '::1'],
] as const) {
  describe(`two nodes over UDP on ${name}`, () => {
    let [first, second]: MainlineNode[] = []

    before(async () => {
      first = await startOwn(host)
      second = await startOwn(host)
      const address = `${host.includes(':') ? `[${host}]` : host}:${portOf(first)}`
      assert.equal(await second.bootstrap([address]), 1)
    })
    after(async () => {
      await Promise.all([first?.stop(), second?.stop()])
    })

    it('one finds what the other has announced and put', async () => {
      assert.ok(first !== undefined && second !== undefined)
      const infoHash = randomBytes(20)
      assert.equal(await second.announce(infoHash, 4321), 1)
      assert.deepEqual(await peersOf(first, infoHash), [{ host, port: 4321 }])
      const signer = ed25519Signer(randomBytes(32))
      assert.equal(await second.putMutable({ signer, seq: 1, value: text('x') }), 1)
      assert.deepEqual((await first.getMutable(signer.publicKey))?.value, text('x'))
      const { target } = await second.putImmutable([1, 2])
      assert.deepEqual(await second.getImmutable(target), [1, 2])
    })

    it('a port that is taken is said so', async () => {
      assert.ok(first !== undefined)
      const listen = [{ host, port: portOf(first) }]
      const sockets = createUdpSockets({ clock: systemClock }, { listen })
      await assert.rejects(sockets.open(), { code: 'MAINLINE_LISTEN_FAILED' })
    })
  })
}

describe('with bittorrent-dht', () => {
  let own: MainlineNode
  let other: OtherDht

  before(async () => {
    own = await startOwn('127.0.0.1')
    const verify = (signature: Uint8Array, message: Uint8Array, key: Uint8Array): boolean =>
      ed25519Verifier(key).verify(message, signature)
    other = new OtherDht({ bootstrap: false, verify })
    const listening = new Promise<void>(resolve => other.once('listening', resolve))
    other.listen(0, '127.0.0.1')
    await listening
    assert.equal(await own.bootstrap([`127.0.0.1:${other.address().port}`]), 1)
  })
  after(async () => {
    await own.stop()
    await new Promise<void>(resolve => other.destroy(resolve))
  })

  it('we find what it has announced', async () => {
    const infoHash = randomBytes(20)
    const port = randomInt(1, 65_536)
    await new Promise<void>(resolve => other.announce(infoHash, port, () => resolve()))
    assert.deepEqual(await peersOf(own, infoHash), [{ host: '127.0.0.1', port }])
  })

  it('it finds what we have announced', async () => {
    const infoHash = randomBytes(20)
    const port = randomInt(1, 65_536)
    assert.equal(await own.announce(infoHash, port), 1)
    const found: Endpoint[] = []
    other.on('peer', (peer: Endpoint) => void found.push({ host: peer.host, port: peer.port }))
    await new Promise<void>(resolve => other.lookup(infoHash, () => resolve()))
    assert.ok(found.some(peer => peer.port === port && peer.host === '127.0.0.1'))
  })

  it('we read the signed value that it has put', async () => {
    const signer = ed25519Signer(randomBytes(32))
    const salt = Buffer.from('salt')
    const sign = (message: Buffer): Buffer => Buffer.from(signer.sign(message))
    const item = { k: Buffer.from(signer.publicKey), seq: 5, salt, v: Buffer.from('from there'), sign }
    const [error] = await new Promise<[Error | null, number]>(resolve =>
      other.put(item, (error, _key, stored) => resolve([error, stored])),
    )
    assert.equal(error, null)
    const found = await own.getMutable(signer.publicKey, salt)
    assert.deepEqual([found?.seq, found?.value], [5, text('from there')])
  })

  it('it reads the signed value that we have put, and refuses an older one', async () => {
    const signer = ed25519Signer(randomBytes(32))
    const salt = text('of ours')
    const put = (seq: number, value: string): Promise<number> =>
      own.putMutable({ signer, salt, seq, value: text(value) })
    assert.equal(await put(1, 'first'), 1)
    assert.equal(await put(2, 'second'), 1)
    const key = Buffer.from(sha1(Buffer.concat([signer.publicKey, salt])))
    const found = await new Promise<OtherItem | null>((resolve, reject) =>
      other.get(key, { salt: Buffer.from(salt), cache: false }, (error, item) =>
        error ? reject(error) : resolve(item),
      ),
    )
    assert.deepEqual([found?.seq, found?.v.toString()], [2, 'second'])
    await assert.rejects(put(1, 'first'), { code: 'MAINLINE_ITEM_NEWER' })
  })

  it('values by their hash go both ways', async () => {
    const { target, stored } = await own.putImmutable(text('by hash'))
    assert.equal(stored, 1)
    assert.deepEqual(await own.getImmutable(target), text('by hash'))
    const key = await new Promise<Buffer>(resolve =>
      other.put({ v: Buffer.from('theirs') }, (_error, key) => resolve(key)),
    )
    assert.deepEqual(await own.getImmutable(key), text('theirs'))
  })
})

describe('with libtorrent', { skip: LIBTORRENT_SKIP }, () => {
  let own: MainlineNode
  let other: LibtorrentDht

  before(async () => {
    other = await startLibtorrent()
    own = await startOwn('127.0.0.1')
    await other.ask({ do: 'add', host: '127.0.0.1', port: portOf(own) })
    await eventually(async () => ((await own.bootstrap([`127.0.0.1:${other.port}`])) > 0 ? true : undefined))
    await eventually(async () => (Number((await other.ask({ do: 'count' }))['count']) > 0 ? true : undefined))
  })
  after(async () => {
    await own.stop()
    await other.stop()
  })

  it('we find what it has announced', async () => {
    const infoHash = randomBytes(20)
    const { port } = await other.ask({ do: 'announce', hash: toHex(infoHash) })
    const found = await eventually(async () => (await peersOf(own, infoHash))[0])
    assert.deepEqual(found, { host: '127.0.0.1', port: Number(port) })
  })

  it('it finds what we have announced', async () => {
    const infoHash = randomBytes(20)
    assert.equal(await own.announce(infoHash, 5321), 1)
    const { peers } = await other.ask({ do: 'get_peers', hash: toHex(infoHash) })
    assert.deepEqual(peers, [['127.0.0.1', 5321]])
  })

  it('we read the signed value that it has put', async () => {
    const seed = randomBytes(32)
    const { publicKey } = ed25519Signer(seed)
    const command = { do: 'put', seed: toHex(seed), public: toHex(publicKey), value: 'from there', salt: 'salt' }
    const { stored } = await other.ask(command)
    assert.ok(Number(stored) >= 1) // It counts itself too.
    const found = await own.getMutable(publicKey, text('salt'))
    assert.deepEqual([found?.seq, found?.value], [1, text('from there')])
  })

  it('it reads the signed value that we have put', async () => {
    const signer = ed25519Signer(randomBytes(32))
    assert.equal(await own.putMutable({ signer, salt: text('salt'), seq: 9, value: text('from here') }), 1)
    const { item } = await other.ask({ do: 'get', public: toHex(signer.publicKey), salt: 'salt' })
    assert.deepEqual(item, { value: toHex(text('from here')), seq: 9 })
  })
})
