/** What each role of an engine child must be able to do: answer one command at a time. */
import { EngineError } from '../errors.ts'
import type { GgmlRuntime } from '../ggml/runtime.ts'
import type { Confinement } from '../sandbox/confinement.ts'
import type { Message } from './protocol.ts'

/** What a role finds in its process. */
export type ChildHost = {
  /** Loads ggml, once. */
  readonly open: () => GgmlRuntime
  readonly confinement: Confinement
  /** The sandbox in words. */
  readonly describe: () => string
}

/** Says something about the request before its reply. Resolves when it has left: for those who say a lot. */
export type Notify = (...payload: readonly Uint8Array[]) => Promise<void>

/** Answers one command. What it throws as a `KoinonError` goes back as a failure; anything else ends the child. */
export type Handler = (message: Message, notify: Notify) => Promise<readonly Uint8Array[]> | readonly Uint8Array[]

/** The parent sends a role only its own commands, so another one is a bug. */
export function unknownCommand(kind: number): TypeError {
  return new TypeError(`this engine child knows no command ${kind}`)
}

/** @throws EngineError where nothing is loaded */
export function requireLoaded<T>(session: T | undefined): T {
  if (session === undefined) throw new EngineError({ code: 'ENGINE_NOT_LOADED' }, 'no model is loaded')
  return session
}
