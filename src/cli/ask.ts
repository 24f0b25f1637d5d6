/** `koinon ask`: gives a peer of the running node a command, and shows what comes back. */
import { type FileHandle, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { formatBytes, messageOf } from '#base'
import type { AskRequest, CommandSummary } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { CliError, usageError } from './errors.ts'
import { ATTACHMENT_BYTES_MAX } from './limits.ts'
import type { AskAnswer, LocalClient } from './local-client.ts'
import { integerIn } from './parse.ts'
import { interruptible } from './signals.ts'
import { renderTable, sentenceFor } from './table.ts'
import { createPaint, jsonText, type Paint, printJson, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { countOf } from './units.ts'

type AskFlags = DataDirFlags & {
  readonly list?: boolean
  readonly attach?: string
  readonly out?: string
  readonly timeout?: number
  readonly json?: boolean
}

const TIMEOUT_S_MAX = 24 * 60 * 60

const HELP_AFTER = `
The answer goes to standard output, events before it and what is attached to standard error; with --json all go to
standard output, one a line. docs/reference/commands.md describes the commands.

Examples:
  $ koinon ask --list
      the commands that the running node knows
  $ koinon ask q1Zk9fQx get_capabilities
      a peer by the end of its id, as \`koinon peers\` prints it
  $ koinon ask q1Zk9fQx execute_task '{"kind": "completion", "prompt": "Once upon a time", "max_tokens": 20}'
  $ koinon ask q1Zk9fQx list_files | jq -r '.files[0].file'
  $ koinon ask q1Zk9fQx request_piece '{"file": "2fcbfd6b...", "piece": 0}' --out piece-0`

export function addAsk(program: Command, deps: CliDeps): void {
  const command = program
    .command('ask')
    .description('give a connected peer a command')
    .argument('[peer]', 'its id, or the beginning or the end of it')
    .argument('[command]', 'such as GET_CAPABILITIES; in lower case too')
    .argument('[json]', 'what the command is given (default: {})')
    .option('--list', 'list the commands that the running node knows')
    .option('--attach <file>', 'send this file along')
    .option('--out <file>', 'write what is attached to the answer here')
    .option('--timeout <seconds>', 'wait no longer than this', integerIn(1, TIMEOUT_S_MAX))
    .option('--json', 'print JSON, one message a line')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action(async (...[peer, name, json, flags]: AskArguments) => {
    if (flags.list === true) await listCommands(deps, flags)
    else if (peer === undefined || name === undefined) throw usageError('name a peer and a command, or give --list')
    else await ask(deps, { peer, name, json }, flags)
  })
}

/** As commander gives them. */
type AskArguments = [peer: string | undefined, name: string | undefined, json: string | undefined, flags: AskFlags]

async function listCommands(deps: CliDeps, flags: AskFlags): Promise<void> {
  const commands = await (await clientOf(deps, flags)).commands()
  if (flags.json === true) {
    printJson(deps.stdout, commands)
    return
  }
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  deps.stdout.write(renderCommands(commands, deps.stdout.columns, paint))
}

function renderCommands(commands: readonly CommandSummary[], width: number, paint: Paint): string {
  return renderTable(
    commands,
    [
      { title: 'COMMAND', cell: ({ name }) => paint.bold(name), widthMin: 16 },
      { title: 'TYPE', cell: ({ type }) => String(type), align: 'right' },
      { title: 'RIGHT', cell: ({ right }) => right },
      { title: 'COST', cell: ({ cost }) => String(cost), align: 'right' },
      {
        title: 'ATTACH UP TO',
        cell: ({ attachmentBytesMax: max }) => (max === 0 ? '-' : formatBytes(max)),
        align: 'right',
      },
    ],
    { width, paint },
  )
}

type Asked = { readonly peer: string; readonly name: string; readonly json: string | undefined }

async function ask(deps: CliDeps, { peer, name, json }: Asked, flags: AskFlags): Promise<void> {
  const body = parseBody(json)
  const attachment = flags.attach === undefined ? undefined : await readAttachment(flags.attach)
  const client = await clientOf(deps, flags)
  const request: AskRequest = {
    peer: await findPeer(client, peer),
    command: name.toUpperCase().replaceAll('-', '_'),
    body,
    wantsAttachment: flags.out !== undefined,
    ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout * 1000 }),
    ...(attachment === undefined ? {} : { attachment }),
  }
  const file = flags.out === undefined ? undefined : await OutFile.create(flags.out)
  const interruption = interruptible(deps)
  try {
    for await (const answer of client.ask(request, { signal: interruption.signal })) {
      if (answer.kind === 'bytes') await file?.write(answer.base64)
      else print(deps, flags, answer)
      if (answer.kind === 'answer' && answer.attachment === undefined && file !== undefined) {
        deps.stderr.write('Nothing is attached to the answer.\n')
      }
    }
    await file?.keep()
  } catch (error) {
    if (flags.json === true) printError(deps, error)
    throw error
  } finally {
    interruption.done()
    await file?.discard()
  }
}

/** What a person typed: anything but JSON fails before a peer is bothered. */
function parseBody(json: string | undefined): unknown {
  try {
    return json === undefined ? {} : JSON.parse(json)
  } catch (error) {
    throw usageError(`what the command is given must be JSON: ${messageOf(error)}`)
  }
}

/** In base64. */
async function readAttachment(path: string): Promise<string> {
  try {
    const { size } = await stat(path)
    if (size > ATTACHMENT_BYTES_MAX) throw new Error(`it is larger than ${formatBytes(ATTACHMENT_BYTES_MAX)}`)
    return (await readFile(path)).toString('base64')
  } catch (error) {
    throw usageError(`${path} cannot be sent along: ${messageOf(error)}`)
  }
}

/** @param text a peer id, or an end of one that only one connected peer has @throws CliError CLI_PEER_UNKNOWN */
async function findPeer(client: LocalClient, text: string): Promise<string> {
  const part = text.replace(/^…/, '')
  const ids = (await client.peers()).map(({ peer }) => peer)
  const found = ids.filter(id => part !== '' && (id.startsWith(part) || id.endsWith(part)))
  const [only] = found
  if (only !== undefined && found.length === 1) return only
  const sentence =
    found.length === 0
      ? `no connected peer's id begins or ends with "${text}"; \`koinon peers\` lists ${countOf(ids.length, 'peer')}`
      : `the ids of ${found.length} peers begin or end with "${text}": give more of it`
  throw new CliError({ code: 'CLI_PEER_UNKNOWN', peer: text, found: found.length }, sentence)
}

function print(deps: CliDeps, flags: AskFlags, answer: Exclude<AskAnswer, { readonly kind: 'bytes' }>): void {
  if (flags.json === true) {
    deps.stdout.write(`${jsonText(answer)}\n`)
    return
  }
  if (answer.kind === 'event') {
    const paint = createPaint(wantsColour(deps.stderr, deps.env))
    deps.stderr.write(`${paint.dim(jsonText(answer.event))}\n`)
    return
  }
  deps.stdout.write(`${jsonText(answer.body, 2)}\n`)
  if (answer.attachment === undefined) return
  const size = formatBytes(answer.attachment.sizeBytes)
  const what = flags.out === undefined ? `${size} are attached; --out FILE fetches them.` : `Fetching ${size} …`
  deps.stderr.write(`${sentenceFor(deps.stderr, what)}\n`)
}

/** With --json, the message that ends it. */
function printError(deps: CliDeps, error: unknown): void {
  if (!(error instanceof CliError) || error.fault.code !== 'CLI_NODE_REFUSED') return
  const { remote, peerCode, retryAfterMs } = error.fault
  deps.stdout.write(
    `${jsonText({ kind: 'error', code: remote, message: error.message, remoteCode: peerCode, retryAfterMs })}\n`,
  )
}

/** A file that appears when all of it is there. */
class OutFile {
  readonly #path: string
  readonly #handle: FileHandle
  #isOpen = true

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  /** Before the peer is asked: a directory that is not there should cost nobody anything. @throws CliError CLI_USAGE */
  static async create(path: string): Promise<OutFile> {
    const whole = resolve(path)
    try {
      return new OutFile(whole, await open(`${whole}.part`, 'w'))
    } catch (error) {
      throw usageError(`${path} cannot be written: ${messageOf(error)}`)
    }
  }

  async write(base64: string): Promise<void> {
    await this.#handle.writeFile(Buffer.from(base64, 'base64'))
  }

  async keep(): Promise<void> {
    await this.#close()
    await rename(`${this.#path}.part`, this.#path)
  }

  /** Does nothing to a file that was kept. */
  async discard(): Promise<void> {
    await this.#close()
    await rm(`${this.#path}.part`, { force: true })
  }

  async #close(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    await this.#handle.close()
  }
}
