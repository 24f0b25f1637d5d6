/**
 * Known peers that outlive a restart: a row each of who it is and the last record that it has signed of its addresses.
 * About 100 bytes without the record; peer id and stable id follow from the key. Beside them the number under which this
 * node has published metadata last.
 */
import { KNOWN_PEERS_KEPT_MAX, KNOWN_PEER_RECORD_BYTES_MAX, KNOWN_PEER_TOPIC_CHARS_MAX } from './limits.ts'
import { bytesOf, integerOf, limitRows, prepareRead, type Row, type StoreDeps, textOf } from './rows.ts'

const PUBLIC_KEY_BYTES = 32
const NODE_ID_BYTES = 20
const SOURCES = ['identity_exchange', 'peer_exchange'] as const

/** A row of known peers. Peer id and stable id follow from the key. */
export type KnownPeerRow = {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** 20 bytes: where the peer is in the Mainline DHT. Its own word. */
  readonly dhtNodeId?: Uint8Array
  readonly isRelay: boolean
  readonly topic: string
  /** From itself, or from another peer. */
  readonly source: (typeof SOURCES)[number]
  /** Unix milliseconds. */
  readonly firstSeen: number
  /** Unix milliseconds: when somebody was last connected to it. */
  readonly lastSeen: number
  /** A signed peer record. Whoever reads it checks it again. */
  readonly record?: Uint8Array
}

/** Never throws: what cannot be kept is lost at the next start, and the log says so. */
export interface KnownPeerStore {
  /** The last seen first. */
  load(): readonly KnownPeerRow[]
  /** Inserts or replaces. */
  save(peer: KnownPeerRow): void
  /** Changes when the peer was last seen, and nothing else. */
  touch(publicKey: Uint8Array, lastSeen: number): void
  remove(publicKey: Uint8Array): void
  /** The number under which this node has published metadata last. */
  sequence(): number | undefined
  setSequence(sequence: number): void
}

export function createKnownPeerStore({ database, guard }: StoreDeps): KnownPeerStore {
  const load = prepareRead(database, 'SELECT * FROM known_peers ORDER BY last_seen DESC LIMIT ?')
  const upsert = database.prepare(
    `INSERT INTO known_peers (public_key, dht_node_id, is_relay, topic, source, first_seen, last_seen, record)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (public_key) DO UPDATE SET dht_node_id = excluded.dht_node_id, is_relay = excluded.is_relay,
       topic = excluded.topic, source = excluded.source, last_seen = excluded.last_seen, record = excluded.record`,
  )
  const touch = database.prepare('UPDATE known_peers SET last_seen = ? WHERE public_key = ?')
  const remove = database.prepare('DELETE FROM known_peers WHERE public_key = ?')
  const sequence = prepareRead(database, 'SELECT sequence FROM discovery WHERE id = 1')
  const setSequence = database.prepare(
    'INSERT INTO discovery (id, sequence) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence',
  )
  const limit = limitRows(database, { table: 'known_peers', firstToGo: 'last_seen', max: KNOWN_PEERS_KEPT_MAX })
  return {
    load: () =>
      guard.attempt<readonly KnownPeerRow[]>('read the known peers', [], () =>
        load
          .all(KNOWN_PEERS_KEPT_MAX)
          .map(peerOf)
          .filter(peer => peer !== undefined),
      ),
    save: peer =>
      guard.attempt('store a known peer', undefined, () => {
        const { publicKey, dhtNodeId = null, topic, record } = peer
        const kept = record !== undefined && record.byteLength <= KNOWN_PEER_RECORD_BYTES_MAX ? record : null
        const [first, last] = [Math.trunc(peer.firstSeen), Math.trunc(peer.lastSeen)]
        const source = SOURCES.indexOf(peer.source)
        upsert.run(publicKey, dhtNodeId, peer.isRelay ? 1 : 0, topic, source, first, last, kept)
        limit()
      }),
    touch: (publicKey, lastSeen) =>
      guard.attempt('store when a peer was seen', undefined, () => void touch.run(Math.trunc(lastSeen), publicKey)),
    remove: publicKey => guard.attempt('forget a known peer', undefined, () => void remove.run(publicKey)),
    sequence: () =>
      guard.attempt<number | undefined>('read the number of the metadata', undefined, () => {
        const row = sequence.get()
        return row === undefined ? undefined : integerOf(row, 'sequence')
      }),
    setSequence: value =>
      guard.attempt('store the number of the metadata', undefined, () => void setSequence.run(Math.trunc(value))),
  }
}

function peerOf(row: Row): KnownPeerRow | undefined {
  const publicKey = bytesOf(row, 'public_key', PUBLIC_KEY_BYTES)
  const dhtNodeId = bytesOf(row, 'dht_node_id', NODE_ID_BYTES)
  const isRelay = integerOf(row, 'is_relay')
  const topic = textOf(row, 'topic')
  const source = SOURCES[integerOf(row, 'source') ?? -1]
  const firstSeen = integerOf(row, 'first_seen')
  const lastSeen = integerOf(row, 'last_seen')
  const record = row['record']
  if (publicKey === undefined || isRelay === undefined || source === undefined) return undefined
  if (topic === undefined || topic.length > KNOWN_PEER_TOPIC_CHARS_MAX) return undefined
  if (firstSeen === undefined || lastSeen === undefined) return undefined
  return {
    publicKey,
    ...(dhtNodeId === undefined ? {} : { dhtNodeId }),
    isRelay: isRelay === 1,
    topic,
    source,
    firstSeen,
    lastSeen,
    ...(record instanceof Uint8Array && record.byteLength <= KNOWN_PEER_RECORD_BYTES_MAX
      ? { record: new Uint8Array(record) }
      : {}),
  }
}
