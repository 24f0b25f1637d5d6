/**
 * The child that tries to break out of its sandbox: the same process, started the same way, as one that computes. What
 * it reports is what code of a stranger could do on this machine, which says more than a list of what was switched on.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, closeSync, openSync, readFileSync } from 'node:fs'
import { open as openFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { messageOf } from '#base'
import type { ChildHost, Handler } from './handler.ts'
import { unknownCommand } from './handler.ts'
import { decodeJson, encodeJson, KIND } from './protocol.ts'

export type ProbeRequest = {
  /** Files of the user that are none of an engine's business. */
  readonly secrets: readonly string[]
  /** A file that was made for this and is not named to the sandbox: the only one that is harmed where it does not hold. */
  readonly own: string
  /** A file that may be read, as a model may. */
  readonly model: string
  /** A path in a directory of the user's where nothing is. */
  readonly newFile: string
  /** The process that started this one. */
  readonly node: number
}

export type ProbeAttempt = {
  readonly what: 'network' | 'files' | 'writing' | 'programs' | 'processes' | 'memory' | 'model'
  /** In words: "open /etc/passwd". */
  readonly attempt: string
  /** What it ended with: "EPERM", or undefined where it succeeded. */
  readonly refusal?: string
}

export function createProbeHandler({ confinement, describe }: ChildHost): Handler {
  return async ({ kind, payload }) => {
    if (kind !== KIND.probe) throw unknownCommand(kind)
    const request = decodeJson(payload) as ProbeRequest
    confinement.reserve(0)
    const attempts = [
      ...(await tryNetwork()),
      ...(await tryFiles(request)),
      ...tryPrograms(request),
      ...(confinement.memoryBytes === undefined ? [] : [tryMemory(confinement.memoryBytes)]),
    ]
    return [encodeJson({ text: describe(), facts: confinement.facts, attempts })]
  }
}

/** Does something. @returns how it was refused; undefined: it was not */
function refusalOf(action: () => unknown): string | undefined {
  try {
    action()
    return undefined
  } catch (error) {
    return codeOf(error)
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : messageOf(error)
}

function attemptOf(what: ProbeAttempt['what'], attempt: string, refusal: string | undefined): ProbeAttempt {
  return { what, attempt, ...(refusal !== undefined && { refusal }) }
}

const FAMILIES = { local: 1, IPv4: 2, IPv6: 10, netlink: 16, packet: 17, machine: 40 } as const
const STREAM = 1

async function tryNetwork(): Promise<readonly ProbeAttempt[]> {
  const attempts = [attemptOf('network', 'listen on 127.0.0.1', await refusalOfListening())]
  if (process.platform !== 'linux') return attempts
  const { call } = await import('../sandbox/kernel.ts')
  for (const [name, family] of Object.entries(FAMILIES)) {
    const result = call('socket', family, STREAM, 0)
    attempts.push(attemptOf('network', `make a socket (${name})`, result < 0 ? `error ${-result}` : undefined))
  }
  return attempts
}

async function refusalOfListening(): Promise<string | undefined> {
  const server = createServer()
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  server.once('error', error => resolve(codeOf(error)))
  server.listen({ port: 0, host: '127.0.0.1' }, () => server.close(() => resolve(undefined)))
  return promise
}

async function tryFiles({ secrets, own, model, newFile, node }: ProbeRequest): Promise<readonly ProbeAttempt[]> {
  const open = (path: string, flags: string) => refusalOf(() => closeSync(openSync(path, flags)))
  const others = process.platform === 'linux' ? [`/proc/${node}/environ`, `/proc/${node}/cmdline`] : []
  return [
    attemptOf('model', `read ${model}`, open(model, 'r')),
    attemptOf('files', `read ${own} in another thread`, await openElsewhere(own)),
    ...[own, ...secrets, ...others].map(path => attemptOf('files', `read ${path}`, open(path, 'r'))),
    attemptOf('writing', `make ${newFile}`, open(newFile, 'wx')),
    ...[own, model, ...secrets].map(path => attemptOf('writing', `write to ${path}`, open(path, 'r+'))),
    attemptOf(
      'writing',
      `let everybody read ${own}`,
      refusalOf(() => chmodSync(own, 0o644)),
    ),
  ]
}

/** Node opens files of promises in threads of its own. */
async function openElsewhere(path: string): Promise<string | undefined> {
  try {
    const file = await openFile(path, 'r')
    await file.close()
    return undefined
  } catch (error) {
    return codeOf(error)
  }
}

function tryPrograms({ node }: ProbeRequest): readonly ProbeAttempt[] {
  const run = (program: string, argv: readonly string[]) =>
    refusalOf(() => {
      const { error } = spawnSync(program, argv, { stdio: 'ignore' })
      if (error !== undefined) throw error
    })
  return [
    attemptOf('programs', 'start a shell', run(process.platform === 'win32' ? 'cmd.exe' : '/bin/sh', [])),
    attemptOf('programs', 'start Node', run(process.execPath, ['--version'])),
    ...(process.platform === 'linux' ? [attemptOf('programs', 'get new rights', privileges())] : []),
    attemptOf(
      'processes',
      'send the node a signal',
      refusalOf(() => process.kill(node, 0)),
    ),
  ]
}

/** What the kernel says of this process: a refusal where nothing it starts can have more rights, and it has none itself. */
function privileges(): string | undefined {
  const status = readFileSync('/proc/self/status', 'utf8')
  const fieldOf = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)$`, 'm').exec(status)?.[1] ?? ''
  const capabilities = Number.parseInt(fieldOf('CapPrm'), 16)
  // Reading all files is left to a super-user; the rules on files bound it.
  const hasNone = (capabilities & ~4) === 0 && capabilities <= 4
  return fieldOf('NoNewPrivs') === '1' && hasNone ? `capabilities ${capabilities}` : undefined
}

const PIECE_BYTES = 64 * 2 ** 20

function tryMemory(limitBytes: number): ProbeAttempt {
  const pieces: Uint8Array[] = []
  // Pages that nobody touches cost nothing, and count.
  const refusal = refusalOf(() => {
    while (pieces.length * PIECE_BYTES <= limitBytes) pieces.push(new Uint8Array(PIECE_BYTES))
  })
  return attemptOf('memory', `take more than ${limitBytes} bytes`, refusal)
}
