/** The node's place in the BitTorrent Mainline DHT, where its owner wants one. Contacts are kept over a restart. */
import { z } from 'zod'
import {
  type Clock,
  fromHex,
  type KeyValueStore,
  type Logger,
  messageOf,
  type Random,
  repeat,
  toHex,
  withDeadline,
} from '#base'
import { type Contact, createMainlineNode, createUdpSockets, type MainlineNode } from '#mainline'
import { MAINLINE_CONTACTS_KEPT, MAINLINE_CONTACTS_KEPT_MS, MAINLINE_JOIN_MS, MAINLINE_REJOIN_MS } from './limits.ts'
import type { Stopper } from './stopper.ts'
import type { MainlineConfig } from './types.ts'

export type MainlineParts = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly store: KeyValueStore
  readonly stopper: Stopper
}

const STORED = 'own/mainline-contacts'

const stored = z
  .array(z.tuple([z.string().regex(/^[0-9a-f]{40}$/), z.string().max(45), z.int().min(1).max(65_535)]))
  .max(MAINLINE_CONTACTS_KEPT)

/** Resolves once it has joined, or soon: then it goes on trying beside. @throws MainlineError MAINLINE_LISTEN_FAILED */
export async function startMainline(parts: MainlineParts, config: MainlineConfig): Promise<MainlineNode> {
  const { clock, store, stopper } = parts
  const log = parts.log.child('mainline')
  const listen = config.hosts.map(host => ({ host, port: config.port }))
  const isLoopbackExempt = config.hosts.every(host => host.startsWith('127.'))
  const sockets = createUdpSockets({ clock }, { listen })
  const node = createMainlineNode({ ...parts, log, sockets }, { isLoopbackExempt })
  await node.start()
  stopper.add('the node of the Mainline DHT', async () => {
    keep(store, node.contacts(), clock)
    await node.stop()
  })
  node.addContacts(kept(store))
  const { signal } = stopper
  const join = async (): Promise<void> => {
    if (node.contacts().length > 0) return
    try {
      log.info('joined the Mainline DHT', { contacts: await node.bootstrap(config.bootstrap, { signal }) })
    } catch (error) {
      if (!signal.aborted) log.warn('the Mainline DHT does not answer; trying again', { error: messageOf(error) })
    }
  }
  const joined = join()
  void repeat(clock, join, { periodMs: MAINLINE_REJOIN_MS, signal })
  const deadline = { what: 'joining the Mainline DHT', timeoutMs: MAINLINE_JOIN_MS }
  await withDeadline(clock, deadline, () => joined).catch(() => undefined) // It goes on.
  return node
}

function keep(store: KeyValueStore, contacts: readonly Contact[], clock: Clock): void {
  const rows = contacts.slice(0, MAINLINE_CONTACTS_KEPT).map(({ id, host, port }) => [toHex(id), host, port])
  const value = new TextEncoder().encode(JSON.stringify(rows))
  if (rows.length > 0) store.put({ key: STORED, value, expiresAt: clock.now() + MAINLINE_CONTACTS_KEPT_MS })
}

function kept(store: KeyValueStore): Contact[] {
  const entry = store.get(STORED)
  if (entry === undefined) return []
  try {
    const rows = stored.parse(JSON.parse(new TextDecoder().decode(entry.value)))
    return rows.map(([id, host, port]) => ({ id: fromHex(id), host, port }))
  } catch {
    return [] // A damaged row counts as none.
  }
}
