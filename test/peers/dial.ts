/**
 * What the peers in this folder share: a libp2p node with a new key, one stream to a Koinon node, exact reads. They are
 * written by the words of `docs/reference/` with public packages, and use nothing of `src/`: as others would write them.
 */
import { randomBytes } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

export type Bytes = Uint8Array<ArrayBuffer>

/** The longest that a script may take, in milliseconds. */
const SCRIPT_MS_MAX = 30_000

export type Line = {
  /** Peer ids, as text. */
  readonly self: string
  readonly peer: string
  /** Ed25519: ours, and the public half of the node's. */
  readonly secretKey: Bytes
  readonly publicKey: Bytes
  readonly peerKey: Bytes
  send(bytes: Uint8Array): void
  /** The next so many bytes. @throws where the stream ends first */
  read(count: number): Promise<Bytes>
  /** Ends our direction. */
  end(): Promise<void>
  /** Everything up to the end of the other direction. @throws where the stream is reset */
  rest(): Promise<Bytes>
}

/** Dials, opens a stream of the protocol, and hands it over. The connection is closed afterwards. */
export async function withLine<T>(address: string, protocol: string, talk: (line: Line) => Promise<T>): Promise<T> {
  const secretKey = new Uint8Array(randomBytes(32))
  const libp2p = await createLibp2p({
    privateKey: await generateKeyPairFromSeed('Ed25519', secretKey),
    transports: [tcp()],
    connectionEncrypters: [tls()],
    streamMuxers: [yamux()],
  })
  try {
    const connection = await libp2p.dial(multiaddr(address))
    const stream = await connection.newStream(protocol)
    const { publicKey } = connection.remotePeer
    if (publicKey?.type !== 'Ed25519') throw new Error('the node has no Ed25519 key')
    const pieces = stream[Symbol.asyncIterator]()
    return await talk({
      self: libp2p.peerId.toString(),
      peer: connection.remotePeer.toString(),
      secretKey,
      publicKey: ed25519.getPublicKey(secretKey),
      peerKey: new Uint8Array(publicKey.raw),
      send: bytes => void stream.send(bytes),
      read: readerOf(pieces),
      end: () => stream.close(),
      rest: () => restOf(pieces),
    })
  } finally {
    await libp2p.stop()
  }
}

type Pieces = ReturnType<Stream[typeof Symbol.asyncIterator]>

function readerOf(pieces: Pieces): (count: number) => Promise<Bytes> {
  let held: Bytes = new Uint8Array(0)
  return async count => {
    while (held.byteLength < count) {
      const next = await pieces.next()
      if (next.done === true) throw new Error(`the stream ended, ${count - held.byteLength} bytes early`)
      held = join(held, next.value.subarray())
    }
    const bytes = held.slice(0, count)
    held = held.slice(count)
    return bytes
  }
}

async function restOf(pieces: Pieces): Promise<Bytes> {
  const parts: Bytes[] = []
  for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) {
    parts.push(join(next.value.subarray()))
  }
  return join(...parts)
}

export function join(...parts: readonly Uint8Array[]): Bytes {
  return new Uint8Array(Buffer.concat(parts))
}

export function u32(value: number): Bytes {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}

/** Each part behind its length. */
export function prefixed(...parts: readonly Uint8Array[]): Bytes {
  return join(...parts.flatMap(part => [u32(part.byteLength), part]))
}

/** Runs a script: `node SCRIPT ADDRESS` prints one JSON value, or fails. */
export async function main(script: (address: string) => Promise<unknown>): Promise<void> {
  const [address] = process.argv.slice(2)
  if (address === undefined)
    throw new Error('give the address of a node, such as /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...')
  const timer = setTimeout(() => process.exit(3), SCRIPT_MS_MAX)
  process.stdout.write(`${JSON.stringify(await script(address), undefined, 2)}\n`)
  clearTimeout(timer)
}
