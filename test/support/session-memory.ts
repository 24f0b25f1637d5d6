/** What sessions remember, in memory: for tests that start hosts without a data directory. */
import { silentLogger, systemClock, systemRandom, type Clock, type Random } from '#base'
import { type AuditKind, type AuditLog, ReplayFilter, type SessionStore, type StoredSession } from '#protocol'
import type { PeerGuard } from '../../src/net/peer-guard.ts'

export type SessionMemory = {
  readonly sessions: SessionStore
  readonly peerKeys: ReturnType<typeof memoryPeerKeys>
  readonly replay: ReplayFilter
  readonly audit: AuditLog & { readonly entries: { readonly kind: AuditKind; readonly facts: object }[] }
}

export function sessionMemory(deps: { readonly clock?: Clock; readonly random?: Random } = {}): SessionMemory {
  const { clock = systemClock, random = systemRandom } = deps
  const entries: { kind: AuditKind; facts: object }[] = []
  let state: Uint8Array | undefined
  const store = { load: () => state, save: (bytes: Uint8Array) => void (state = bytes) }
  return {
    sessions: memorySessions(),
    peerKeys: memoryPeerKeys(),
    replay: new ReplayFilter({ clock, random, store, log: silentLogger }),
    audit: { entries, record: (kind, facts) => void entries.push({ kind, facts }) },
  }
}

function memorySessions(): SessionStore {
  const all = new Map<string, StoredSession>()
  return {
    find: peer => all.get(peer),
    save: session => void all.set(session.peer, session),
    remove: id => {
      for (const [peer, session] of all) if (Buffer.from(session.id).equals(id)) all.delete(peer)
    },
  }
}

function memoryPeerKeys() {
  const hybrid = new Map<string, Uint8Array>()
  const next = new Map<string, { to: string; bytes: Uint8Array }>()
  const chain = (peer: string): { to: string; bytes: Uint8Array }[] => {
    const links = []
    for (let link = next.get(peer); link !== undefined && links.length < 16; link = next.get(link.to)) links.push(link)
    return links
  }
  return {
    current: (peer: string) => chain(peer).at(-1)?.to ?? peer,
    chain: (peer: string) => chain(peer).map(link => link.bytes),
    hybridKey: (peer: string) => hybrid.get(peer),
    pinHybridKey: (peer: string, key: Uint8Array) => void (hybrid.has(peer) || hybrid.set(peer, key)),
    record: ({ from, to, bytes }: { from: string; to: string; bytes: Uint8Array }) =>
      void next.set(from, { to, bytes }),
  }
}

/** Keeps nobody out. */
export const openGuard: PeerGuard = { refuses: () => undefined, succeeded: () => undefined, fault: () => undefined }
