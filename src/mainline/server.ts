/** What we answer to each query (BEP 5, 32, 44). Decisions over the stores and tables; sending is the overlay's work. */
import { familyOf, isReachableFrom } from './address.ts'
import { KRPC_PROTOCOL } from './codes.ts'
import type { ItemStore } from './item-store.ts'
import type { Reply, ReplyFields } from './krpc.ts'
import { ANSWERED_CONTACTS_WITH_ITEM_MAX, BUCKET_CONTACTS_MAX } from './limits.ts'
import type { PeerStore } from './peer-store.ts'
import type { AnnounceQuery, PutQuery, QueryBody, Want } from './query.ts'
import type { Tokens } from './tokens.ts'
import type { Contact, Endpoint, Family } from './types.ts'

export type ServerDeps = {
  readonly peers: PeerStore
  readonly items: ItemStore
  readonly tokens: Tokens
  /** The nearest contacts of a family; undefined where we have no part in it. */
  readonly closest: (family: Family, target: Uint8Array, count: number) => readonly Contact[] | undefined
}

const EMPTY: Reply = { kind: 'response', fields: {} }
const BAD_TOKEN: Reply = { kind: 'error', code: KRPC_PROTOCOL, text: 'wrong: token' }

export class Server {
  readonly #deps: ServerDeps

  constructor(deps: ServerDeps) {
    this.#deps = deps
  }

  answer(query: QueryBody, from: Endpoint): Reply {
    switch (query.method) {
      case 'ping':
        return EMPTY
      case 'find_node':
        return response({ contacts: this.#contacts(query.target, query.want, from) })
      case 'get_peers':
        return response({
          contacts: this.#contacts(query.infoHash, query.want, from),
          peers: this.#deps.peers
            .find(query.infoHash, familyOf(from))
            .filter(({ host }) => isReachableFrom(host, from.host)),
          token: this.#deps.tokens.make(from.host),
        })
      case 'announce_peer':
        return this.#announce(query, from)
      case 'get':
        return this.#get(query, from)
      case 'put':
      default:
        return this.#put(query, from)
    }
  }

  #contacts(target: Uint8Array, want: Want, from: Endpoint): NonNullable<ReplyFields['contacts']> {
    const contacts: Partial<Record<Family, readonly Contact[]>> = {}
    for (const family of want.length > 0 ? want : [familyOf(from)]) {
      const closest = this.#closest(family, target, { count: BUCKET_CONTACTS_MAX, from })
      if (closest !== undefined) contacts[family] = closest
    }
    return contacts
  }

  #closest(
    family: Family,
    target: Uint8Array,
    options: { readonly count: number; readonly from: Endpoint },
  ): readonly Contact[] | undefined {
    const { count, from } = options
    return this.#deps.closest(family, target, count)?.filter(({ host }) => isReachableFrom(host, from.host))
  }

  #announce(query: AnnounceQuery, from: Endpoint): Reply {
    if (!this.#deps.tokens.isValid(from.host, query.token)) return BAD_TOKEN
    this.#deps.peers.add(query.infoHash, { host: from.host, port: query.port ?? from.port })
    return EMPTY
  }

  #get(query: Extract<QueryBody, { method: 'get' }>, from: Endpoint): Reply {
    const token = this.#deps.tokens.make(from.host)
    const stored = this.#deps.items.find(query.target)
    if (stored === undefined) return response({ contacts: this.#contacts(query.target, query.want, from), token })
    // A value leaves little room in a datagram: fewer contacts, of the asker's own family.
    const family = familyOf(from)
    const closest = this.#closest(family, query.target, { count: ANSWERED_CONTACTS_WITH_ITEM_MAX, from }) ?? []
    const contacts = { [family]: closest }
    const { value, signed } = stored
    if (signed === undefined) return response({ contacts, token, value })
    const { publicKey, signature, seq } = signed
    // Who has this one already, or a newer one, is told the number alone.
    if (query.seq !== undefined && seq <= query.seq) return response({ contacts, token, seq })
    return response({ contacts, token, value, publicKey, signature, seq })
  }

  #put(query: PutQuery, from: Endpoint): Reply {
    if (!this.#deps.tokens.isValid(from.host, query.token)) return BAD_TOKEN
    const fault = this.#deps.items.put(query, from.host)
    return fault === undefined ? EMPTY : { kind: 'error', ...fault }
  }
}

function response(fields: ReplyFields): Reply {
  return { kind: 'response', fields }
}
