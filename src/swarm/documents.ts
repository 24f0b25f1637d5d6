/**
 * Small documents beside the pieces, in chunks: the core and the manifest between Koinon peers, the info dictionary between
 * all (BEP 9). One of these per session: it serves what is here, and fetches what is not.
 */
import { SwarmError } from './errors.ts'
import { chunkOf, DocumentFetch } from './wire/documents.ts'
import { CORE_BYTES_MAX, MANIFEST_BYTES_MAX, METADATA_BYTES_MAX } from './wire/limits.ts'
import type { ChunkMessage, CoreDocument, PeerMessage } from './wire/types.ts'

export type DocumentName = CoreDocument | 'metadata'

/** What this side gives of each. */
export type Documents = {
  readonly core?: Uint8Array | undefined
  readonly manifest?: Uint8Array | undefined
  readonly metadata?: Uint8Array | undefined
}

const BYTES_MAX: Readonly<Record<DocumentName, number>> = {
  core: CORE_BYTES_MAX,
  manifest: MANIFEST_BYTES_MAX,
  metadata: METADATA_BYTES_MAX,
}

type Fetch = {
  readonly document: DocumentFetch
  readonly resolve: (bytes: Uint8Array<ArrayBuffer>) => void
  readonly reject: (error: Error) => void
}

export class DocumentExchange {
  readonly #send: (message: PeerMessage) => boolean
  readonly #documents: () => Documents
  readonly #fetches = new Map<DocumentName, Fetch>()

  constructor(deps: {
    readonly send: (message: PeerMessage) => boolean
    /** What this side has at the time. */
    readonly documents: () => Documents
  }) {
    this.#send = deps.send
    this.#documents = deps.documents
  }

  /** @param totalBytes as the other side has said @throws SwarmError SWARM_CORE_MISSING, SWARM_CORE_INVALID */
  fetch(name: DocumentName, totalBytes: number): Promise<Uint8Array<ArrayBuffer>> {
    if (totalBytes < 1 || totalBytes > BYTES_MAX[name]) {
      const fault = { code: 'SWARM_CORE_INVALID' } as const
      return Promise.reject(new SwarmError(fault, `a peer says that its ${name} has ${totalBytes} bytes`))
    }
    if (this.#fetches.has(name)) return Promise.reject(new TypeError(`the ${name} is being fetched already`))
    return new Promise((resolve, reject) => {
      const fetch: Fetch = { document: new DocumentFetch(totalBytes), resolve, reject }
      this.#fetches.set(name, fetch)
      this.#ask(name, fetch)
    })
  }

  received(name: DocumentName, message: ChunkMessage): void {
    if (message.what === 'data') this.#take(name, message)
    else if (message.what === 'request') this.#say(name, chunkOf(this.#documents()[name], message.chunk))
    else this.#fail(name, `a peer refused a part of its ${name}`)
  }

  /** The session has ended. */
  end(): void {
    for (const name of this.#fetches.keys()) this.#fail(name, `a peer left before its ${name} was here`)
  }

  #take(name: DocumentName, message: Extract<ChunkMessage, { what: 'data' }>): void {
    const fetch = this.#fetches.get(name)
    if (fetch === undefined) return
    if (!fetch.document.put(message)) {
      this.#fail(name, `a peer gave a part of its ${name} that is not what was asked for`)
      return
    }
    const { document } = fetch.document
    if (document === undefined) {
      this.#ask(name, fetch)
      return
    }
    this.#fetches.delete(name)
    fetch.resolve(document)
  }

  #ask(name: DocumentName, { document }: Fetch): void {
    for (const chunk of document.orders()) this.#say(name, { what: 'request', chunk })
  }

  #say(name: DocumentName, message: ChunkMessage): void {
    this.#send(name === 'metadata' ? { kind: 'metadata', ...message } : { kind: 'core', document: name, ...message })
  }

  #fail(name: DocumentName, what: string): void {
    const fetch = this.#fetches.get(name)
    this.#fetches.delete(name)
    fetch?.reject(new SwarmError({ code: 'SWARM_CORE_MISSING' }, what))
  }
}
