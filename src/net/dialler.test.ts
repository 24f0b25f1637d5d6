import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Connection } from '@libp2p/interface'
import { ManualClock, silentLogger } from '#base'
import { type Address, parseAddress } from './address.ts'
import { dialAny } from './dialler.ts'
import { DIAL_STAGGER_MS } from './limits.ts'
import { DEFAULT_SETTINGS } from './settings.ts'

const ADDRESSES = [1, 2, 3].map(port => parseAddress(`/ip4/192.0.2.1/tcp/${port}`))

function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

/** Only what the dialler looks at. */
function connectionTo(peer: string) {
  const calls: Error[] = []
  const connection = { remotePeer: peer, abort: (error: Error) => void calls.push(error) }
  return { connection: connection as unknown as Connection, isAborted: () => calls.length > 0 }
}

function setUp(peer = 'wanted') {
  const clock = new ManualClock()
  const dials = new Map<
    Address,
    { signal: AbortSignal; resolve: (c: Connection) => void; reject: (e: Error) => void }
  >()
  const dial = (address: Address, { signal }: { readonly signal: AbortSignal }): Promise<Connection> =>
    new Promise((resolve, reject) => {
      dials.set(address, { signal, resolve, reject })
      signal.addEventListener('abort', () => reject(new Error('aborted')))
    })
  const caller = new AbortController()
  const dialling = dialAny(
    { clock, log: silentLogger, settings: DEFAULT_SETTINGS, allows: () => true, dial },
    { addresses: ADDRESSES, peer },
    { signal: caller.signal },
  )
  dialling.catch(() => undefined)
  return { clock, dials, dialling, caller, of: (i: number) => dials.get(ADDRESSES[i] as Address) }
}

describe('net / dialler', () => {
  it('tries the next address beside a slow one, and takes whichever answers first', async () => {
    const { clock, dials, dialling, of } = setUp()
    await settle()
    assert.equal(dials.size, 1)
    clock.advance(DIAL_STAGGER_MS)
    await settle()
    assert.equal(dials.size, 2)
    const { connection } = connectionTo('wanted')
    of(1)?.resolve(connection)
    assert.equal(await dialling, connection)
    assert.equal(of(0)?.signal.aborted, true)
    clock.advance(10 * DIAL_STAGGER_MS)
    await settle()
    assert.equal(dials.size, 2)
  })

  it('closes a connection that comes too late', async () => {
    const { clock, dialling, of } = setUp()
    clock.advance(DIAL_STAGGER_MS)
    await settle()
    const late = connectionTo('wanted')
    of(0)?.resolve(connectionTo('wanted').connection)
    of(1)?.resolve(late.connection)
    await dialling
    await settle()
    assert.ok(late.isAborted())
  })

  it('drops whoever else answers, goes on, and says so where nobody else does', async () => {
    const { clock, dialling, of } = setUp()
    const other = connectionTo('other')
    await settle()
    of(0)?.resolve(other.connection)
    clock.advance(2 * DIAL_STAGGER_MS)
    await settle()
    assert.ok(other.isAborted())
    of(1)?.reject(new Error('refused'))
    of(2)?.reject(new Error('refused'))
    await assert.rejects(dialling, { fault: { code: 'NET_WRONG_PEER', expected: 'wanted', actual: 'other' } })
  })

  it('keeps addresses out of its message', async () => {
    const { clock, dialling, of } = setUp()
    clock.advance(2 * DIAL_STAGGER_MS)
    await settle()
    const cause = Object.assign(new Error('connect ECONNREFUSED 192.0.2.1:1'), { code: 'ECONNREFUSED' })
    for (const i of [0, 1, 2]) of(i)?.reject(cause)
    await assert.rejects(dialling, { code: 'NET_DIAL_FAILED', message: 'the peer could not be dialled: ECONNREFUSED' })
  })

  it('stops every dial when its caller gives up', async () => {
    const { dialling, caller, of } = setUp()
    await settle()
    caller.abort(new Error('enough'))
    await assert.rejects(dialling, /enough/)
    assert.equal(of(0)?.signal.aborted, true)
  })
})
