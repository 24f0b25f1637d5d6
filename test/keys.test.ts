/** Keys as their owners use them: real processes, a node that runs, tokens, crashes, and what others can see of it. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, type TestContext, test } from 'node:test'
import { seededRandom, systemRandom } from '#base'
import { createNodeIdentity, seedPhraseOf, verifyChain } from '#identity'
import { createKeyStore } from '#storage'
import type { NodeStatus, PeerSummary } from '#wire'
import { COMMAND, type Finished, koinonUp, runProgram, temporaryDir } from './support/command.ts'
import { createSoftHsm, SOFTHSM_MODULE, SOFTHSM_SKIP } from './support/softhsm.ts'

const TIMEOUT = { timeout: 300_000 }
const PASSPHRASE = 'correct horse battery staple'
const hsm = SOFTHSM_SKIP === false ? createSoftHsm(after) : undefined

type Key = {
  readonly peer: string
  readonly handovers: number
  readonly number?: number
  readonly isEncrypted?: boolean
}

const keys = (dir: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Finished> =>
  runProgram([process.execPath, COMMAND, 'keys', ...args, '--data-dir', dir], { env })

async function show(
  dir: string,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<Key> {
  const { code, stdout, stderr } = await keys(dir, ['show', '--json', ...args], env)
  assert.equal(code, 0, stderr)
  return JSON.parse(stdout) as Key
}

/** Every file of a directory, one after the other. */
function allBytes(dir: string): Buffer {
  const entries = readdirSync(dir, { recursive: true, withFileTypes: true })
  return Buffer.concat(
    entries.filter(entry => entry.isFile()).map(entry => readFileSync(join(entry.parentPath, entry.name))),
  )
}

test('of two processes that make a key at once, one does', TIMEOUT, async t => {
  const dir = temporaryDir(t)
  const results = await Promise.all([1, 2, 3].map(() => keys(dir, ['new', '--json'])))
  const made = results.filter(({ code }) => code === 0)
  assert.equal(made.length, 1)
  for (const { code, stderr } of results) {
    if (code !== 0) assert.match(stderr, /STORAGE_LOCKED|STORAGE_KEY_EXISTS/)
  }
  assert.equal((await show(dir)).peer, (JSON.parse(made[0]?.stdout ?? '') as Key).peer)
  if (process.platform !== 'win32') {
    assert.equal(statSync(join(dir, 'keys')).mode & 0o777, 0o700)
    assert.equal(statSync(join(dir, 'keys', 'node.key')).mode & 0o777, 0o600)
  }
})

test(
  'a node with an encrypted key starts with its passphrase, rotates while it runs, and peers follow',
  TIMEOUT,
  async t => {
    const dir = temporaryDir(t)
    const pass = join(dir, 'pass')
    writeFileSync(pass, `${PASSPHRASE}\n`, { mode: 0o600 })
    const made = await keys(dir, ['new', '--json', '--words', '--passphrase-file', pass])
    const { peer, words } = JSON.parse(made.stdout) as Key & { readonly words: string }
    const refused = await runProgram([process.execPath, COMMAND, 'up', '--data-dir', dir, '--api', 'none'])
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /the node key is encrypted: give its passphrase \[IDENTITY_PASSPHRASE_NEEDED\]/)

    const a = await koinonUp(t, ['--data-dir', dir, '--api', 'none', '--passphrase-file', pass])
    assert.equal(a.ready.peer, peer)
    const otherDir = temporaryDir(t)
    const join2 = ['--data-dir', otherDir, '--api', 'none', '--layers', 'none', '--peer', a.ready.addresses[0] ?? '']
    await koinonUp(t, [...join2, '--hybrid-signatures'])
    const before = await untilKey(otherDir, peer)
    assert.equal(before.peer, peer)

    assert.equal((await keys(dir, ['new'])).code, 1, 'the running node has the lock')
    const rotated = await keys(dir, ['rotate', '--json'])
    assert.equal(rotated.code, 0, rotated.stderr)
    const { from, to } = JSON.parse(rotated.stdout) as { readonly from: string; readonly to: string }
    assert.equal(from, peer)
    const following = await untilKey(otherDir, to)
    assert.equal(following.session, before.session, 'the session goes on')
    const after1 = await show(dir, ['--passphrase-file', pass])
    assert.deepEqual([after1.peer, after1.number, after1.handovers, after1.isEncrypted], [to, 1, 1, true])
    const again = await keys(dir, ['rotate', '--json'])
    assert.equal((JSON.parse(again.stdout) as { readonly from: string }).from, to)

    a.child.stdin.end()
    await a.ended
    const said = await outputOfUp(['--data-dir', dir, '--api', 'none', '--passphrase-file', pass])
    assert.ok(said.includes((JSON.parse(again.stdout) as { readonly to: string }).to))
    const written = Buffer.concat([allBytes(join(dir, 'keys')), Buffer.from(said)])
    for (const secret of [words, PASSPHRASE, words.split(' ').slice(0, 6).join(' ')])
      assert.ok(!written.includes(secret))
  },
)

test('a key in the environment makes a node that writes no key down, and children do not see it', TIMEOUT, async t => {
  const dir = temporaryDir(t)
  const identity = await createNodeIdentity(systemRandom)
  const words = seedPhraseOf(identity.secret) ?? ''
  const env = { KOINON_NODE_KEY: words, KOINON_PASSPHRASE: PASSPHRASE }
  assert.equal((await show(dir, [], env)).peer, identity.peer)
  const node = await upWith(t, ['--data-dir', dir], env)
  assert.equal(node.peer, identity.peer)
  const root = identity.secret.kind === 'root' ? Buffer.from(identity.secret.root) : assert.fail()
  const bytes = allBytes(dir)
  for (const secret of [words, root, root.toString('hex'), root.toString('base64'), PASSPHRASE]) {
    assert.ok(!bytes.includes(secret))
  }
  if (process.platform === 'linux') {
    const status = JSON.parse(
      (await runProgram([process.execPath, COMMAND, 'status', '--json', '--data-dir', dir])).stdout,
    ) as NodeStatus
    const children = readFileSync(`/proc/${status.pid}/task/${status.pid}/children`, 'utf8').trim().split(' ')
    assert.ok(children.length > 0 && children[0] !== '')
    for (const child of children) {
      const environment = readFileSync(`/proc/${child}/environ`, 'utf8')
      assert.ok(!environment.includes(words) && !environment.includes(PASSPHRASE))
    }
  }
})

test('a node runs with a key that was made on a token', { ...TIMEOUT, skip: SOFTHSM_SKIP }, async t => {
  const dir = temporaryDir(t)
  const token = hsm?.addToken('token of the node') ?? ''
  const uri = (name: string): string =>
    `pkcs11:token=${encodeURIComponent(token)};object=${name}?module-path=${SOFTHSM_MODULE}&pin-source=${hsm?.pinFile}`
  const made = await keys(dir, ['new', '--json', '--key', uri('one')])
  assert.equal(made.code, 0, made.stderr)
  const { peer } = JSON.parse(made.stdout) as Key
  assert.equal((await keys(dir, ['new', '--key', uri('one')])).code, 1)
  assert.equal((await show(dir, ['--key', uri('one')])).peer, peer)
  const node = await upWith(t, ['--data-dir', dir, '--key', uri('one')])
  assert.equal(node.peer, peer)
  assert.deepEqual(readdirSync(dir).includes('keys'), false, 'no key is written down')

  await keys(dir, ['new', '--json', '--key', uri('two')])
  const rotated = await keys(dir, ['rotate', '--json', '--to', uri('two')])
  assert.equal(rotated.code, 0, rotated.stderr)
  const second = await show(dir, ['--key', uri('two')])
  assert.deepEqual([second.peer, second.handovers], [(JSON.parse(rotated.stdout) as { readonly to: string }).to, 1])
  await runProgram([process.execPath, COMMAND, 'stop', '--data-dir', dir])
  const refused = await runProgram([process.execPath, COMMAND, 'up', '--data-dir', dir, '--key', uri('one')])
  assert.match(refused.stderr, new RegExp(`has handed over to ${second.peer}.*NODE_KEY_GIVEN_UP`))
  assert.equal((await upWith(t, ['--data-dir', dir, '--key', uri('two')])).peer, second.peer)
})

test('a process that is killed while it rotates leaves a key and the chain that ends at it', TIMEOUT, async t => {
  const dir = temporaryDir(t)
  const program = `
    import { silentLogger, systemClock, systemRandom } from '#base'
    import { openOwnIdentity } from '#node'
    import { openKeyStore } from '#storage'
    const keys = await openKeyStore(${JSON.stringify(dir)}, { random: systemRandom })
    const own = await openOwnIdentity({ clock: systemClock, random: systemRandom, log: silentLogger }, {}, keys)
    process.stdout.write('begun\\n')
    for (;;) {
      await own.rotate()
      process.stdout.write('rotated\\n')
    }`
  const seed = systemRandom.uint32()
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const store = createKeyStore(dir, { random })
  let rotations = 0
  for (let round = 0; round < 6; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const killAfter = 1 + (random.uint32() % 4)
    let told = 0
    for await (const line of createInterface({ input: child.stdout })) {
      if (line === 'rotated') told++
      if (told < killAfter) continue
      // Somewhere in the next rotation, which takes some milliseconds.
      for (let turn = random.uint32() % 200; turn > 0; turn--) await new Promise(resolve => setImmediate(resolve))
      child.kill('SIGKILL')
      break
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    rotations += told
    const { peer } = (await store.load()) ?? assert.fail('there is no key')
    const { statements, sequence, successor } = await store.handoversOf(peer)
    const chain = verifyChain(statements)
    assert.ok(!('code' in chain))
    assert.deepEqual([chain.peers.at(-1), successor], [peer, undefined])
    assert.ok(sequence >= rotations, `${sequence} after ${rotations} that were told`)
    rotations = sequence
  }
})

/** A node with variables in its environment. */
async function upWith(
  t: TestContext,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly peer: string }> {
  const before = { ...process.env }
  Object.assign(process.env, env)
  try {
    return (await koinonUp(t, [...args, '--api', 'none'])).ready
  } finally {
    for (const name of Object.keys(env)) delete process.env[name]
    Object.assign(process.env, before)
  }
}

/** All that a node prints with every log line, from its start to its end. */
async function outputOfUp(args: readonly string[]): Promise<string> {
  const child = spawn(
    process.execPath,
    [COMMAND, 'up', '--json', '--exit-with-parent', '--log-level', 'debug', '--threads', '1', ...args],
    { stdio: 'pipe' },
  )
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => {
      text += part
      if (text.includes('"event":"ready"')) child.stdin.end()
    })
  }
  const [code] = (await once(child, 'close')) as [number | null]
  assert.equal(code, 0, text)
  return text
}

async function peersOf(dir: string): Promise<PeerSummary | undefined> {
  const { stdout, stderr } = await runProgram([process.execPath, COMMAND, 'peers', '--json', '--data-dir', dir])
  assert.equal(stderr, '')
  return (JSON.parse(stdout) as readonly PeerSummary[])[0]
}

/** The peer, once its key is this one; the test's own timeout bounds it. */
async function untilKey(dir: string, key: string): Promise<PeerSummary> {
  for (;;) {
    const peer = await peersOf(dir)
    if (peer?.key === key) return peer
  }
}
