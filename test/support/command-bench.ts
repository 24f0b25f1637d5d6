/** Gives a command to its handler as the dispatcher would: schemas before and after, events checked. */
import assert from 'node:assert/strict'
import { silentLogger } from '#base'
import { type Attachment, attachmentOfBytes, type Command, type Right } from '#protocol'
import { decodeBody, encodeBody } from '#wire'

export type GivenCall = {
  readonly body: unknown
  readonly peer?: string
  readonly right?: Right
  readonly signal?: AbortSignal
  readonly attachment?: Uint8Array
  readonly onEvent?: (event: unknown) => void | Promise<void>
}

export type Answered = {
  readonly body: Readonly<Record<string, unknown>>
  readonly attachment: Uint8Array | undefined
  readonly events: readonly Readonly<Record<string, unknown>>[]
}

/** @throws what the handler throws; a TypeError for a body that breaks the schema */
export async function give(commands: readonly Command[], name: string, call: GivenCall): Promise<Answered> {
  const command = commands.find(candidate => candidate.name === name)
  assert.ok(command !== undefined, `there is a command ${name}`)
  const parsed = command.request.safeParse(overTheWire(call.body))
  if (!parsed.success)
    throw new TypeError(`${parsed.error.issues[0]?.path.join('.')}: ${parsed.error.issues[0]?.message}`)
  const events: Readonly<Record<string, unknown>>[] = []
  const { body, attachment } = await command.handle(parsed.data, {
    caller: { peer: call.peer ?? 'caller', right: call.right ?? command.right },
    signal: call.signal ?? new AbortController().signal,
    log: silentLogger,
    emit: async event => {
      const checked = checkedBy(command.event, event)
      events.push(checked)
      await call.onEvent?.(checked)
    },
    ...(call.attachment === undefined ? {} : { attachment: attachmentOfBytes(call.attachment) }),
  })
  return { body: checkedBy(command.response, body), attachment: await bytesOf(attachment), events }
}

/** As it arrives: dag-cbor and the schema must both take it, and must change nothing. */
function checkedBy(schema: Command['event'], body: unknown): Readonly<Record<string, unknown>> {
  assert.ok(schema !== undefined, 'the command has such answers')
  const decoded = decodeBody(schema, encodeBody(body))
  if ('code' in decoded) assert.fail(decoded.problem)
  assert.deepEqual(decoded.body, overTheWire(body))
  return decoded.body as Readonly<Record<string, unknown>>
}

function overTheWire(body: unknown): unknown {
  return JSON.parse(JSON.stringify(body)) as unknown
}

async function bytesOf(attachment: Attachment | undefined): Promise<Uint8Array | undefined> {
  if (attachment === undefined) return undefined
  const parts: Uint8Array[] = []
  for await (const part of attachment.read({ from: 0, signal: new AbortController().signal })) parts.push(part)
  await attachment.release()
  return new Uint8Array(Buffer.concat(parts))
}
