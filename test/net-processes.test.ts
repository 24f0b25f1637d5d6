/** Two hosts in two processes: what a process boundary adds is death without a word. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemClock, systemRandom, toHex, withDeadline } from '#base'
import { createHost, type Host, type NetSettings, type PeerEvent } from '#net'
import { PROTOCOLS } from '#wire'
import { hostDeps } from './support/net-hosts.ts'

type Cleaner = { after(action: () => Promise<void> | void): void }

function within<T>(what: string, promise: Promise<T>): Promise<T> {
  return withDeadline(systemClock, { what, timeoutMs: 20_000 }, () => promise)
}

async function startChild(test: Cleaner, args: readonly string[]): Promise<{ child: ChildProcess; address: string }> {
  const script = fileURLToPath(new URL('./support/net-child.ts', import.meta.url))
  const child = spawn(process.execPath, [script, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  test.after(() => void child.kill('SIGKILL'))
  const lines = createInterface({ input: child.stdout })
  const [address] = (await within('the address of the child', once(lines, 'line'))) as [string]
  return { child, address }
}

async function startHost(test: Cleaner, settings: Partial<NetSettings> = {}): Promise<Host> {
  const host = await createHost(await hostDeps(), {
    listen: ['/ip4/127.0.0.1/tcp/0'],
    mdns: false,
    secret: new TextEncoder().encode('across processes'),
    settings,
  })
  await host.start()
  test.after(() => host.stop())
  return host
}

function nextEvent(host: Host, kind: PeerEvent['kind']): Promise<PeerEvent> {
  const { promise, resolve } = Promise.withResolvers<PeerEvent>()
  host.onPeer(event => {
    if (event.kind === kind) resolve(event)
  })
  return within(`a peer that has ${kind}`, promise)
}

describe('hosts in two processes', () => {
  it('talk, notice a death, and meet again at the same address', async test => {
    const key = toHex(systemRandom.bytes(32))
    // The breaker of the address opens while nobody listens there: its next try must not be later than we wait.
    const host = await startHost(test, { breakerWaitMsMax: 1_000 })
    const { child, address } = await startChild(test, [key])
    const joined = nextEvent(host, 'joined')
    host.keepConnected([address])
    const { peer } = await joined

    const stream = await host.open(peer.id, PROTOCOLS.stage)
    stream.send(Uint8Array.of(1, 2, 3))
    const reader = stream.received[Symbol.asyncIterator]()
    assert.deepEqual((await within('the echo', reader.next())).value, Uint8Array.of(1, 2, 3))

    const left = nextEvent(host, 'left')
    child.kill('SIGKILL')
    assert.equal((await left).peer.id, peer.id)
    await assert.rejects(within('the loss', reader.next()), { code: 'STREAM_LOST' })

    const back = nextEvent(host, 'joined')
    const again = await startChild(test, [key, address.split('/p2p')[0] ?? ''])
    assert.equal(again.address, address)
    assert.equal((await back).peer.id, peer.id)
  })

  it('close the connection of a process that stands still, and take it back when it goes on', async test => {
    const key = toHex(systemRandom.bytes(32))
    const host = await startHost(test, { pingIntervalMs: 1_000, pingTimeoutMs: 500, pingFailuresMax: 2 })
    const { child, address } = await startChild(test, [key])
    const joined = nextEvent(host, 'joined')
    host.keepConnected([address])
    const { peer } = await joined
    const reader = (await host.open(peer.id, PROTOCOLS.stage)).received[Symbol.asyncIterator]()

    const left = nextEvent(host, 'left')
    child.kill('SIGSTOP')
    const { peer: gone } = await left
    assert.deepEqual([gone.id, gone.pingFailures], [peer.id, 2])
    await assert.rejects(within('the reset', reader.next()), { code: 'STREAM_LOST' })

    const back = nextEvent(host, 'joined')
    child.kill('SIGCONT')
    assert.equal((await back).peer.id, peer.id)
  })

  it('leave no socket and no timer behind: a process that stops its host ends by itself', async test => {
    const key = toHex(systemRandom.bytes(32))
    const host = await startHost(test)
    const { child, address } = await startChild(test, [key])
    const id = await host.connect(address)
    await host.open(id, PROTOCOLS.stage)
    const exited = within('the end of the process', once(child, 'exit'))
    const left = nextEvent(host, 'left')
    child.stdin?.end()
    assert.deepEqual(await exited, [0, null])
    assert.equal((await left).peer.id, id)
    assert.deepEqual(host.peers(), [])
  })
})
