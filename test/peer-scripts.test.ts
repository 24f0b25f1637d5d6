/** Peers that others have written (`test/peers`), each a script of its own, against real nodes: each gets what is due. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { PROTOCOL_VERSIONS } from '#wire'
import { startSwarm, type Swarm, type SwarmNode } from '../tools/swarm.ts'
import { runProgram } from './support/command.ts'

const SECRET = 'a secret that is long enough to be one'

let swarm: Swarm
let first: SwarmNode

before(async () => {
  // Two nodes, so that there is somebody to find, and a task whose route has two stages.
  swarm = await startSwarm({ nodes: [{ layers: '0-4' }, { layers: '4-8' }], secret: SECRET, ctx: 256 })
  const [node] = swarm.nodes
  assert.ok(node !== undefined)
  first = node
})
after(() => swarm.stop())

async function run(
  script: string,
  env: Readonly<Record<string, string>> = { KOINON_SWARM_SECRET: SECRET },
  node = first,
) {
  const path = fileURLToPath(new URL(`./peers/${script}.ts`, import.meta.url))
  return runProgram([process.execPath, path, node.ready.addresses[0] ?? ''], { env })
}

async function resultOf(script: string): Promise<Readonly<Record<string, unknown>>> {
  const { code, stdout, stderr } = await run(script)
  assert.equal(code, 0, stderr)
  return JSON.parse(stdout) as Record<string, unknown>
}

describe('peers of other makers', () => {
  it('one that speaks version 1 alone comes to a session, and is answered in it', async () => {
    const result = await resultOf('v1-only')
    assert.deepEqual([result['peer'], result['version']], [first.ready.peer, 1])
    assert.equal(result['suite'], 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256')
    assert.equal(result['stages'], 1)
    const capabilities = result['capabilities'] as { peer: string; models: { name: string }[] }
    assert.deepEqual([capabilities.peer, capabilities.models[0]?.name], [first.ready.peer, 'Storyteller'])
  })

  it('one that speaks JSON alone lists, finds, fetches and checks a piece, and runs a task', async () => {
    const result = await resultOf('json-only')
    assert.equal(result['isProved'], true)
    const { capabilities, nodes, piece, task } = result as {
      capabilities: { peer: string; commands: unknown[] }
      nodes: { peer: string; stages: { layers: object }[] }[]
      piece: { bytes: number; isVerified: boolean }
      task: { text: string; isStreamed: boolean; usage: object }
    }
    assert.equal(capabilities.peer, first.ready.peer)
    assert.deepEqual(
      nodes.map(({ peer }) => peer),
      [swarm.nodes[1]?.ready.peer],
    )
    assert.deepEqual(nodes[0]?.stages[0]?.layers, { first: 4, last: 8 })
    assert.ok(piece.isVerified && piece.bytes > 100_000)
    assert.ok(task.isStreamed && task.text.length > 8)
  })

  it('one of an unknown version is refused, and told which would do', async () => {
    const result = await resultOf('unknown-version')
    assert.deepEqual(result['refused'], { reason: 'version', versions: [...PROTOCOL_VERSIONS] })
  })

  it('one without the secret of the swarm gets nothing, whichever protocol it speaks', async () => {
    const none = { KOINON_SWARM_SECRET: '' }
    const [frames, json, older] = [
      await run('v1-only', none),
      await run('json-only', none),
      await run('older-only', none),
    ]
    assert.deepEqual([frames.code, json.code, older.code], [1, 1, 1])
    assert.match(frames.stderr, /secret-needed/)
    assert.match(json.stderr, /JSON_AUTH_FAILED/)
  })
  it('one of the systems before fetches a file from an open node and reads its counters', async () => {
    const open = await startSwarm({ nodes: [{ layers: '0-8' }], ctx: 256 })
    try {
      const { code, stdout, stderr } = await run('older-only', {}, open.nodes[0])
      assert.equal(code, 0, stderr)
      const { file, metrics } = JSON.parse(stdout) as {
        file: { filename: string; size: number; isVerified: boolean }
        metrics: { peer_id: string; namespace: string }
      }
      assert.match(file.filename, /^\w+\.gguf$/)
      assert.ok(file.isVerified && file.size > 1_000_000)
      assert.deepEqual([metrics.peer_id, metrics.namespace], [open.nodes[0]?.ready.peer, 'Storyteller'])
    } finally {
      await open.stop()
    }
  })
})
