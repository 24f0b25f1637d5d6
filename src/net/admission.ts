/**
 * Who may come in: the decision part of `/koinon/hello/1` for one connection, from the first hello to admission. No
 * I/O: messages in, messages and a verdict out, so that every order of messages can be tried without a network.
 */
import { assert } from '#base'
import { equalInConstantTime } from '#crypto'
import { HELLO_VERSION, type HelloMessage, type RefusalReason, type SwarmRole, swarmProof } from '#wire'

export type AdmissionOptions = {
  /** Our own role on this connection. */
  readonly role: SwarmRole
  /** Peer ids that the secure channel has authenticated. */
  readonly self: string
  readonly peer: string
  /** 32 fresh random bytes. */
  readonly nonce: Uint8Array
  readonly secret?: Uint8Array
}

/** What to do after a message: send these, and perhaps it is settled. */
export type AdmissionStep = {
  readonly send: readonly HelloMessage[]
  readonly verdict?: 'admitted' | { readonly refused: RefusalReason }
}

type State =
  | { readonly phase: 'awaiting-hello' }
  | { readonly phase: 'awaiting-proof'; readonly expected: Uint8Array; readonly answer: readonly HelloMessage[] }
  | { readonly phase: 'settled' }

/** One connection's way from unknown to admitted or refused. */
export class Admission {
  readonly #options: AdmissionOptions
  #state: State = { phase: 'awaiting-hello' }

  constructor(options: AdmissionOptions) {
    this.#options = options
  }

  /** The dialler speaks first. */
  begin(): readonly HelloMessage[] {
    return this.#options.role === 'dialler' ? [this.#hello()] : []
  }

  /** awaiting-hello -> awaiting-proof | settled; awaiting-proof -> settled. */
  receive(message: HelloMessage): AdmissionStep {
    const state = this.#state
    assert(state.phase !== 'settled', 'a message after the verdict belongs to the session')
    if (state.phase === 'awaiting-hello' && message.kind === 'hello') return this.#receiveHello(message)
    if (state.phase === 'awaiting-proof' && message.kind === 'proof') {
      return equalInConstantTime(message.mac, state.expected) ? this.#admit(state.answer) : this.#refuse('proof-wrong')
    }
    return this.#refuse('malformed')
  }

  #receiveHello(theirs: Extract<HelloMessage, { kind: 'hello' }>): AdmissionStep {
    const { role, self, peer, nonce, secret } = this.#options
    const reply = role === 'listener' ? [this.#hello()] : []
    if (secret === undefined) return theirs.secret ? this.#refuse('secret-unexpected') : this.#admit(reply)
    if (!theirs.secret) return this.#refuse('secret-needed')
    const isDialler = role === 'dialler'
    const context = {
      dialler: isDialler ? self : peer,
      listener: isDialler ? peer : self,
      diallerNonce: isDialler ? nonce : theirs.nonce,
      listenerNonce: isDialler ? theirs.nonce : nonce,
    }
    const proof: HelloMessage = { kind: 'proof', mac: swarmProof(secret, { ...context, role }) }
    this.#state = {
      phase: 'awaiting-proof',
      expected: swarmProof(secret, { ...context, role: isDialler ? 'listener' : 'dialler' }),
      answer: isDialler ? [] : [proof],
    }
    return { send: isDialler ? [proof] : reply }
  }

  #hello(): HelloMessage {
    const { nonce, secret } = this.#options
    return { kind: 'hello', version: HELLO_VERSION, nonce, secret: secret !== undefined }
  }

  #admit(send: readonly HelloMessage[]): AdmissionStep {
    this.#state = { phase: 'settled' }
    return { send, verdict: 'admitted' }
  }

  #refuse(refused: RefusalReason): AdmissionStep {
    this.#state = { phase: 'settled' }
    return { send: [], verdict: { refused } }
  }
}
