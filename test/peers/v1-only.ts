/**
 * A peer that speaks version 1 of the protocol and no other, as another implementation would: HELLO, handshake, proof,
 * the exchange of offers, then GET_CAPABILITIES. Prints what was agreed and answered.
 *
 *     node test/peers/v1-only.ts ADDRESS        (with KOINON_SWARM_SECRET where the swarm has one)
 */
import { randomBytes } from 'node:crypto'
import { decode, encode } from '@ipld/dag-cbor'
import { gcm } from '@noble/ciphers/aes.js'
import { ed25519 } from '@noble/curves/ed25519.js'
import { x25519 } from '@noble/curves/ed25519.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { ReferenceNoise } from '../support/noise-reference.ts'
import { type Bytes, join, type Line, main, prefixed, withLine } from './dial.ts'
import { type Frame, helloOf, NO_SESSION, prefixOf, readFrame, sendFrame, SUITE, TYPE } from './frames.ts'

const text = new TextEncoder()
const VERSIONS = [1]

type Hello = {
  readonly versions: readonly number[]
  readonly suites: readonly string[]
  readonly agent: string
  readonly capabilities: readonly string[]
  readonly nonce: Bytes
  readonly session: Bytes
  readonly key: Bytes
}

type Session = {
  readonly id: Bytes
  readonly sendKey: Bytes
  readonly receiveKey: Bytes
  sent: number
  received: number
}

/** The handshake's statement: whose static key it is. */
function statement(role: string, staticKey: Uint8Array, h: Uint8Array): Bytes {
  return join(text.encode(`koinon/noise-static/1${role}`), staticKey, h)
}

async function handshake(line: Line, session: Bytes, prologue: Bytes): Promise<Session> {
  const staticSecret = new Uint8Array(randomBytes(32))
  const noise = new ReferenceNoise({
    name: SUITE,
    isInitiator: true,
    prologue,
    staticSecret,
    ephemeralSecret: new Uint8Array(randomBytes(32)),
    kem: new Uint8Array(randomBytes(64)),
  })
  const say = (sequence: number, message: Uint8Array): void => {
    const payload = join(message)
    sendFrame(line, session, { prefix: prefixOf(TYPE.handshake, sequence, payload.byteLength), payload })
  }
  say(1, noise.write1(new Uint8Array(0)))
  const second = await expectFrame(line, session, TYPE.handshake)
  const { payload, h } = noise.read2(second.payload)
  const proof = decode<{ key: Bytes; signature: Bytes }>(payload)
  const isNode = Buffer.from(proof.key).equals(line.peerKey)
  if (!isNode || !ed25519.verify(proof.signature, statement('listener', noise.rs, h), line.peerKey)) {
    throw new Error('the node does not prove its key')
  }
  const ours = x25519.getPublicKey(staticSecret)
  const prove = (hash: Uint8Array): Uint8Array =>
    encode({ key: line.publicKey, signature: ed25519.sign(statement('dialler', ours, hash), line.secretKey) })
  say(2, noise.write3(prove))
  const [toListener, toDialler] = noise.split()
  const controlKey = (secret: Uint8Array): Bytes =>
    join(hkdf(sha256, secret, session, text.encode('koinon/control/1'), 32))
  return { id: session, sendKey: controlKey(toListener), receiveKey: controlKey(toDialler), sent: 0, received: 0 }
}

function ivOf(sequence: number): Bytes {
  const iv = new Uint8Array(12)
  new DataView(iv.buffer).setBigUint64(4, BigInt(sequence))
  return iv
}

/** A message of the session: encrypted, then signed. */
function say(line: Line, session: Session, { type, body }: { type: number; body: unknown }): void {
  const plaintext = encode(body)
  const sequence = session.sent++
  const prefix = prefixOf(type, sequence, plaintext.byteLength + 16)
  const payload = join(gcm(session.sendKey, ivOf(sequence), prefix).encrypt(plaintext))
  sendFrame(line, session.id, { prefix, payload })
}

/** The node's next message. */
async function hear(line: Line, session: Session): Promise<{ readonly type: number; readonly body: unknown }> {
  const frame = await readFrame(line, session.id)
  if (frame.sequence !== session.received++) throw new Error(`frame ${frame.sequence} out of turn`)
  const plaintext = gcm(session.receiveKey, ivOf(frame.sequence), frame.prefix).decrypt(frame.payload)
  return { type: frame.type, body: decode(plaintext) }
}

async function hearType(line: Line, session: Session, type: number): Promise<unknown> {
  for (;;) {
    const message = await hear(line, session)
    if (message.type === type) return message.body
    if (message.type === TYPE.refuse || message.type === TYPE.error) throw new Error(JSON.stringify(message.body))
  }
}

async function expectFrame(line: Line, session: Bytes, type: number): Promise<Frame> {
  const frame = await readFrame(line, session)
  if (frame.type === TYPE.refuse) throw new Error(`refused: ${JSON.stringify(decode(frame.payload))}`)
  if (frame.type !== type) throw new Error(`a frame of type ${frame.type} where ${type} was due`)
  return frame
}

/** The proof of the swarm secret, in a swarm that has one. */
function proofOf(line: Line, nonces: { readonly ours: Bytes; readonly theirs: Bytes }): { mac?: Bytes } {
  const secret = process.env['KOINON_SWARM_SECRET'] ?? ''
  if (secret === '') return {}
  const words = ['koinon-swarm/1', 'dialler', line.self, line.peer].map(word => text.encode(word))
  return { mac: join(hmac(sha256, text.encode(secret), prefixed(...words, nonces.ours, nonces.theirs))) }
}

await main(address =>
  withLine(address, '/koinon/control/1', async line => {
    const [session, nonce] = [uuid(), new Uint8Array(randomBytes(32))]
    const payload = helloOf(line, VERSIONS, { session, nonce })
    const prefix = prefixOf(TYPE.hello, 0, payload.byteLength)
    sendFrame(line, NO_SESSION, { prefix, payload })
    const answer = await expectFrame(line, NO_SESSION, TYPE.hello)
    const theirs = decode<Hello>(answer.payload)
    const version = Math.max(...VERSIONS.filter(version => theirs.versions.includes(version)))
    if (!Buffer.from(theirs.session).equals(session) || !Buffer.from(theirs.key).equals(line.peerKey)) {
      throw new Error('the node answers for another session, or with another key')
    }
    const prologue = prefixed(text.encode('koinon/session/1'), prefix, payload, answer.prefix, answer.payload)
    const keys = await handshake(line, session, prologue)
    say(line, keys, { type: TYPE.proof, body: proofOf(line, { ours: nonce, theirs: theirs.nonce }) })
    await hearType(line, keys, TYPE.proof)
    const offer = { agent: 'another', addresses: [], memoryBytes: 0, threads: 1, weightBytesPerSecond: 0, stages: [] }
    say(line, keys, { type: TYPE.info, body: { offer, peers: [] } })
    const info = (await hearType(line, keys, TYPE.info)) as { readonly offer: { readonly stages: readonly unknown[] } }
    say(line, keys, { type: TYPE.capabilities, body: { id: uuid(), body: {} } })
    const { body } = (await hearType(line, keys, TYPE.response)) as { readonly body: unknown }
    return {
      peer: line.peer,
      version,
      suite: theirs.suites.find(suite => suite === SUITE),
      session: Buffer.from(session).toString('hex'),
      agent: theirs.agent,
      stages: info.offer.stages.length,
      capabilities: body,
    }
  }),
)

function uuid(): Bytes {
  const id = new Uint8Array(randomBytes(16))
  id[6] = ((id[6] ?? 0) & 0x0f) | 0x40
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80
  return id
}
