import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Clock, seededRandom, systemClock } from '#base'
import { temporaryDir } from '../../../test/support/command.ts'
import { fetchAll, randomBytes } from '../../../test/support/origin-fetch.ts'
import { type SshServer, sshServerMissing, startSshServer } from '../../../test/support/ssh-server.ts'
import { SwarmError } from '../errors.ts'
import type { Origin } from '../types.ts'
import { createRsyncOrigin, type RsyncOriginOptions } from './rsync.ts'
import { assertMachine, assertRemotePath, rsyncArguments, sshConfig } from './rsync-command.ts'

const skip = sshServerMissing()
const FILE = randomBytes(6_000_000)

/** Waits between tries are a hundredth of what they are; looks and limits stay. */
const hasty: Clock = {
  ...systemClock,
  after: (delayMs, action) => systemClock.after(delayMs >= 200 && delayMs < 10_000 ? delayMs / 100 : delayMs, action),
}

type World = { readonly server: SshServer; readonly path: string; readonly stagingDir: string }

async function world(t: TestContext): Promise<World> {
  const directory = temporaryDir(t)
  const stagingDir = join(directory, 'staging')
  mkdirSync(stagingDir)
  const path = join(directory, "it's a model $(x).gguf")
  writeFileSync(path, FILE)
  return { server: await startSshServer(t), path, stagingDir }
}

type Setting = Partial<Omit<RsyncOriginOptions, 'machine'>> & {
  readonly machine?: Partial<RsyncOriginOptions['machine']>
}

function originOf(t: TestContext, { server, path, stagingDir }: World, setting: Setting = {}): Origin {
  const { machine, ...options } = setting
  const { host, port, user, identityFile, knownHostsFile } = server
  const origin = createRsyncOrigin(
    { clock: hasty, random: seededRandom(1) },
    {
      machine: { host, port, user, identityFile, knownHostsFile, ...machine },
      path,
      stagingDir,
      fileBytes: FILE.byteLength,
      ...options,
    },
  )
  t.after(() => origin.close())
  return origin
}

/** Bytes on the disk, not the length of files. */
function stagedBytes({ stagingDir }: World): number {
  return readdirSync(stagingDir)
    .map(name => statSync(join(stagingDir, name, 'staged')).blocks * 512)
    .reduce((sum, bytes) => sum + bytes, 0)
}

/** Processes that work in a folder below. */
function workersIn(directory: string): string[] {
  return readdirSync('/proc').filter(pid => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`).startsWith(directory)
    } catch {
      return false // It has ended since, or is another user's.
    }
  })
}

const fails = async (origin: Origin, code: string): Promise<SwarmError> => {
  const error = await fetchAll(origin, { offset: 1_000, length: 1_000 }).then(
    () => assert.fail('bytes came'),
    (error: unknown) => error,
  )
  assert.ok(error instanceof SwarmError, String(error))
  assert.equal(error.code, code, error.message)
  return error
}

test('ranges come from a real sshd, those in order over one connection', { skip }, async t => {
  const here = await world(t)
  const origin = originOf(t, here)
  for (const [offset, length] of [
    [0, 100_000],
    [100_000, 500_000],
    [2_000_000, 1],
    [300, 5_000_000],
    [5_999_000, 1_000],
  ] as const) {
    const got = await fetchAll(origin, { offset, length })
    assert.ok(got.equals(FILE.subarray(offset, offset + length)), `${offset}`)
  }
  assert.equal(here.server.logins(), 1)
  await origin.close()
  assert.deepEqual(readdirSync(here.stagingDir), [])
})

test('to look whether the file is there moves little of it', {
  skip: skip || (process.platform !== 'linux' && 'needs /proc'),
}, async t => {
  const here = await world(t)
  const origin = originOf(t, here, { bytesPerSecond: 500_000 })
  assert.equal((await fetchAll(origin, { offset: 0, length: 1 }))[0], FILE[0])
  while (workersIn(here.stagingDir).length > 0) await new Promise(resolve => setImmediate(resolve))
  assert.ok(stagedBytes(here) <= 3_000_000, `${stagedBytes(here)} bytes on the disk`)
})

test('a range in the middle moves and stores nothing of what is before it', { skip }, async t => {
  const here = await world(t)
  const origin = originOf(t, here, { aheadBytes: 1_000_000 })
  const got = await fetchAll(origin, { offset: 5_000_000, length: 100_000 })
  assert.ok(got.equals(FILE.subarray(5_000_000, 5_100_000)))
  assert.ok(stagedBytes(here) <= 1_000_000 + 2 * 4_096, `${stagedBytes(here)} bytes on the disk`)
  const before = await fetchAll(origin, { offset: 1_000_000, length: 100_000 })
  assert.ok(before.equals(FILE.subarray(1_000_000, 1_100_000)))
  assert.equal(here.server.logins(), 2)
})

test('what lies on the disk is bounded, and the range goes on after it was emptied', { skip }, async t => {
  const here = await world(t)
  const origin = originOf(t, here, { stagedBytesMax: 1_000_000, aheadBytes: 200_000 })
  let most = 0
  const got = await fetchAll(
    origin,
    { offset: 10, length: 4_000_000 },
    {
      onBytes: () => {
        most = Math.max(most, stagedBytes(here))
      },
    },
  )
  assert.ok(got.equals(FILE.subarray(10, 4_000_010)))
  assert.ok(most <= 1_000_000 + 2 * 4_096, `${most} bytes on the disk`)
})

test('two fetches at once wait for one another', { skip }, async t => {
  const origin = originOf(t, await world(t))
  const [one, two] = await Promise.all([
    fetchAll(origin, { offset: 0, length: 100_000 }),
    fetchAll(origin, { offset: 100_000, length: 100_000 }),
  ])
  assert.ok(Buffer.concat([one, two]).equals(FILE.subarray(0, 200_000)))
})

test('sshd is killed in the middle: the rest comes when it is there again, and nothing twice', { skip }, async t => {
  const here = await world(t)
  // So slow that it would take a quarter of a minute: it is not over before the kill.
  const origin = originOf(t, here, { bytesPerSecond: 300_000 })
  const { signal } = new AbortController()
  let at = 1_000_000
  for await (const bytes of origin.fetch({ offset: at, length: 5_000_000 }, { signal })) {
    assert.ok(FILE.subarray(at, at + bytes.byteLength).equals(bytes), `at ${at}`)
    if (at === 1_000_000) {
      await here.server.kill()
      await here.server.start()
    }
    at += bytes.byteLength
    if (here.server.logins() > 1 && at > 1_600_000) break
  }
  assert.equal(here.server.logins(), 2)
})

test('a machine that stays away is given up', { skip }, async t => {
  const here = await world(t)
  await here.server.kill()
  const error = await fails(originOf(t, here), 'SWARM_ORIGIN_UNREACHABLE')
  assert.match(error.message, /Connection refused/)
})

test('wrong keys of the user and of the host: clear errors, nothing stored', { skip }, async t => {
  const here = await world(t)
  const { strangerFile, changedHostsFile } = here.server
  const unknown = join(here.stagingDir, '..', 'no_hosts')
  for (const [machine, code] of [
    [{ identityFile: strangerFile }, 'SWARM_ORIGIN_CREDENTIALS'],
    [{ identityFile: '/no/such/key' }, 'SWARM_ORIGIN_CREDENTIALS'],
    [{ user: 'nobody-of-this-name' }, 'SWARM_ORIGIN_CREDENTIALS'],
    [{ knownHostsFile: changedHostsFile }, 'SWARM_ORIGIN_HOST_KEY'],
    [{ knownHostsFile: unknown }, 'SWARM_ORIGIN_HOST_KEY'],
  ] as const) {
    await fails(originOf(t, here, { machine }), code)
    assert.equal(stagedBytes(here), 0)
  }
  const open = join(here.stagingDir, '..', 'open_key')
  copyFileSync(here.server.identityFile, open)
  chmodSync(open, 0o644)
  const error = await fails(originOf(t, here, { machine: { identityFile: open } }), 'SWARM_ORIGIN_CREDENTIALS')
  assert.match(error.message, /chmod 600/)
})

test('another length, no file and a folder are told', { skip }, async t => {
  const here = await world(t)
  await fails(originOf(t, here, { fileBytes: 6_000_001 }), 'SWARM_ORIGIN_SIZE')
  await fails(originOf(t, here, { fileBytes: 5_000_000 }), 'SWARM_ORIGIN_SIZE')
  const short = originOf(t, here, { fileBytes: 9_000_000 })
  await assert.rejects(fetchAll(short, { offset: 8_000_000, length: 10 }), {
    fault: { code: 'SWARM_ORIGIN_SIZE', expectedBytes: 9_000_000 },
  })
  await fails(originOf(t, here, { path: '/no/such/file.gguf' }), 'SWARM_ORIGIN_NOT_FOUND')
  await fails(originOf(t, here, { path: here.stagingDir }), 'SWARM_ORIGIN_NOT_FOUND')
})

test('a file that is replaced over there is given up', { skip }, async t => {
  const here = await world(t)
  const origin = originOf(t, here)
  await fetchAll(origin, { offset: 5_000_000, length: 1_000 })
  writeFileSync(here.path, randomBytes(FILE.byteLength, 2))
  utimesSync(here.path, 1_000_000_000, 1_000_000_000)
  // From before what came, so by a new run of rsync: the first may have brought all that lies behind already.
  await assert.rejects(fetchAll(origin, { offset: 0, length: 1_000_000 }), {
    fault: { code: 'SWARM_ORIGIN_CHANGED' },
  })
})

test('a fetch ends with its signal and with its origin, and no rsync is left', { skip }, async t => {
  const here = await world(t)
  const origin = originOf(t, here, { bytesPerSecond: 100_000 })
  const controller = new AbortController()
  const stop = new Error('enough')
  const options = { signal: controller.signal, onBytes: () => controller.abort(stop) }
  await assert.rejects(fetchAll(origin, { offset: 0, length: 1_000_000 }, options), stop)
  const rest = fetchAll(origin, { offset: 0, length: 5_000_000 }, { onBytes: () => origin.close() })
  await assert.rejects(rest, { fault: { code: 'SWARM_ORIGIN_CLOSED' } })
  await origin.close()
  assert.deepEqual(readdirSync(here.stagingDir), [])
})

test('a node that is killed leaves no rsync behind', {
  skip: skip || (process.platform !== 'linux' && 'needs /proc'),
}, async t => {
  const { server, path, stagingDir } = await world(t)
  const { host, port, user, identityFile, knownHostsFile } = server
  const machine = { host, port, user, identityFile, knownHostsFile }
  const options = { machine, path, stagingDir, fileBytes: FILE.byteLength, bytesPerSecond: 200_000 }
  const program = `
      const { createRsyncOrigin } = await import(${JSON.stringify(new URL('rsync.ts', import.meta.url).href)})
      const { systemClock: clock, systemRandom: random } = await import('#base')
      const origin = createRsyncOrigin({ clock, random }, ${JSON.stringify(options)})
      const { signal } = new AbortController()
      for await (const bytes of origin.fetch({ offset: 0, length: 5_000_000 }, { signal })) console.log(bytes.byteLength)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  assert.ok(workersIn(stagingDir).length > 0)
  child.kill('SIGKILL')
  while (workersIn(stagingDir).length > 0) await new Promise(resolve => setImmediate(resolve))
  assert.ok(stagedBytes({ server, path, stagingDir }) < FILE.byteLength)
})

test('where rsync or ssh is missing that is said', { skip }, async t => {
  const here = await world(t)
  const programs = temporaryDir(t)
  const path = process.env['PATH']
  t.after(() => {
    process.env['PATH'] = path
  })
  process.env['PATH'] = programs
  assert.match((await fails(originOf(t, here), 'SWARM_ORIGIN_PROGRAM')).message, /^rsync is not installed$/)
  const rsync = (path ?? '').split(':').find(folder => existsSync(join(folder, 'rsync')))
  symlinkSync(join(rsync ?? assert.fail('no rsync'), 'rsync'), join(programs, 'rsync'))
  assert.match((await fails(originOf(t, here), 'SWARM_ORIGIN_PROGRAM')).message, /^ssh is not installed$/)
})

test('arguments and configuration hold no value that rsync, ssh or a shell could take for something else', () => {
  const args = rsyncArguments('/srv/models/m.gguf', { bytesPerSecond: 1_500_000 })
  assert.deepEqual(args.slice(-5), ['--rsh', 'ssh -F ssh_config', '--', 'origin:/srv/models/m.gguf', 'staged'])
  assert.ok(args.includes('--bwlimit=1464') && args.includes('--protect-args') && args.includes('--append'))
  const machine = { host: 'nas.home', user: 'me', identityFile: '/k/id file', knownHostsFile: '/k/known_hosts' }
  const config = sshConfig(machine)
  assert.match(config, /^IdentityFile "\/k\/id file"$/m)
  assert.match(config, /^StrictHostKeyChecking yes$/m)
  for (const odd of [
    { host: '-oProxyCommand=x' },
    { host: 'a b' },
    { host: 'a\nProxyCommand x' },
    { host: '' },
    { user: '-l' },
    { user: 'a b' },
    { user: 'root\n' },
    { port: 0 },
    { port: 65_536 },
    { identityFile: 'relative' },
    { identityFile: '/a"b' },
    { identityFile: '/a\nProxyCommand x' },
    { knownHostsFile: '/a%h' },
    { knownHostsFile: '~/x' },
    // oxlint-disable-next-line no-template-curly-in-string -- What ssh would expand.
    { knownHostsFile: '/${HOME}/x' },
  ]) {
    assert.throws(
      () => assertMachine({ ...machine, ...odd }),
      { fault: { code: 'SWARM_ORIGIN_CONFIG' } },
      JSON.stringify(odd),
    )
  }
  for (const path of ['', 'm.gguf', '-e', '/a/../b', '/a//b', '/a*', '/a?', '/[a]', '/a\nb', '/a\0', ':/x', '/a\\b']) {
    assert.throws(() => assertRemotePath(path), { fault: { code: 'SWARM_ORIGIN_CONFIG' } }, path)
  }
})
