import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Command } from 'commander'
import { addNetOptions, type NetFlags, netConfig } from './net-options.ts'

/** What these arguments come to. */
async function configOf(...args: readonly string[]): ReturnType<typeof netConfig> {
  const command = addNetOptions(new Command())
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
  return netConfig(command.parse(args, { from: 'user' }).opts<NetFlags>())
}

const LOOPBACK = ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/udp/0/quic-v1']

test('a node listens at free ports of this machine alone, over what its mode has', async () => {
  assert.deepEqual((await configOf()).listen, LOOPBACK)
  assert.deepEqual((await configOf('--transport', 'tcp')).listen, LOOPBACK.slice(0, 1))
  assert.deepEqual((await configOf('--transport', 'quic')).listen, LOOPBACK.slice(1))
  assert.equal((await configOf()).transport, 'dual')
})

test('--port opens one number for TCP and UDP, --listen means what it says', async () => {
  const both = (port: number): string[] => [`/ip4/0.0.0.0/tcp/${port}`, `/ip4/0.0.0.0/udp/${port}/quic-v1`]
  assert.deepEqual((await configOf('--port')).listen, both(30_906))
  assert.deepEqual((await configOf('--port', '4001')).listen, both(4001))
  assert.deepEqual((await configOf('--port', '4001', '--transport', 'quic')).listen, both(4001).slice(1))
  const listen = ['/ip4/0.0.0.0/tcp/4001', '/ip4/0.0.0.0/tcp/80/ws']
  assert.deepEqual((await configOf(...listen.flatMap(address => ['--listen', address]))).listen, listen)
  await assert.rejects(configOf('--port', '1', '--listen', listen[0] ?? ''), { code: 'commander.conflictingOption' })
})

test('addresses of every transport are taken, a mode that does not exist and a peer that is none are not', async () => {
  const peer = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo'
  const peers = ['tcp/1', 'udp/1/quic-v1', 'tcp/1/ws', `tcp/1/p2p/${peer}/p2p-circuit`].map(
    rest => `/ip4/10.0.0.1/${rest}/p2p/${peer}`,
  )
  assert.deepEqual((await configOf(...peers.flatMap(address => ['--peer', address]))).peers, peers)
  assert.deepEqual((await configOf('--allow', peer)).allow, [peer])
  await assert.rejects(configOf('--allow', 'bob'), { code: 'commander.invalidArgument' })
  await assert.rejects(configOf('--transport', 'sctp'), { code: 'commander.invalidArgument' })
})

test('--turn reads an account of a file, and refuses what is none', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-'))
  t.after(() => rm(directory, { recursive: true }))
  const file = join(directory, 'turn.json')
  await writeFile(file, '{"server":"turn.example.org:3479","username":"u","password":"p"}')
  const expected = { host: 'turn.example.org', port: 3479, username: 'u', password: 'p' }
  assert.deepEqual((await configOf('--turn', file)).turn, expected)
  for (const text of ['{}', '{"server":"x","username":"","password":"p"}', '[]', '{']) {
    await writeFile(file, text)
    await assert.rejects(configOf('--turn', file), { code: 'CLI_USAGE' })
  }
  await writeFile(file, '{"server":"no server","username":"u","password":"p"}')
  await assert.rejects(configOf('--turn', file), { code: 'commander.invalidArgument' })
})

test('--net-config reads settings, and refuses what it does not know before anything starts', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-'))
  t.after(() => rm(directory, { recursive: true }))
  const file = join(directory, 'net.json')
  await writeFile(file, '{"dialPrefer":"quic","pingIntervalMs":20000}')
  assert.deepEqual((await configOf('--net-config', file)).settings, { dialPrefer: 'quic', pingIntervalMs: 20_000 })
  await writeFile(file, '{"pingInterval":20000}')
  await assert.rejects(configOf('--net-config', file), { message: 'there is no setting "pingInterval"' })
  for (const text of ['{', ' '.repeat(65_537)]) {
    await writeFile(file, text)
    await assert.rejects(configOf('--net-config', file), { code: 'CLI_USAGE' })
  }
  await assert.rejects(configOf('--net-config', join(directory, 'none.json')), { code: 'CLI_USAGE' })
})
