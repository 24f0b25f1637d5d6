import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger, systemRandom } from '#base'
import type { HostMessage, Peer, PeerEvent } from '#net'
import { Requester, Transfers } from '#protocol'
import { encodeBody, FRAME_TYPES } from '#wire'
import { createDispatcher, settled, TestAttachment, testCommand } from '../../test/support/command-fixture.ts'
import { NO_STORE } from '../../test/support/transfer-pair.ts'
import { CommandLink } from './command-link.ts'
import { CALLER_GONE_MS } from './limits.ts'

const TYPE = 64
const PEER = 'alice'

test('an answer that waits to be fetched is given back when its caller has gone for good', async () => {
  const attachment = new TestAttachment(1024 * 1024)
  const { dispatcher, clock, registry, limiter, penalties } = createDispatcher([
    testCommand({ type: TYPE, name: 'LARGE', handle: async body => ({ body, attachment }) }),
  ])
  const sent: number[] = []
  const events: ((event: PeerEvent) => void)[] = []
  const messages: ((message: HostMessage) => void)[] = []
  const deps = { clock, random: systemRandom, log: silentLogger, registry, dispatcher, limiter, penalties }
  const openStream = (): Promise<never> => Promise.reject(new Error('nobody is there'))
  const transfers = new Transfers({ ...deps, store: NO_STORE, openStream, blame: () => undefined })
  const link = new CommandLink({
    ...deps,
    transfers,
    requester: new Requester(deps),
    isTrusted: () => false,
    host: {
      onMessage: listener => void messages.push(listener),
      onPeer: listener => {
        events.push(listener)
        return () => undefined
      },
      sendMessage: (_peer, { type }) => sent.push(type) > 0,
      room: () => Promise.resolve(),
    },
  })
  assert.equal(link.connectionTo(PEER).peer, PEER)
  const body = encodeBody({ id: systemRandom.bytes(16), body: { text: 'hi' } })
  for (const listen of messages) listen({ peer: PEER, type: TYPE, body })
  while (sent.length === 0) await settled()
  assert.deepEqual(sent, [FRAME_TYPES.response])

  for (const listen of events) listen({ kind: 'left', peer: { id: PEER } as Peer })
  clock.advance(CALLER_GONE_MS - 1)
  await settled()
  assert.equal(attachment.releases, 0)
  clock.advance(1)
  await settled()
  assert.equal(attachment.releases, 1)
  await transfers.stop()
})
