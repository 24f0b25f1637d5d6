/** `koinon ask` between two real nodes: every command that a peer may give, over sessions on TCP, as a person types it. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type CompletionRequest, GREEDY } from '#wire'
import { startSwarm, STORYTELLER, type Swarm, type SwarmNode, until } from '../tools/swarm.ts'
import { type Finished, koinon, temporaryDir } from './support/command.ts'

const ECHO = fileURLToPath(new URL('../examples/plugin-echo.mjs', import.meta.url))
const ODD = fileURLToPath(new URL('./support/plugin-odd.mjs', import.meta.url))
const TASK = { kind: 'completion', prompt: 'Once upon a time there was a fox', max_tokens: 12, temperature: 0 }
const WIDTH = 128

type Json = Readonly<Record<string, unknown>>
type Answered = { readonly events: readonly Json[]; readonly body: Json; readonly attachment: Json | undefined }

let swarm: Swarm
/** Who asks. */
let asker: SwarmNode
/** Who is asked, and trusts the asker. */
let asked: SwarmNode

before(async () => {
  swarm = await startSwarm({
    nodes: [{ layers: '0-4', args: ['--plugin', ECHO, '--plugin', ODD] }],
    whole: false,
    slots: 4,
    ctx: 256,
  })
  const [first] = swarm.nodes
  assert.ok(first !== undefined)
  asker = first
  asked = await swarm.add({ layers: '0-8', args: ['--plugin', ECHO, '--plugin', ODD, '--trust', first.ready.peer] })
  await until(async () => ((await asker.client.peers()).length === 1 ? true : undefined), {
    what: 'the other node',
    timeoutMs: 10_000,
  })
})
after(() => swarm.stop())

/** Runs `koinon ask` at a node, for its only peer. */
function ask(
  command: string,
  body?: object | string,
  { args = [], from = asker }: { readonly args?: readonly string[]; readonly from?: SwarmNode } = {},
): Promise<Finished> {
  const to = from === asker ? asked : asker
  const json = body === undefined ? [] : [typeof body === 'string' ? body : JSON.stringify(body)]
  return koinon(['ask', to.ready.peer.slice(-8), command, ...json, ...args, '--data-dir', from.ready.dataDir])
}

/** With --json, where the command is done. */
async function answerOf(command: string, body?: object, args: readonly string[] = []): Promise<Answered> {
  const { code, stdout, stderr } = await ask(command, body, { args: ['--json', ...args] })
  assert.equal(code, 0, stdout + stderr)
  const lines = stdout.trimEnd().split('\n')
  const messages = lines.map(line => JSON.parse(line) as Json)
  const answer = messages.pop()
  assert.equal(answer?.['kind'], 'answer')
  assert.ok(messages.every(({ kind }) => kind === 'event'))
  return {
    events: messages.map(({ event }) => event as Json),
    body: answer?.['body'] as Json,
    attachment: answer?.['attachment'] as Json | undefined,
  }
}

/** With --json, where it is refused: the line that ends it. */
async function refusalOf(command: string, body: object, from = asker): Promise<Json> {
  return refusalIn(await ask(command, body, { args: ['--json'], from }))
}

function refusalIn({ code, stdout, stderr }: Finished): Json {
  assert.equal(code, 1, stdout + stderr)
  const error = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Json
  assert.equal(error['kind'], 'error')
  assert.match(stderr, /^koinon: .* \[[A-Z_]+\]\n$/)
  return error
}

/** What a node itself answers to the task. */
async function ownAnswer(node: SwarmNode): Promise<string> {
  const request: CompletionRequest = {
    model: 'Storyteller',
    prompt: { kind: 'text', text: TASK.prompt },
    sampling: GREEDY,
    tokensMax: TASK.max_tokens,
    stop: [],
  }
  let text = ''
  for await (const event of node.client.complete(request, { signal: new AbortController().signal })) {
    if (event.kind === 'delta') text += event.text
  }
  return text
}

const sha256 = (...parts: readonly Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest()

/** BEP 52, written again: the root of the last piece of a file, by its leaves. */
function pieceRoot(piece: Uint8Array): Buffer {
  const leaves: Buffer[] = []
  for (let at = 0; at < 64 * 16_384; at += 16_384) {
    leaves.push(at < piece.byteLength ? sha256(piece.subarray(at, at + 16_384)) : Buffer.alloc(32))
  }
  let level = leaves
  while (level.length > 1) {
    level = Array.from({ length: level.length / 2 }, (_, i) =>
      sha256(level[2 * i] ?? Buffer.alloc(0), level[2 * i + 1] ?? Buffer.alloc(0)),
    )
  }
  return level[0] ?? Buffer.alloc(0)
}

describe('koinon ask', { concurrency: 2 }, () => {
  it('prints the answer of a plug-in alone, its events beside it, whatever the case of the name', async () => {
    const plain = await ask('echo', { text: 'good morning' })
    assert.deepEqual(JSON.parse(plain.stdout), { text: 'good morning', from: asker.ready.peer })
    assert.deepEqual([plain.code, plain.stderr], [0, '{"word":"good"}\n{"word":"morning"}\n'])
    const { events, body } = await answerOf('ECHO', { text: 'a b', loud: true })
    assert.deepEqual([events, body['text']], [[{ word: 'A' }, { word: 'B' }], 'A B'])
  })

  it('says what the other node is, whom it knows and which files it shares', async () => {
    const { body } = await answerOf('get-capabilities')
    assert.equal(body['peer'], asked.ready.peer)
    assert.deepEqual(body['protocol_versions'], [1])
    const names = (body['commands'] as Json[]).map(({ name }) => name)
    assert.ok(
      ['EXECUTE_TASK', 'LOAD_SHARD', 'ECHO'].every(name => names.includes(name)),
      String(names),
    )
    // The caller is not told of itself, and there is nobody else.
    assert.deepEqual((await answerOf('FIND_NODES')).body, { nodes: [] })
    const [file] = (await answerOf('LIST_FILES')).body['files'] as Json[]
    assert.deepEqual([file?.['model'], file?.['piece_count']], [asked.ready.modelId, 2])
  })

  it('fetches a piece of the model, which its root alone proves, and the hashes of all pieces', async t => {
    const dir = temporaryDir(t)
    const [file] = (await answerOf('LIST_FILES')).body['files'] as Json[]
    const root = String(file?.['file'])
    const { body, attachment } = await answerOf('REQUEST_PIECE', { file: root, piece: 1 }, [
      '--out',
      join(dir, 'piece'),
    ])
    const piece = readFileSync(join(dir, 'piece'))
    assert.equal(attachment?.['sizeBytes'], piece.byteLength)
    assert.deepEqual(piece, readFileSync(STORYTELLER).subarray(1024 * 1024))
    const [left = ''] = body['proof'] as string[]
    assert.equal(sha256(Buffer.from(left, 'hex'), pieceRoot(piece)).toString('hex'), root)
    const described = await ask('GET_FILE_METADATA', { file: root }, { args: ['--out', join(dir, 'hashes')] })
    assert.match(described.stderr, /^Fetching 64 B/)
    assert.equal(readFileSync(join(dir, 'hashes')).toString('hex'), left + pieceRoot(piece).toString('hex'))
    // Without --out only the size is told, and nothing is fetched.
    assert.match((await ask('REQUEST_PIECE', { file: root, piece: 1 })).stderr, /^918 KB are attached; --out FILE/)
    const unknown = await refusalOf('REQUEST_PIECE', { file: '00'.repeat(32), piece: 0 })
    assert.equal(unknown['remoteCode'], 'NODE_FILE_UNKNOWN')
  })

  it('runs a task that streams the text of a completion at that node, and an inference with its profile', async () => {
    const text = await ownAnswer(asked)
    const { events, body } = await answerOf('EXECUTE_TASK', TASK)
    assert.equal(body['text'], text)
    assert.equal(events.map(event => String(event['text'])).join(''), text)
    assert.ok(events.length > 6, `${events.length} events`)
    const { kind: _, ...inference } = TASK
    const whole = (await answerOf('inference_request', { ...inference, model: 'Storyteller' })).body
    assert.equal(whole['text'], text)
    assert.match(String((whole['profile'] as Json)['edge']), /^llama\.cpp-/)
  })

  it('challenges the layers of a node, which answers the same digest to the same rows and another to another nonce', async t => {
    const rows = join(temporaryDir(t), 'rows')
    writeFileSync(rows, new Uint8Array(new Float32Array(2 * WIDTH).map((_, i) => Math.sin(i)).buffer))
    const challenge = async (nonce: string): Promise<unknown> => {
      const body = { model: 'Storyteller', layers: { first: 4, last: 8 }, count: 2, nonce }
      return (await answerOf('AUDIT_CHALLENGE', body, ['--attach', rows])).body['digest']
    }
    const [first, second] = [await challenge('5a'.repeat(32)), await challenge('5a'.repeat(32))]
    assert.match(String(first), /^[0-9a-f]{64}$/)
    assert.equal(second, first)
    assert.notEqual(await challenge('a5'.repeat(32)), first)
  })

  it('rates a peer, and reads what is said of one', async () => {
    const peer = asked.ready.peer
    assert.equal((await answerOf('GET_REPUTATION', { peer })).body['score'], null)
    await answerOf('UPDATE_REPUTATION', { peer, score: 0.5, comment: 'quick' })
    const { score, ratings } = (await answerOf('GET_REPUTATION', { peer })).body
    const [rating] = ratings as Json[]
    assert.deepEqual([score, rating?.['rater'], rating?.['comment']], [0.5, asker.ready.peer, 'quick'])
  })

  it('refuses what makes no sense before a peer is bothered, and says how it was meant', async t => {
    const notJson = await ask('ECHO', '{text:')
    assert.equal(notJson.code, 2)
    assert.match(notJson.stderr, /^koinon: what the command is given must be JSON: .* \[CLI_USAGE\]\n$/)
    const badSchema = await refusalOf('ECHO', { text: 7 })
    assert.deepEqual([badSchema['code'], badSchema['remoteCode']], ['PROTOCOL_BAD_REQUEST', undefined])
    assert.match(String(badSchema['message']), /ECHO: text: /)
    assert.equal((await refusalOf('MAKE_TEA', {}))['code'], 'NODE_COMMAND_UNKNOWN')
    const stranger = await koinon(['ask', 'nobody', 'ECHO', '--data-dir', asker.ready.dataDir])
    assert.deepEqual([stranger.code, stranger.stderr.includes('[CLI_PEER_UNKNOWN]')], [1, true])
    assert.equal((await ask('ECHO', {}, { args: ['--out', join(temporaryDir(t), 'none', 'file')] })).code, 2)
    assert.equal((await koinon(['ask', '--data-dir', asker.ready.dataDir])).code, 2)
    assert.equal((await koinon(['ask', 'a', 'b', '--data-dir', temporaryDir(t)])).code, 3)
  })

  it('lists the commands that the node knows', async () => {
    const { stdout } = await koinon(['ask', '--list', '--data-dir', asker.ready.dataDir])
    assert.match(stdout, /LOAD_SHARD +40 +trusted +32 +-\n/)
    assert.match(stdout, /ECHO +64 +member +1 +-\n/)
  })

  it('brings bytes in bodies both ways, and large attachments', async t => {
    const [there, back] = ['there', 'back'].map(name => join(temporaryDir(t), name)) as [string, string]
    writeFileSync(there, Buffer.alloc(3_000_000, 'koinon'))
    const bytes = { '/': { bytes: 'AAEC/w' } }
    const { body } = await answerOf('MIRROR', { bytes }, ['--attach', there, '--out', back])
    assert.deepEqual(body, { bytes })
    assert.ok(readFileSync(back).equals(readFileSync(there)))
  })

  it('waits no longer than it is told, and cancels the command at the peer', async () => {
    const late = await ask('HANG', {}, { args: ['--timeout', '1'] })
    assert.equal(late.code, 1)
    assert.match(late.stderr, /PROTOCOL_DEADLINE/)
    await until(async () => ((await answerOf('HANGING')).body['hanging'] === 0 ? true : undefined), {
      what: 'the end of the command',
      timeoutMs: 5_000,
    })
  })

  it('survives answers and events that are too long, and more events in a second than peers bear', async () => {
    for (const body of [{ answerChars: 600_000 }, { eventChars: 600_000 }]) {
      assert.equal((await refusalOf('FLOOD', body))['remoteCode'], 'PROTOCOL_MESSAGE_TOO_LONG')
    }
    assert.equal((await answerOf('FLOOD', { events: 2500 })).events.length, 2500)
    const [peer] = await asker.client.peers()
    assert.equal(peer?.resumptions, 0, 'all over one connection')
  })
})

describe('koinon ask, with consequences', () => {
  it('loads other layers where the asker is trusted, and generations go on over them', async () => {
    const text = await ownAnswer(asked)
    const load = { model: 'Storyteller', layers: { first: 4, last: 8 }, force: true }
    // The other way round there is no trust.
    const refused = await refusalOf('LOAD_SHARD', load, asked)
    assert.deepEqual([refused['code'], refused['remoteCode']], ['PROTOCOL_REMOTE', 'PROTOCOL_NOT_AUTHORISED'])
    assert.deepEqual(await layersOf(asker), [{ first: 0, last: 4 }])

    const { body } = await answerOf('LOAD_SHARD', load)
    assert.deepEqual((body['stages'] as Json[])[0]?.['layers'], load.layers)
    assert.deepEqual(await layersOf(asked), [load.layers])
    const shown = await koinon(['status', '--data-dir', asked.ready.dataDir])
    assert.match(shown.stdout, /Storyteller +4-8 of 8/)
    // Now only both together have all layers.
    await until(async () => ((await asker.client.models())[0]?.isComplete === true ? true : undefined), {
      what: 'the offer of the new layers',
      timeoutMs: 5_000,
    })
    for (const node of [asker, asked]) assert.equal(await ownAnswer(node), text)
    const task = (await answerOf('EXECUTE_TASK', TASK)).body
    assert.equal(task['text'], text)
    assert.deepEqual(
      (task['route'] as Json[]).map(({ peer }) => peer),
      [asker.ready.peer, asked.ready.peer],
    )
  })

  it('says when to come back where it asks too much', async () => {
    await answerOf('SELDOM')
    const limited = await refusalOf('SELDOM', {})
    assert.equal(limited['remoteCode'], 'PROTOCOL_RATE_LIMITED')
    // One in a hundred seconds, as the command says itself: the peer's own allowance would be back in less than one.
    assert.ok(Number(limited['retryAfterMs']) > 1000 && Number(limited['retryAfterMs']) <= 100_000)
    assert.match(String(limited['message']), /wait \d+ ms/)
  })

  it('tells a command of which the peer knows nothing', async t => {
    const other = join(temporaryDir(t), 'other.mjs')
    writeFileSync(other, readFileSync(ECHO, 'utf8').replace('type: 64', 'type: 99').replace("'ECHO'", "'OTHER'"))
    const third = await swarm.add({ layers: 'none', args: ['--plugin', other] })
    const args = ['ask', asked.ready.peer, 'other', '{"text": "a"}', '--data-dir', third.ready.dataDir]
    await until(async () => ((await third.client.peers()).length === 2 ? true : undefined), {
      what: 'the introduction',
      timeoutMs: 10_000,
    })
    const unknown = await koinon(args)
    assert.equal(unknown.code, 1)
    assert.match(unknown.stderr, /the peer answered PROTOCOL_UNKNOWN_TYPE: /)
    const nodes = (await answerOf('FIND_NODES', { target: third.ready.peer })).body['nodes'] as Json[]
    assert.deepEqual(
      nodes.map(({ peer }) => peer),
      [third.ready.peer],
    )
    assert.equal(existsSync(join(third.ready.dataDir, 'node.db')), true)
  })
})

async function layersOf(node: SwarmNode): Promise<readonly unknown[]> {
  return (await node.client.status()).stages.map(({ layers }) => layers)
}
