/**
 * Which commands this node answers. Commands come and go while it serves: a request that is being answered keeps the
 * command that it began with.
 */
import { COMMAND_TYPE_MAX, COMMAND_TYPE_MIN, PLUGIN_TYPE_MIN, PRIORITIES } from '#wire'
import { type Command, type Right, RIGHTS } from './command.ts'
import { ProtocolError } from './errors.ts'
import { COMMAND_COST_MAX, COMMAND_DEADLINE_MS_MAX, COMMAND_NAME_CHARS_MAX } from './limits.ts'

const NAME = /^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*$/

export class CommandRegistry {
  readonly #byType = new Map<number, Command>()
  readonly #byName = new Map<string, Command>()

  /**
   * @param options.isPlugin the command is not Koinon's own: it takes a type from 64 on
   * @throws ProtocolError `PROTOCOL_COMMAND_INVALID`, `PROTOCOL_COMMAND_TAKEN`; then nothing has changed
   */
  register(command: Command, options: { readonly isPlugin?: boolean } = {}): void {
    const problem = problemWith(command) ?? typeProblem(command.type, options.isPlugin === true)
    if (problem !== undefined) {
      const fault = { code: 'PROTOCOL_COMMAND_INVALID', command: nameOf(command) } as const
      throw new ProtocolError(fault, `command ${fault.command}: ${problem}`)
    }
    const names = command.answerName === undefined ? [command.name] : [command.name, command.answerName]
    const isTaken = this.#byType.has(command.type) || names.some(name => this.#isNameTaken(name))
    if (isTaken) {
      const fault = { code: 'PROTOCOL_COMMAND_TAKEN', command: command.name } as const
      throw new ProtocolError(fault, `command ${command.name}: its type ${command.type} or its name is taken`)
    }
    this.#byType.set(command.type, command)
    this.#byName.set(command.name, command)
  }

  /** Takes a plug-in's command away. False: there is no plug-in's command of this name. */
  unregister(name: string): boolean {
    const command = this.#byName.get(name)
    if (command === undefined || command.type < PLUGIN_TYPE_MIN) return false
    this.#byType.delete(command.type)
    return this.#byName.delete(name)
  }

  byType(type: number): Command | undefined {
    return this.#byType.get(type)
  }

  byName(name: string): Command | undefined {
    return this.#byName.get(name)
  }

  /** All commands, by type. */
  list(): readonly Command[] {
    return [...this.#byType.values()].sort((a, b) => a.type - b.type)
  }

  /** Requests and answers share the names of the JSON protocol. */
  #isNameTaken(name: string): boolean {
    return this.#byName.has(name) || [...this.#byName.values()].some(({ answerName }) => answerName === name)
  }
}

function typeProblem(type: number, isPlugin: boolean): string | undefined {
  const [min, max] = isPlugin ? [PLUGIN_TYPE_MIN, COMMAND_TYPE_MAX] : [COMMAND_TYPE_MIN, PLUGIN_TYPE_MIN - 1]
  return Number.isInteger(type) && type >= min && type <= max ? undefined : `its type must be ${min} to ${max}`
}

/**
 * What is wrong with a command, the number of its type aside; undefined: nothing. Looks at everything, because a plug-in
 * need not have been written in TypeScript.
 */
function problemWith(command: Partial<Record<keyof Command, unknown>>): string | undefined {
  const { name, answerName, request, response, event, cost, rate, right, deadlineMs, priority, handle } = command
  if (!isName(name)) return `its name must be ${COMMAND_NAME_CHARS_MAX} characters at most: A-Z, 0-9, _`
  if (answerName !== undefined && (!isName(answerName) || answerName === name)) return 'its answerName is no such name'
  if (!isSchema(request) || !isSchema(response)) return 'request and response must be zod schemas'
  if (event !== undefined && !isSchema(event)) return 'event must be a zod schema'
  if (!isNumber(cost, 1, COMMAND_COST_MAX)) return `cost must be 1 to ${COMMAND_COST_MAX}`
  const { perSecond, burst } = (rate ?? {}) as Partial<Record<keyof Command['rate'], unknown>>
  if (!isNumber(perSecond, Number.MIN_VALUE, 1e6)) return 'rate.perSecond must be a number above 0'
  if (!isNumber(burst, 1, 1e6)) return 'rate.burst must be 1 or more'
  if (!RIGHTS.includes(right as Right)) return `right must be one of ${RIGHTS.join(', ')}`
  if (!isNumber(deadlineMs, 1, COMMAND_DEADLINE_MS_MAX)) return `deadlineMs must be 1 to ${COMMAND_DEADLINE_MS_MAX}`
  if (!PRIORITIES.includes(priority as Command['priority'])) return `priority must be one of ${PRIORITIES.join(', ')}`
  const { attachmentBytesMax } = command
  const isSize = attachmentBytesMax === undefined || isNumber(attachmentBytesMax, 0, 2 ** 32)
  if (!isSize) return 'attachmentBytesMax must be 0 to 2^32'
  return typeof handle === 'function' ? undefined : 'handle must be a function'
}

function isName(name: unknown): name is string {
  return typeof name === 'string' && name.length <= COMMAND_NAME_CHARS_MAX && NAME.test(name)
}

function isNumber(value: unknown, min: number, max: number): boolean {
  return typeof value === 'number' && value >= min && value <= max
}

/** By what is used of it: a plug-in may bring a zod of its own. */
function isSchema(schema: unknown): boolean {
  return (
    typeof schema === 'object' && schema !== null && 'safeParse' in schema && typeof schema.safeParse === 'function'
  )
}

function nameOf({ name }: { readonly name?: unknown }): string {
  return isName(name) ? name : '(unnamed)'
}
