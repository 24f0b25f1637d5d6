/** Which identity the node has: from its data directory, or from where its owner keeps the key. */
import type { NodeIdentity } from '#identity'
import type { DataDir } from '#storage'

export type OwnIdentity = {
  readonly identity: NodeIdentity
  /** How the key came to be what it is, the oldest statement first. */
  readonly handovers: readonly Uint8Array[]
}

export async function openOwnIdentity(dataDir: DataDir): Promise<OwnIdentity> {
  return { identity: await dataDir.nodeKey(), handovers: [] }
}
