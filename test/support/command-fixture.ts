/** A dispatcher over memory, with sinks and handlers that a test holds in its hands. */
import { z } from 'zod'
import { ManualClock, seededRandom, silentLogger } from '#base'
import {
  type AnswerError,
  type AnswerSink,
  type Attachment,
  type AuditKind,
  type Command,
  CommandRegistry,
  Dispatcher,
  type IncomingCall,
  Penalties,
  PenaltyRecords,
  type PenaltyStore,
  RateLimits,
  type StoredPenalty,
  type Verdict,
} from '#protocol'

/** Lets every promise that can settle do so. */
export function settled(): Promise<void> {
  return new Promise(resolve => {
    setImmediate(resolve)
  })
}

export class MemoryPenaltyStore implements PenaltyStore {
  readonly rows = new Map<string, StoredPenalty>()
  writes = 0

  load(): readonly StoredPenalty[] {
    return [...this.rows.values()]
  }

  save(penalty: StoredPenalty): void {
    this.writes++
    this.rows.set(penalty.subject, penalty)
  }

  remove(subject: string): void {
    this.rows.delete(subject)
  }
}

export class RecordingSink implements AnswerSink {
  readonly events: Array<{ readonly index: number; readonly body: unknown }> = []
  readonly finals: Array<{ readonly body: unknown; readonly attachment?: Attachment } | AnswerError> = []
  /** What `event` returns: undefined is room at once. */
  room: () => Promise<void> | undefined = () => undefined
  /** What `response` returns. */
  delivery: () => Promise<boolean> | undefined = () => undefined
  isLost = false

  event(body: unknown, index: number): void | Promise<void> {
    if (this.isLost) throw new Error('the connection is lost')
    this.events.push({ index, body })
    return this.room()
  }

  response(body: unknown, attachment?: Attachment): void | Promise<boolean> {
    if (this.isLost) throw new Error('the connection is lost')
    this.finals.push({ body, ...(attachment === undefined ? {} : { attachment }) })
    return this.delivery()
  }

  error(error: AnswerError): void {
    if (this.isLost) throw new Error('the connection is lost')
    this.finals.push(error)
  }

  /** The code of the one final answer; `ok` for a response, undefined where there is none yet. */
  get outcome(): string | undefined {
    const [final] = this.finals
    if (final === undefined) return undefined
    return 'code' in final ? final.code : 'ok'
  }
}

export class TestAttachment implements Attachment {
  readonly sizeBytes: number
  releases = 0

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
  }

  async *read({ from }: { readonly from: number }): AsyncIterable<Uint8Array> {
    yield new Uint8Array(this.sizeBytes - from)
  }

  async release(): Promise<void> {
    this.releases++
  }
}

/** A command with room to spare; what the test is about is overridden. */
export function testCommand(overrides: Partial<Command> & Pick<Command, 'type' | 'name'>): Command {
  return {
    request: z.object({ text: z.string().max(10) }),
    response: z.object({ text: z.string() }),
    cost: 1,
    rate: { perSecond: 1000, burst: 1000 },
    right: 'member',
    deadlineMs: 1_000,
    priority: 'normal',
    handle: async request => ({ body: request }),
    ...overrides,
  }
}

/** A dispatcher over the given commands, and everything around it that a test looks at. */
export function createDispatcher(
  commands: readonly Command[],
  options: ConstructorParameters<typeof Dispatcher>[1] & {
    readonly limits?: ConstructorParameters<typeof RateLimits>[1]
  } = {},
) {
  const clock = new ManualClock(1_700_000_000_000)
  const audited: Array<{ readonly kind: AuditKind; readonly facts: Readonly<Record<string, unknown>> }> = []
  const logged: string[] = []
  const verdicts: Array<readonly [subject: string, verdict: Verdict]> = []
  const registry = new CommandRegistry()
  for (const command of commands) registry.register(command, { isPlugin: command.type >= 64 })
  const audit = { record: (kind: AuditKind, facts: object) => void audited.push({ kind, facts: { ...facts } }) }
  const log = { ...silentLogger, error: (message: string) => void logged.push(message), child: () => log }
  const penalties = new Penalties({
    clock,
    records: new PenaltyRecords({ clock, store: new MemoryPenaltyStore() }),
    audit,
    onVerdict: (subject, verdict) => void verdicts.push([subject, verdict]),
  })
  const limiter = new RateLimits({ clock }, options.limits)
  const dispatcher = new Dispatcher({ clock, log, audit, registry, limiter, penalties }, options)
  return { clock, audited, logged, verdicts, registry, penalties, limiter, dispatcher }
}

const ids = seededRandom(1)

/** A request of a member; each has an id of its own. */
export function testCall(overrides: Partial<IncomingCall> = {}): IncomingCall {
  return {
    id: ids.bytes(16),
    command: { name: 'ECHO' },
    body: { text: 'hi' },
    caller: { peer: 'alice', right: 'member' },
    ...overrides,
  }
}
