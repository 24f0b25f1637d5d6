/** Drives a lookup: sends its queries, hears their answers, and ends it in time. */
import type { BencodeValue } from '#formats'
import { abortError, type Clock } from '#base'
import { LOOKUP_MS_MAX, QUERY_SLOW_MS } from './limits.ts'
import type { KrpcResponse } from './krpc.ts'
import { Lookup } from './lookup.ts'
import type { Overlay } from './overlay.ts'
import type { Contact, MainlineOptions } from './types.ts'

export type Traversal = {
  readonly target: Uint8Array
  readonly method: 'find_node' | 'get_peers' | 'get'
  readonly signal?: AbortSignal | undefined
  /** To begin with, beside those of the table. */
  readonly seeds?: readonly Contact[]
  /** Each answer as it comes. */
  readonly onResponse?: (response: KrpcResponse, contact: Contact) => void
}

/** A node near the target that has answered, and the token that it gave. */
export type Found = { readonly contact: Contact; readonly token: Uint8Array | undefined }

/**
 * @returns the nodes nearest to the target, as far as they were found in time
 * @throws the signal's reason
 */
export function traverse(
  deps: { readonly clock: Clock; readonly overlay: Overlay },
  traversal: Traversal,
  options: MainlineOptions,
): Promise<Found[]> {
  const { clock, overlay } = deps
  const { target, method, signal, onResponse } = traversal
  const lookup = new Lookup(target, {
    parallelMax: options.lookupParallelMax,
    prefixContactsMax: options.tablePrefixContactsMax,
    isLoopbackExempt: options.isLoopbackExempt,
  })
  lookup.add([...overlay.table.closest(target), ...(traversal.seeds ?? [])])
  const tokens = new Map<Contact, Uint8Array>()
  const args: { readonly [key: string]: BencodeValue } = method === 'get_peers' ? { info_hash: target } : { target }

  return new Promise((resolve, reject) => {
    let isOver = false
    const end = (): void => {
      if (isOver) return
      isOver = true
      cancel()
      signal?.removeEventListener('abort', end)
      if (signal?.aborted === true) reject(abortError(signal))
      else resolve(lookup.closest().map(contact => ({ contact, token: tokens.get(contact) })))
    }
    const cancel = clock.after(options.lookupMsMax ?? LOOKUP_MS_MAX, end)
    const ask = async (contact: Contact): Promise<void> => {
      const cancelSlow = clock.after(QUERY_SLOW_MS, () => {
        lookup.slow(contact)
        if (!isOver) step()
      })
      const answer = await overlay.query(contact, { method, args, id: contact.id })
      cancelSlow()
      if (isOver) return
      if (answer.kind !== 'response' || !overlay.isTrusted(contact)) lookup.failed(contact)
      if (answer.kind === 'response') {
        const { contacts, token } = answer.response
        lookup.add(overlay.usable(contacts, contact))
        lookup.answered(contact)
        if (token !== undefined) tokens.set(contact, token)
        onResponse?.(answer.response, contact)
      }
      step()
    }
    const step = (): void => {
      for (let contact = lookup.next(); contact !== undefined; contact = lookup.next()) void ask(contact)
      if (lookup.isDone) end()
    }
    signal?.addEventListener('abort', end, { once: true })
    if (signal?.aborted === true) end()
    else step()
  })
}
