/**
 * What two nodes can do, from the kinds of their NATs: as measured in the lab (`docs/guides/lab.md`, "What two hosts can
 * do"), in words that a person needs. Pure.
 */
import type { NatName, PathWord } from '#wire'

/** Of a symmetric NAT: whether the next port can be foreseen. */
export type NatSide = { readonly kind: NatName; readonly isForeseen: boolean; readonly isPublic: boolean }

/** The kinds that others have, in the order in which they are shown. */
export const PEER_KINDS = ['none', 'full-cone', 'restricted', 'port-restricted', 'symmetric'] as const

/** For each kind of peer. A peer of kind `none` can be dialled. */
export function pathsOf(own: NatSide): readonly { kind: NatName; tcp: PathWord; udp: PathWord }[] {
  return PEER_KINDS.map(kind => ({ kind, tcp: pathOf(own, kind), udp: udpPathOf(own, kind) }))
}

function udpPathOf(own: NatSide, kind: NatName): PathWord {
  return own.kind === 'blocked' ? 'relayed' : pathOf(own, kind)
}

function pathOf({ kind, isForeseen, isPublic }: NatSide, other: NatName): PathWord {
  if (isPublic || other === 'none') return 'direct'
  // Nothing is known: nothing is promised.
  if (kind === 'unknown' || kind === 'blocked') return 'relayed'
  // Whose filter does not look at ports can be called once it has called, from whatever port (measured: "one listens").
  const isLenient = (name: NatName): boolean => ['none', 'full-cone', 'restricted'].includes(name)
  if (isLenient(kind) || isLenient(other)) return 'punched'
  const strict = [kind, other].filter(name => name === 'symmetric').length
  if (strict === 0) return 'punched'
  // What the other's ports are like nobody knows before: the worse is said.
  return other === 'symmetric' || !isForeseen ? 'relayed' : 'guessed'
}
