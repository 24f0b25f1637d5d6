/**
 * Renders chats with the template that a model brings: Jinja, as `transformers` and llama.cpp read it. The work is done
 * in a few processes that are made when first needed and used again; one that a template spoilt is replaced.
 */
import { abortable, type Clock } from '#base'
import { FormatError } from './errors.ts'
import {
  TEMPLATE_INPUT_MAX,
  TEMPLATE_MESSAGES_MAX,
  TEMPLATE_OUTPUT_BYTES_MAX,
  TEMPLATE_QUEUE_MAX,
  TEMPLATE_SOURCE_MAX,
  TEMPLATE_TIMEOUT_MS,
  TEMPLATE_TRIES_MAX,
  TEMPLATE_WORKERS_MAX,
} from './limits.ts'
import type { TemplateMessage } from './template-protocol.ts'
import { TemplateWorker } from './template-worker.ts'

/** For models that bring no template: ChatML, which most chat models of unknown origin follow. */
const CHATML_TEMPLATE =
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

type TemplateRequest = {
  /** Jinja source; undefined: `CHATML_TEMPLATE`. */
  readonly template: string | undefined
  readonly messages: readonly TemplateMessage[]
  /** End with the beginning of the assistant's answer. */
  readonly addGenerationPrompt: boolean
  /** Texts of the begin and end tokens; empty where the vocabulary has none. */
  readonly bosText: string
  readonly eosText: string
}

export interface TemplateRenderer {
  /** @throws FormatError FORMAT_TEMPLATE_...; the signal's reason */
  render(request: TemplateRequest, options?: { readonly signal?: AbortSignal }): Promise<string>
  /** Ends every process; resolves when they are gone. What is being rendered fails. Idempotent. */
  stop(): Promise<void>
}

export type TemplateRendererOptions = {
  /** @default TEMPLATE_TIMEOUT_MS */
  readonly timeoutMs?: number
  /** @default TEMPLATE_WORKERS_MAX */
  readonly workersMax?: number
}

type Waiter = { readonly resolve: (worker: TemplateWorker) => void; readonly reject: (error: Error) => void }

/** `clock.now()` is what templates see as the time. */
export function createTemplateRenderer(
  deps: { readonly clock: Clock },
  options: TemplateRendererOptions = {},
): TemplateRenderer {
  return new Pool(deps.clock, options)
}

class Pool implements TemplateRenderer {
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #workersMax: number
  readonly #all = new Set<TemplateWorker>()
  readonly #idle: TemplateWorker[] = []
  readonly #waiters: Waiter[] = []
  #isStopped = false

  constructor(clock: Clock, options: TemplateRendererOptions) {
    this.#clock = clock
    this.#timeoutMs = options.timeoutMs ?? TEMPLATE_TIMEOUT_MS
    this.#workersMax = options.workersMax ?? TEMPLATE_WORKERS_MAX
  }

  async render(request: TemplateRequest, options: { readonly signal?: AbortSignal } = {}): Promise<string> {
    checkInput(request)
    const text = this.#render(request)
    return options.signal === undefined ? text : abortable(text, options.signal)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    for (const waiter of this.#waiters.splice(0)) waiter.reject(stoppedError())
    await Promise.all([...this.#all].map(worker => worker.stop()))
  }

  async #render(request: TemplateRequest): Promise<string> {
    const worker = await this.#acquire()
    try {
      return await worker.render({
        ...request,
        template: request.template ?? CHATML_TEMPLATE,
        now: this.#clock.now(),
        timeoutMs: this.#timeoutMs,
        triesMax: TEMPLATE_TRIES_MAX,
        outputBytesMax: TEMPLATE_OUTPUT_BYTES_MAX,
      })
    } finally {
      this.#release(worker)
    }
  }

  async #acquire(): Promise<TemplateWorker> {
    if (this.#isStopped) throw stoppedError()
    // A process may have died while nobody used it, killed by its machine's owner.
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.isAlive) return idle
      this.#all.delete(idle)
    }
    if (this.#all.size < this.#workersMax) return this.#start()
    if (this.#waiters.length >= TEMPLATE_QUEUE_MAX) {
      throw new FormatError(
        { code: 'FORMAT_TEMPLATE_BUSY', limit: TEMPLATE_QUEUE_MAX },
        `more than ${TEMPLATE_QUEUE_MAX} chats wait for their template: try again`,
      )
    }
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  #release(worker: TemplateWorker): void {
    if (!worker.isAlive) this.#all.delete(worker)
    if (this.#isStopped) return
    const next = this.#waiters.shift()
    if (next !== undefined) next.resolve(worker.isAlive ? worker : this.#start())
    else if (worker.isAlive) this.#idle.push(worker)
  }

  #start(): TemplateWorker {
    const worker = new TemplateWorker(this.#clock)
    this.#all.add(worker)
    return worker
  }
}

function checkInput(request: TemplateRequest): void {
  const refuse = (what: string, limit: number): never => {
    throw new FormatError({ code: 'FORMAT_TEMPLATE_INPUT', limit }, `${what}; at most ${limit} are possible`)
  }
  const sourceLength = request.template?.length ?? 0
  if (sourceLength > TEMPLATE_SOURCE_MAX) {
    refuse(`the model's chat template has ${sourceLength} characters`, TEMPLATE_SOURCE_MAX)
  }
  if (request.messages.length > TEMPLATE_MESSAGES_MAX) {
    refuse(`the chat has ${request.messages.length} messages`, TEMPLATE_MESSAGES_MAX)
  }
  const length = request.messages.reduce(
    (sum, { role, content, name }) => sum + role.length + content.length + (name?.length ?? 0),
    0,
  )
  if (length > TEMPLATE_INPUT_MAX) refuse(`the chat has ${length} characters`, TEMPLATE_INPUT_MAX)
}

function stoppedError(): FormatError {
  return new FormatError({ code: 'FORMAT_TEMPLATE_STOPPED' }, 'the chat template renderer was stopped')
}
