/**
 * Bodies of messages and commands: every schema that a frame's payload meets. An input is the frame's type and the body.
 * Commands have two schemas, the envelope's and their own.
 */
import assert from 'node:assert/strict'
import { decode, encode } from '@ipld/dag-cbor'
import type { z } from 'zod'
import { concatBytes } from '#base'
import {
  cancelSchema,
  chatCompletionRequestSchema,
  CONTROL_SCHEMAS,
  decodeBody,
  encodeBody,
  errorSchema,
  eventSchema,
  FRAME_TYPES,
  requestSchema,
  responseSchema,
  textCompletionRequestSchema,
} from '#wire'
import { createCommands } from '../../../src/node/commands/create-commands.ts'
import type { CommandServices } from '../../../src/node/commands/services.ts'
import { cborBomb } from '../lib/cbor-bombs.ts'
import type { Chance } from '../lib/chance.ts'
import { fromSchema } from '../lib/from-schema.ts'
import { byInputs, type Fuzzer } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'
import { mutateValue, strangeValue } from '../lib/mutate-value.ts'

/** Only schemas are taken from these commands: none of them runs. */
export const COMMANDS = createCommands({} as CommandServices)

const ANSWERS: Readonly<Record<number, z.ZodType>> = {
  [FRAME_TYPES.response]: responseSchema,
  [FRAME_TYPES.event]: eventSchema,
  [FRAME_TYPES.error]: errorSchema,
  [FRAME_TYPES.cancel]: cancelSchema,
}

const SCHEMAS = new Map<number, z.ZodType>(
  [...Object.entries(CONTROL_SCHEMAS), ...Object.entries(ANSWERS)].map(([type, schema]) => [Number(type), schema]),
)

/** Every type of message that somebody reads. */
export const MESSAGE_TYPES: readonly number[] = [...SCHEMAS.keys(), ...COMMANDS.map(({ type }) => type)]

const BOMB_BYTES_MAX = 64 * 1024

export const bodies: Fuzzer = {
  name: 'bodies',
  kind: 'pure',
  open: ({ corpus }) => byInputs({ make: chance => body(chance, { types: MESSAGE_TYPES, corpus }), check }),
}

/** The type byte, and a body that is right, or nearly, or not at all. */
export function body(
  chance: Chance,
  { types, corpus }: { readonly types: readonly number[]; readonly corpus: readonly Uint8Array[] },
): Uint8Array {
  const type = chance.pick(types)
  if (chance.isOneIn(20)) return concatBytes([Uint8Array.of(type), cborBomb(chance, BOMB_BYTES_MAX)])
  if (corpus.length > 0 && chance.isOneIn(10)) return mutateBytes(chance, chance.pick(corpus), corpus)
  const bytes = encoded(chance.isOneIn(4) ? valueOf(chance, type) : mutateValue(chance, valueOf(chance, type)))
  const isBroken = chance.isOneIn(4)
  return concatBytes([Uint8Array.of(type), isBroken ? mutateBytes(chance, bytes, corpus) : bytes])
}

/** A value that the schemas of a type take, most of the time. */
export function valueOf(chance: Chance, type: number): unknown {
  const schema = SCHEMAS.get(type)
  if (schema !== undefined) return fromSchema(chance, schema)
  const command = COMMANDS.find(known => known.type === type)
  const envelope = fromSchema(chance, requestSchema) as Record<string, unknown>
  if (command === undefined) return { ...envelope, body: strangeValue(chance) }
  const request = requestOf(chance, command)
  return { ...envelope, body: chance.isOneIn(2) ? request : mutateValue(chance, request) }
}

/** A command that a running node obeys, most of the time: its numbers are at the borders of what the schema takes. */
export function obeyed(chance: Chance, model: string): Uint8Array {
  const command = chance.pick(COMMANDS)
  const request = requestOf(chance, command)
  const isMap = typeof request === 'object' && request !== null
  const body = isMap && ('model' in request || chance.isOneIn(4)) ? { ...request, model } : request
  return concatBytes([
    Uint8Array.of(command.type),
    encoded({ id: chance.bytes(16), body, deadlineMs: chance.between(1, 3000) }),
  ])
}

/** What a command asks for: all of it taken by its schema, most of the time. */
export function requestOf(chance: Chance, command: (typeof COMMANDS)[number]): unknown {
  const given = fromSchema(chance, command.request) as Record<string, unknown>
  const request = command.name === 'EXECUTE_TASK' ? taskOf(chance, given) : given
  // What is refused for a reason that no definition shows is left out.
  for (let tries = 0; tries < REPAIRS_MAX; tries++) {
    const field = command.request.safeParse(request).error?.issues[0]?.path[0]
    if (field === undefined) break
    if (field in LIKELY) request[String(field)] = LIKELY[String(field)]
    else delete request[String(field)]
  }
  return request
}

const REPAIRS_MAX = 20
const LIKELY: Readonly<Record<string, unknown>> = {
  messages: [{ role: 'user', content: 'Once upon a time' }],
  prompt: 'Once upon a time',
  layers: { first: 0, last: 8 },
}

/** A task is one of OpenAI's requests, whose schemas its own only calls. */
function taskOf(chance: Chance, given: Record<string, unknown>): Record<string, unknown> {
  const kind = chance.pick(['chat', 'completion'])
  const schema = kind === 'chat' ? chatCompletionRequestSchema : textCompletionRequestSchema
  return { ...(fromSchema(chance, schema) as object), ...given, kind, n: 1 }
}

/** What our encoder cannot write becomes a bare number: mutations of the bytes make the rest. */
function encoded(value: unknown): Uint8Array {
  try {
    return encode(value)
  } catch {
    return Uint8Array.of(0)
  }
}

function check(input: Uint8Array): string {
  const type = input[0] ?? 0
  const bytes = input.subarray(1)
  const command = COMMANDS.find(known => known.type === type)
  const isKnown = command !== undefined || SCHEMAS.has(type)
  const decoded = decodeBody(SCHEMAS.get(type) ?? requestSchema, bytes)
  assert.equal(Object.keys(Object.prototype).length, 0, 'a body has changed Object.prototype')
  if ('code' in decoded) {
    assert.ok(decoded.problem.length <= 200)
    return isKnown ? `bad ${type}` : 'another type'
  }
  const again = encodeBody(decoded.body)
  assert.deepEqual(decode(again), decode(encodeBody(decode(again))), 'a body that reads and writes differently')
  if (command === undefined) return isKnown ? `good ${type}` : 'another type'
  const request = command.request.safeParse((decoded.body as z.infer<typeof requestSchema>).body)
  if (!request.success) return `refused ${type}`
  return `good ${type}`
}
