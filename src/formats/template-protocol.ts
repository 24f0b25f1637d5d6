/** What the node and a template process say to each other. Types only: the process imports next to nothing of ours. */

/** A message as templates see it. */
export type TemplateMessage = {
  readonly role: string
  readonly content: string
  readonly name?: string
}

/** Node to process. */
export type RenderCommand = {
  /** Jinja source. */
  readonly template: string
  readonly messages: readonly TemplateMessage[]
  readonly addGenerationPrompt: boolean
  readonly bosText: string
  readonly eosText: string
  /** What `strftime_now` shows: milliseconds since the epoch. */
  readonly now: number
  /** Of processor time, about; `template-time.ts` says how it is counted. */
  readonly timeoutMs: number
  readonly triesMax: number
  readonly outputBytesMax: number
}

/** Process to node. `ready` comes once, then one answer for each command. */
export type RenderReply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'timeout' }
  | { readonly kind: 'memory' }
  | { readonly kind: 'output' }
  | { readonly kind: 'invalid'; readonly reason: string }
