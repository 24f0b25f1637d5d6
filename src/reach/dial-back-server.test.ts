import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStreamPair, ManualClock, seededRandom, silentLogger } from '#base'
import type { Peer, Probe, ProbeTarget } from '#net'
import { encodeBody, NONCE_BYTES, PROTOCOLS, withLengthPrefix } from '#wire'
import { decodeAnswer, encodeRequest, readAnswer, readNonce } from './dial-back-messages.ts'
import { DialBackServer } from './dial-back-server.ts'
import {
  DIAL_BACK_DIAL_MS_MAX,
  DIAL_BACK_REQUEST_BYTES_MAX,
  DIAL_BACK_REQUEST_BYTES_MIN,
  DIAL_BACK_REQUEST_MS_MAX,
  DIAL_BACKS_PER_ADDRESS_MAX,
  DIAL_BACKS_RUNNING_MAX,
} from './limits.ts'

const ASKER = 'asker'
const SEEN = '/ip4/62.1.0.1/tcp/39000'
const OWN = '/ip4/62.1.0.1/tcp/4001'
const NONCE = new Uint8Array(NONCE_BYTES).fill(7)

type Dials = { readonly targets: ProbeTarget[]; readonly nonces: (Uint8Array | undefined)[] }

/** A server that sees the asker there. `probe` is what its dials come to. */
function setUp(options: { readonly seen?: string; readonly probe?: (dials: Dials) => Promise<Probe> } = {}) {
  const clock = new ManualClock()
  const dials: Dials = { targets: [], nonces: [] }
  const { seen = SEEN, probe = answering } = options
  const server = new DialBackServer({
    clock,
    log: silentLogger,
    host: {
      peers: () => [{ id: ASKER, remoteAddress: seen } as Peer],
      probe: async target => {
        dials.targets.push(target)
        return probe(dials)
      },
    },
  })
  const ask = async (request: Uint8Array): Promise<string | undefined> => {
    const [ours, theirs] = createStreamPair(PROTOCOLS.reach, { a: 'server', b: ASKER })
    theirs.send(request)
    const serving = server.serve(ours)
    const body = await readAnswer(theirs)
    await serving
    return body === undefined ? undefined : decodeAnswer(body)
  }
  const request = (address: string, plane = false): Uint8Array =>
    encodeRequest(seededRandom(1), { address, plane, nonce: NONCE })
  return { server, clock, dials, ask, request }
}

/** The asker takes the nonce and closes. */
async function answering(dials: Dials): Promise<Probe> {
  const [ours, theirs] = createStreamPair(PROTOCOLS.reachBack, { a: 'server', b: ASKER })
  void readNonce(theirs).then(async nonce => {
    dials.nonces.push(nonce)
    await theirs.close()
  })
  return { stream: ours, end: async () => undefined }
}

test('dials where it sees the asker, and hands over the nonce there', async () => {
  const { dials, ask, request } = setUp()
  assert.equal(await ask(request(OWN)), 'dialled')
  assert.equal(await ask(request(OWN, true)), 'dialled')
  assert.deepEqual(dials.targets, [
    { peer: ASKER, address: OWN, isPlane: false },
    { peer: ASKER, address: OWN, isPlane: true },
  ])
  assert.deepEqual(dials.nonces, [NONCE, NONCE])
})

test('dials nobody else: no other address, no name, no private one, no service of the system, no relay', async () => {
  const { dials, ask, request } = setUp()
  for (const address of [
    '/ip4/77.1.0.1/tcp/4001',
    '/ip6/2a01::1/tcp/4001',
    '/ip4/62.1.0.1/tcp/25',
    '/ip4/62.1.0.1/tcp/22',
  ]) {
    assert.equal(await ask(request(address)), 'address', address)
  }
  for (const address of [
    '/dns4/victim.example/tcp/80',
    '/ip4/62.1.0.1/udp/53',
    `${OWN}/p2p-circuit`,
    '',
    OWN.repeat(3),
  ]) {
    assert.equal(await ask(request(address)), 'malformed', address)
  }
  const inside = setUp({ seen: '/ip4/192.168.1.5/tcp/39000' })
  assert.equal(await inside.ask(request('/ip4/192.168.1.5/tcp/4001')), 'address')
  const relayed = setUp({ seen: '/dns4/relay.example/tcp/1' })
  assert.equal(await relayed.ask(request(OWN)), 'address')
  const udp = setUp({ seen: '/ip4/62.1.0.1/udp/39000/quic-v1' })
  assert.equal(await udp.ask(request('/ip4/62.1.0.1/udp/4001/quic-v1')), 'address')
  assert.deepEqual(
    [dials, inside.dials, relayed.dials, udp.dials].map(({ targets }) => targets.length),
    [0, 0, 0, 0],
  )
})

test('a request must cost more than the dial, and no more than it may', async () => {
  const { dials, ask, request } = setUp()
  const small = withLengthPrefix(encodeBody({ address: OWN, plane: false, nonce: NONCE, padding: new Uint8Array(100) }))
  assert.equal(await ask(small), 'malformed')
  assert.ok(request(OWN).byteLength > DIAL_BACK_REQUEST_BYTES_MIN)
  const large = withLengthPrefix(new Uint8Array(DIAL_BACK_REQUEST_BYTES_MAX + 1))
  assert.equal(await ask(large), 'malformed')
  const noise = withLengthPrefix(seededRandom(3).bytes(DIAL_BACK_REQUEST_BYTES_MIN))
  assert.equal(await ask(noise), 'malformed')
  const shortNonce = { address: OWN, plane: false, nonce: NONCE.subarray(1), padding: new Uint8Array(8_192) }
  assert.equal(await ask(withLengthPrefix(encodeBody(shortNonce))), 'malformed')
  assert.equal(dials.targets.length, 0)
})

test('a flood of requests gets so many dials and no more', async () => {
  const { dials, ask, request } = setUp()
  const outcomes: (string | undefined)[] = []
  for (let count = 0; count < 100; count++) outcomes.push(await ask(request(OWN)))
  assert.equal(dials.targets.length, DIAL_BACKS_PER_ADDRESS_MAX)
  assert.equal(outcomes.filter(outcome => outcome === 'rate').length, 100 - DIAL_BACKS_PER_ADDRESS_MAX)
})

test('few dials run at once, and each ends in time where nobody answers', async () => {
  const { clock, ask, request, dials } = setUp({ probe: () => new Promise(() => undefined) })
  const running = Array.from({ length: DIAL_BACKS_RUNNING_MAX }, () => ask(request(OWN)))
  for (let turn = 0; turn < 1_000 && dials.targets.length < DIAL_BACKS_RUNNING_MAX; turn++)
    await new Promise(resolve => setImmediate(resolve))
  assert.equal(await ask(request(OWN)), 'busy')
  clock.advance(DIAL_BACK_DIAL_MS_MAX)
  assert.deepEqual(new Set(await Promise.all(running)), new Set(['failed']))
})

test('who sends no request in time, or is there no more when the node stops, loses the stream', async () => {
  const { clock, server } = setUp()
  const [ours] = createStreamPair(PROTOCOLS.reach, { a: 'server', b: ASKER })
  const slow = assert.rejects(server.serve(ours), { code: 'TIMEOUT' })
  clock.advance(DIAL_BACK_REQUEST_MS_MAX)
  await slow
  const [late] = createStreamPair(PROTOCOLS.reach, { a: 'server', b: ASKER })
  const stopped = assert.rejects(server.serve(late), /stopping/)
  server.stop()
  await stopped
})
