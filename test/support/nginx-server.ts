/** nginx on loopback, without rights, one process: a web server that nobody here wrote, and that can be killed. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { until } from '../../tools/swarm.ts'
import { freePort } from './free-port.ts'

/** Another program may take a free port between our look and nginx's start. */
const TRIES_MAX = 5

/** Debian keeps it where only root's PATH leads. */
const NGINX = existsSync('/usr/sbin/nginx') ? '/usr/sbin/nginx' : 'nginx'

export type NginxServer = {
  /** `http://127.0.0.1:PORT/` */
  readonly url: string
  /** What it serves. */
  readonly root: string
  /**
   * One line for each request that has ended: method, path, Range, Authorization, status, bytes of the body. nginx writes it
   * after the answer, so this waits until there are so many.
   */
  requests(atLeast?: number): Promise<readonly string[]>
  /** By SIGKILL: in the middle of what it does. */
  kill(): Promise<void>
  /** Again, at the same port. @param directives of the `server` block, instead of those before */
  start(directives?: string): Promise<void>
}

/** Why there is none; false where there is. */
export function nginxMissing(): string | false {
  return spawnSync(NGINX, ['-v']).error === undefined ? false : 'nginx (Debian: nginx-light) is not installed'
}

/** @param directives of nginx, in its `server` block */
export async function startNginx(t: TestContext, directives = ''): Promise<NginxServer> {
  for (let tries = 1; ; tries++) {
    const directory = mkdtempSync(join(tmpdir(), 'koinon-nginx-'))
    const port = await freePort()
    const nginx = new Nginx(directory, port)
    t.after(async () => {
      await nginx.kill()
      rmSync(directory, { recursive: true, force: true })
    })
    if (await nginx.tryToStart(directives)) return nginx
    if (tries === TRIES_MAX) throw new Error('nginx gets no port')
  }
}

class Nginx implements NginxServer {
  readonly url: string
  readonly root: string
  readonly #directory: string
  readonly #port: number
  #directives = ''
  #process: { readonly end: () => Promise<void> } | undefined

  constructor(directory: string, port: number) {
    this.#directory = directory
    this.#port = port
    this.url = `http://127.0.0.1:${port}/`
    this.root = join(directory, 'root')
    mkdirSync(this.root)
  }

  requests(atLeast = 0): Promise<readonly string[]> {
    const log = join(this.#directory, 'access.log')
    const read = async (): Promise<readonly string[] | undefined> => {
      const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean) : []
      return lines.length >= atLeast ? lines : undefined
    }
    return until(read, { what: `${atLeast} requests in the log of nginx`, timeoutMs: 10_000 })
  }

  async kill(): Promise<void> {
    await this.#process?.end()
    this.#process = undefined
  }

  async start(directives = this.#directives): Promise<void> {
    if (!(await this.tryToStart(directives))) throw new Error('nginx does not start again')
  }

  async tryToStart(directives: string): Promise<boolean> {
    this.#directives = directives
    const config = join(this.#directory, 'nginx.conf')
    writeFileSync(config, configuration(this.#directory, this.#port, directives))
    const child = spawn(NGINX, ['-p', this.#directory, '-e', 'stderr', '-c', config], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const exited = once(child, 'exit')
    const isUp = Promise.withResolvers<boolean>()
    void exited.then(() => isUp.resolve(false)) // Resolved already where it was up.
    // The last that it says before it waits for connections.
    createInterface({ input: child.stderr }).on('line', line => {
      if (/getrlimit/.test(line)) isUp.resolve(true)
    })
    this.#process = {
      end: async () => {
        child.kill('SIGKILL')
        await exited
      },
    }
    return isUp.promise
  }
}

function configuration(directory: string, port: number, directives: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    what => `${what}_temp_path ${directory}/${what};`,
  )
  return `
daemon off;
master_process off;
pid ${directory}/nginx.pid;
error_log stderr notice;
events { worker_connections 64; }
http {
  ${temporary.join('\n  ')}
  log_format plain '$request_method $uri "$http_range" "$http_authorization" $status $body_bytes_sent';
  access_log ${directory}/access.log plain;
  server {
    listen 127.0.0.1:${port};
    root ${directory}/root;
    ${directives}
  }
}
`
}
