/** A peer that speaks kad-dht's protocol by hand, so that it can say what no library would. */
import type { Libp2p } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { lpStream } from '@libp2p/utils'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { concatBytes, type Random } from '#base'
import { createNodeIdentity, type NodeIdentity } from '#identity'
import { PROTOCOLS } from '#wire'
import { createMemoryHost, type MemoryFabric } from './memory-libp2p.ts'

/** Numbers of message types on the wire. */
export const TYPES = { putValue: 0, getValue: 1, addProvider: 2, getProviders: 3, findNode: 4, ping: 5 } as const

export type WirePeer = { readonly peer: string; readonly addresses: readonly string[] }

export type WireMessage = {
  readonly type: number
  readonly key?: Uint8Array
  readonly record?: Uint8Array
  readonly closer?: readonly WirePeer[]
  readonly providers?: readonly WirePeer[]
}

export type Attacker = {
  readonly libp2p: Libp2p
  readonly identity: NodeIdentity
  readonly address: string
  /** Types of the requests that it has seen. */
  readonly asked: number[]
  /** Sends a message; undefined where the other resets the stream or says nothing. */
  ask(target: string, message: Uint8Array): Promise<Uint8Array | undefined>
}

export type AttackerOptions = {
  readonly random: Random
  readonly fabric: MemoryFabric
  readonly address: string
  readonly identity?: NodeIdentity
  /** What it answers; undefined resets the stream. Pings are answered as they should be. @default an empty answer */
  readonly answer?: (type: number, request: Uint8Array) => Uint8Array | undefined
}

export async function startAttacker(options: AttackerOptions): Promise<Attacker> {
  const { random, fabric, address, answer = type => encodeMessage({ type }) } = options
  const identity = options.identity ?? (await createNodeIdentity(random))
  const asked: number[] = []
  const libp2p = await createMemoryHost(fabric, { key: identity.privateKey, address, services: {} })
  await libp2p.handle(PROTOCOLS.kad, async stream => {
    const messages = lpStream(stream)
    try {
      for (;;) {
        const request = (await messages.read()).subarray()
        // A type of 0 is left out of the bytes.
        const type = request[0] === 0x08 ? (request[1] ?? 0) : 0
        asked.push(type)
        const said = type === TYPES.ping ? request : answer(type, request)
        if (said === undefined) throw new Error('says nothing')
        await messages.write(said)
      }
    } catch (error) {
      stream.abort(error as Error) // The other has closed, or is to see a reset.
    }
  })
  return {
    libp2p,
    identity,
    address: `${address}/p2p/${identity.peer}`,
    asked,
    ask: async (target, message) => {
      const stream = await libp2p.dialProtocol(multiaddr(target), PROTOCOLS.kad)
      const messages = lpStream(stream)
      try {
        await messages.write(message)
        // Nothing more is said: whoever waits for the rest of a message sees that there is none.
        await stream.close()
        return (await messages.read()).subarray()
      } catch {
        return undefined // Reset by the other: the answer to what it does not take.
      } finally {
        stream.abort(new Error('done'))
      }
    },
  }
}

/** https://github.com/libp2p/specs/tree/master/kad-dht#rpc-messages */
export function encodeMessage({ type, key, record, closer = [], providers = [] }: WireMessage): Uint8Array {
  return concatBytes([
    ...(type === 0 ? [] : [Uint8Array.of(0x08, type)]),
    ...(key === undefined ? [] : field(2, key)),
    ...(record === undefined ? [] : field(3, record)),
    ...closer.flatMap(peer => field(8, encodePeer(peer))),
    ...providers.flatMap(peer => field(9, encodePeer(peer))),
  ])
}

function encodePeer({ peer, addresses }: WirePeer): Uint8Array {
  const bytes = addresses.map((text): Multiaddr => multiaddr(text)).flatMap(address => field(2, address.bytes))
  return concatBytes([...field(1, peerIdFromString(peer).toMultihash().bytes), ...bytes])
}

function field(number: number, content: Uint8Array): Uint8Array[] {
  const size = content.byteLength
  const length = size < 0x80 ? [size] : size < 0x4000 ? [(size & 0x7f) | 0x80, size >> 7] : lengthOf(size)
  return [Uint8Array.of((number << 3) | 2, ...length), content]
}

function lengthOf(size: number): number[] {
  return [(size & 0x7f) | 0x80, ((size >> 7) & 0x7f) | 0x80, size >> 14]
}
