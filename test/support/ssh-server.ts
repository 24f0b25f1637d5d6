/** OpenSSH's sshd on loopback with keys of its own, for the user who runs the tests. */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { TestContext } from 'node:test'
import { freePort } from './free-port.ts'

/** Another program may take a free port between our look and sshd's start. */
const TRIES_MAX = 5

/** It starts itself anew for every connection, so it wants to be called by its whole path. */
const SSHD = '/usr/sbin/sshd'

export type SshServer = {
  readonly host: string
  readonly port: number
  readonly user: string
  /** Of the user, accepted. */
  readonly identityFile: string
  /** Of the same form, not accepted. */
  readonly strangerFile: string
  /** Holds the key of this server. */
  readonly knownHostsFile: string
  /** Holds another key for the same host and port. */
  readonly changedHostsFile: string
  /** From now on its key is known for another port of this machine too: one that leads to it. */
  knowAt(port: number): void
  /** Logins so far. */
  logins(): number
  /** Ends the server and every connection, by SIGKILL. */
  kill(): Promise<void>
  start(): Promise<void>
}

/** Why there is none; false where there is. */
export function sshServerMissing(): string | false {
  const has = (program: string, ...args: string[]): boolean => spawnSync(program, args).error === undefined
  if (!existsSync(SSHD)) return `${SSHD} (Debian: openssh-server) is not installed`
  if (!has('ssh', '-V')) return 'ssh (Debian: openssh-client) is not installed'
  return has('rsync', '--version') ? false : 'rsync is not installed'
}

export async function startSshServer(t: TestContext): Promise<SshServer> {
  for (let tries = 1; ; tries++) {
    const directory = mkdtempSync(join(tmpdir(), 'koinon-sshd-'))
    const server = new Sshd(directory, await freePort())
    t.after(async () => {
      await server.kill()
      rmSync(directory, { recursive: true, force: true })
    })
    if (await server.tryToStart()) return server
    if (tries === TRIES_MAX) throw new Error('sshd gets no port')
  }
}

class Sshd implements SshServer {
  readonly host = '127.0.0.1'
  readonly port: number
  readonly user = userInfo().username
  readonly identityFile: string
  readonly strangerFile: string
  readonly knownHostsFile: string
  readonly changedHostsFile: string
  readonly #directory: string
  #child: ChildProcessByStdio<null, null, Readable> | undefined
  #logins = 0

  constructor(directory: string, port: number) {
    this.#directory = directory
    this.port = port
    const hostKey = makeKey(directory, 'host')
    this.identityFile = makeKey(directory, 'user')
    this.strangerFile = makeKey(directory, 'stranger')
    this.knownHostsFile = join(directory, 'known_hosts')
    this.changedHostsFile = join(directory, 'changed_hosts')
    writeFileSync(this.knownHostsFile, `[127.0.0.1]:${port} ${publicKey(hostKey)}`)
    writeFileSync(this.changedHostsFile, `[127.0.0.1]:${port} ${publicKey(this.strangerFile)}`)
    appendFileSync(join(directory, 'authorized_keys'), publicKey(this.identityFile))
    // Where sshd was installed and never started as a service.
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  }

  knowAt(port: number): void {
    appendFileSync(this.knownHostsFile, `[127.0.0.1]:${port} ${publicKey(join(this.#directory, 'host'))}`)
  }

  logins(): number {
    return this.#logins
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    for (const pid of [...descendants(child.pid), child.pid]) kill(pid)
    await exited
  }

  async start(): Promise<void> {
    if (!(await this.tryToStart())) throw new Error('sshd does not start again')
  }

  async tryToStart(): Promise<boolean> {
    const options = {
      ListenAddress: this.host,
      Port: this.port,
      HostKey: join(this.#directory, 'host'),
      AuthorizedKeysFile: join(this.#directory, 'authorized_keys'),
      PidFile: 'none',
      UsePAM: 'no',
      StrictModes: 'no',
      PasswordAuthentication: 'no',
      KbdInteractiveAuthentication: 'no',
      PermitRootLogin: 'prohibit-password',
      LogLevel: 'INFO',
    }
    const config = join(this.#directory, 'sshd_config')
    writeFileSync(
      config,
      Object.entries(options)
        .map(([name, value]) => `${name} ${value}\n`)
        .join(''),
    )
    const child = spawn(SSHD, ['-D', '-e', '-f', config], { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    const isUp = Promise.withResolvers<boolean>()
    child.on('exit', () => isUp.resolve(false))
    createInterface({ input: child.stderr }).on('line', line => {
      if (line.startsWith('Server listening')) isUp.resolve(true)
      if (line.startsWith('Accepted publickey')) this.#logins++
    })
    return isUp.promise
  }
}

function makeKey(directory: string, name: string): string {
  const path = join(directory, name)
  const { status, stderr } = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`ssh-keygen failed: ${stderr}`)
  return path
}

function publicKey(path: string): string {
  return readFileSync(`${path}.pub`, 'utf8')
}

/** Each connection has processes of its own, some in other process groups. */
function descendants(pid: number): number[] {
  const path = `/proc/${pid}/task/${pid}/children`
  const children = existsSync(path) ? readFileSync(path, 'utf8').trim().split(' ').filter(Boolean).map(Number) : []
  return children.flatMap(child => [...descendants(child), child])
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended by itself meanwhile.
  }
}
