import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PROTOCOLS } from '#wire'
import { firstAddress, hasPeers, startHost, type TestHostOptions, within } from '../../../test/support/net-hosts.ts'
import type { Host } from '../types.ts'

type Test = { after(action: () => Promise<void>): void }

/** A host that nobody can dial: it listens nowhere. */
const hidden = (test: Test, options: TestHostOptions = {}): Promise<Host> =>
  startHost(test, { listen: [], isPublic: () => false, ...options })

const relayHost = (test: Test, options: TestHostOptions = {}): Promise<Host> =>
  startHost(test, { relay: 'on', ...options })

/** Resolves once the host holds so many addresses through relays. */
function relayed(host: Host, count = 1): Promise<readonly string[]> {
  const { promise, resolve } = Promise.withResolvers<readonly string[]>()
  const look = (): void => {
    if (host.relay.addresses().length === count) resolve(host.relay.addresses())
  }
  host.relay.onAddresses(look)
  look()
  return within('addresses through relays', promise)
}

/** A relay, and a host behind it. */
async function behindRelay(test: Test, options: TestHostOptions = {}): Promise<{ r: Host; b: Host; address: string }> {
  const r = await relayHost(test, options)
  const b = await hidden(test, options)
  await b.connect(firstAddress(r))
  const [address = ''] = await relayed(b)
  return { r, b, address }
}

describe('net / relay', () => {
  it('connects two hosts that cannot dial each other, with a session of their own and streams both ways', async test => {
    const { r, b, address } = await behindRelay(test, { secret: 's', meet: false })
    const a = await hidden(test, { secret: 's', meet: false })
    assert.equal(await a.connect(address), b.id)
    await hasPeers(a, [r.id, b.id])
    const atA = a.peers().find(({ id }) => id === b.id)
    const atB = b.peers().find(({ id }) => id === a.id)
    assert.deepEqual(atA?.path, { kind: 'relayed', transport: 'tcp', via: r.id })
    assert.deepEqual(atB?.path, { kind: 'relayed', transport: 'tcp', via: r.id })
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      to.handle(PROTOCOLS.stage, async stream => {
        for await (const piece of stream.received) stream.send(piece)
        await stream.close()
      })
      const stream = await from.open(to.id, PROTOCOLS.stage)
      stream.send(Uint8Array.of(1, 2, 3))
      await stream.close()
      const received: number[] = []
      for await (const piece of stream.received) received.push(...piece)
      assert.deepEqual(received, [1, 2, 3])
    }
    const { serving } = r.relay.status()
    assert.deepEqual(serving.circuits, [{ from: a.id, to: b.id }])
    assert.deepEqual(serving.peers.map(({ peer }) => peer).sort(), [a.id, b.id].sort())
    assert.ok(serving.peers.every(({ bytes }) => bytes > 0))
  })
})
