/** What the node's users ask for, each as one lookup in every family's network and what follows from it. */
import { abortError, BoundedQueue, type Clock, toHex } from '#base'
import { keyOf } from './address.ts'
import { type BencodeValue, encodeBencode } from '#formats'
import { MainlineError } from './errors.ts'
import type { ItemStore } from './item-store.ts'
import { checkImmutable, checkMutable, immutableTarget, isSignatureRight, mutableTarget, signedBytes } from './items.ts'
import { FOUND_PEERS_MAX, ITEM_SALT_BYTES_MAX, ITEM_VALUE_BYTES_MAX } from './limits.ts'
import type { Overlay } from './overlay.ts'
import type { PeerStore } from './peer-store.ts'
import { type Found, traverse, type Traversal } from './traverse.ts'
import type { Endpoint, MainlineOptions, MutableItem, PutMutable } from './types.ts'

export type Network = {
  readonly clock: Clock
  readonly overlays: readonly Overlay[]
  readonly peers: PeerStore
  readonly items: ItemStore
  readonly options: MainlineOptions
}

type Asked = { readonly publicKey: Uint8Array; readonly salt: Uint8Array }
type Place = { readonly overlay: Overlay; readonly found: readonly Found[] }

/** @returns nodes that stored it */
export async function announce(
  network: Network,
  announced: { readonly infoHash: Uint8Array; readonly port: number },
  signal: AbortSignal,
): Promise<number> {
  const { infoHash, port } = announced
  const places = await traverseAll(network, { target: infoHash, method: 'get_peers', signal })
  return storeAt(places, 'announce_peer', { info_hash: infoHash, port, implied_port: 0 })
}

/** Peers as they are found, each once: first those that we were told of ourselves. Ends the lookup when it is left. */
export async function* findPeers(
  network: Network,
  infoHash: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<Endpoint, void, undefined> {
  const left = new AbortController()
  const queue = new BoundedQueue<Endpoint>(FOUND_PEERS_MAX)
  const seen = new Set<string>()
  const push = (peer: Endpoint): void => {
    if (seen.size >= FOUND_PEERS_MAX || seen.has(keyOf(peer))) return
    seen.add(keyOf(peer))
    queue.push(peer)
  }
  for (const { family } of network.overlays) network.peers.find(infoHash, family).forEach(push)
  const lookups = network.overlays.map(overlay =>
    traverse(
      { clock: network.clock, overlay },
      {
        target: infoHash,
        method: 'get_peers',
        signal: AbortSignal.any([signal, left.signal]),
        onResponse: ({ peers }, from) => {
          peers.filter(peer => overlay.isReachable(peer, from)).forEach(push)
        },
      },
      network.options,
    ),
  )
  Promise.all(lookups).then(
    () => queue.end(),
    () => queue.end(signal.aborted ? abortError(signal) : undefined),
  )
  try {
    yield* queue
  } finally {
    left.abort()
  }
}

/** Asks first, so that nothing newer is overwritten, then stores. @returns nodes that stored it */
export async function putMutable(network: Network, item: PutMutable, signal: AbortSignal): Promise<number> {
  const { signer, seq, value, cas } = item
  const salt = item.salt ?? new Uint8Array()
  const valueBytes = checkedValue(value)
  for (const number of cas === undefined ? [seq] : [seq, cas]) {
    if (!Number.isSafeInteger(number) || number < 0) throw invalidValue('a sequence number is a whole number from 0')
  }
  if (salt.byteLength > ITEM_SALT_BYTES_MAX) throw invalidValue('a salt has at most 64 bytes')
  const asked = { publicKey: signer.publicKey, salt }
  const { newest, places } = await lookUpMutable(network, asked, signal)
  if (newest !== undefined) {
    const isSame = newest.seq === seq && toHex(newest.valueBytes) === toHex(valueBytes)
    if ((newest.seq >= seq && !isSame) || (cas !== undefined && cas !== newest.seq)) {
      throw new MainlineError(
        { code: 'MAINLINE_ITEM_NEWER', seq: newest.seq },
        'the network holds another value already',
      )
    }
  }
  const signature = await signer.sign(signedBytes({ salt, seq, valueBytes }))
  if (!isSignatureRight({ ...asked, seq, valueBytes, signature })) {
    throw invalidValue('the signer made no signature of its key')
  }
  const args: Record<string, BencodeValue> = { k: signer.publicKey, seq, sig: signature, v: value }
  if (salt.byteLength > 0) args['salt'] = salt
  if (cas !== undefined) args['cas'] = cas
  return storeAt(places, 'put', args)
}

export async function getMutable(
  network: Network,
  asked: Asked,
  signal: AbortSignal,
): Promise<MutableItem | undefined> {
  return (await lookUpMutable(network, asked, signal)).newest
}

export async function putImmutable(
  network: Network,
  value: BencodeValue,
  signal: AbortSignal,
): Promise<{ readonly target: Uint8Array; readonly stored: number }> {
  const target = immutableTarget(checkedValue(value))
  const places = await traverseAll(network, { target, method: 'get', signal })
  return { target, stored: await storeAt(places, 'put', { v: value }) }
}

/** Ends with the first answer that has the right hash: there can be no better one. */
export async function getImmutable(
  network: Network,
  target: Uint8Array,
  signal: AbortSignal,
): Promise<BencodeValue | undefined> {
  const own = network.items.find(target)
  if (own !== undefined && own.signed === undefined) return own.value
  let value: BencodeValue | undefined
  const enough = new AbortController()
  try {
    await traverseAll(network, {
      target,
      method: 'get',
      signal: AbortSignal.any([signal, enough.signal]),
      onResponse: ({ item }) => {
        value ??= item === undefined ? undefined : checkImmutable(item, target)
        if (value !== undefined) enough.abort()
      },
    })
  } catch (error) {
    if (value === undefined) throw error // Else it was we who ended the lookups.
  }
  return value
}

async function lookUpMutable(
  network: Network,
  asked: Asked,
  signal: AbortSignal,
): Promise<{ readonly newest: MutableItem | undefined; readonly places: readonly Place[] }> {
  const target = mutableTarget(asked.publicKey, asked.salt)
  const own = network.items.find(target)
  let newest: MutableItem | undefined = own?.signed === undefined ? undefined : { ...own, ...own.signed }
  const places = await traverseAll(network, {
    target,
    method: 'get',
    signal,
    onResponse: ({ item }) => {
      // The signature is checked only of what is newer than what we have.
      if (item?.seq === undefined || item.seq <= (newest?.seq ?? -1)) return
      newest = checkMutable(item, asked) ?? newest
    },
  })
  return { newest, places }
}

async function traverseAll(network: Network, traversal: Traversal): Promise<Place[]> {
  const { clock, options } = network
  return Promise.all(
    network.overlays.map(async overlay => ({ overlay, found: await traverse({ clock, overlay }, traversal, options) })),
  )
}

/** Tells each of the nearest nodes that gave a token. @returns those that said yes */
async function storeAt(
  places: readonly Place[],
  method: 'announce_peer' | 'put',
  args: { readonly [key: string]: BencodeValue },
): Promise<number> {
  const answers = places.flatMap(({ overlay, found }) =>
    found.flatMap(({ contact, token }) =>
      token === undefined ? [] : [overlay.query(contact, { method, args: { ...args, token }, id: contact.id })],
    ),
  )
  return (await Promise.all(answers)).filter(({ kind }) => kind === 'response').length
}

function checkedValue(value: BencodeValue): Uint8Array {
  const bytes = encodeBencode(value)
  if (bytes === undefined) throw invalidValue('the value cannot be said in bencode')
  if (bytes.byteLength > ITEM_VALUE_BYTES_MAX)
    throw invalidValue('a value has less than 1000 bytes in its bencoded form')
  return bytes
}

function invalidValue(text: string): MainlineError {
  return new MainlineError({ code: 'MAINLINE_VALUE_INVALID' }, text)
}
