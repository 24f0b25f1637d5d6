/** coturn on loopback: a TURN server that nobody here wrote. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import type { Endpoint } from '#nat'
import { freePort } from './free-port.ts'

export type TurnServer = {
  readonly server: Endpoint
  readonly username: string
  readonly password: string
  /** Resolves when this many allocations have ended because a client gave them back. */
  allocationsEnded(count: number): Promise<void>
}

/** Why there is none; false where there is. */
export function turnServerMissing(): string | false {
  return spawnSync('turnserver', ['--version']).error === undefined
    ? false
    : 'turnserver (Debian: coturn) is not installed'
}

export async function startTurnServer(t: TestContext): Promise<TurnServer> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'koinon-turn-'))
  const username = 'koinon'
  const password = 'test-only'
  const flags = '-n --lt-cred-mech --allow-loopback-peers --no-cli --no-tls --no-dtls --no-tcp --verbose'
  const places = `--listening-ip=127.0.0.1 --relay-ip=127.0.0.1 --listening-port=${port} --realm=koinon.test`
  const args = [
    ...`${flags} ${places} --user=${username}:${password} --log-file=stdout`.split(' '),
    `--pidfile=${join(directory, 'pid')}`,
    `--userdb=${join(directory, 'turndb')}`,
  ]
  const child = spawn('turnserver', args, { stdio: ['ignore', 'pipe', 'ignore'], cwd: directory })
  const exited = once(child, 'exit')
  t.after(async () => {
    child.kill()
    await exited
    rmSync(directory, { recursive: true })
  })
  const isUp = Promise.withResolvers<boolean>()
  void exited.then(() => isUp.resolve(false)) // once() of a spawned child rejects only where it was never spawned.
  let ended = 0
  const waiting: (() => void)[] = []
  createInterface({ input: child.stdout }).on('line', line => {
    if (/IPv4\. UDP listener opened on: 127\.0\.0\.1/.test(line)) isUp.resolve(true)
    if (/refreshed.*lifetime=0/.test(line)) ended++
    for (const look of waiting) look()
  })
  if (!(await isUp.promise)) throw new Error('coturn has ended before it listened')
  return {
    server: { address: '127.0.0.1', port },
    username,
    password,
    allocationsEnded: count =>
      new Promise(resolve => {
        const look = (): void => {
          if (ended >= count) resolve()
        }
        waiting.push(look)
        look()
      }),
  }
}
