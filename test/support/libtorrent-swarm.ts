/** libtorrent as a seeder or leecher in a process of its own (`test/peers/libtorrent-swarm.py`). */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const PYTHON = '/usr/bin/python3'
const SCRIPT = fileURLToPath(new URL('../peers/libtorrent-swarm.py', import.meta.url))

export type LibtorrentEvent = { readonly event: string; readonly [field: string]: unknown }

export class LibtorrentPeer {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  #errors = ''

  /** @param args as the script's own comment says */
  constructor(args: readonly string[]) {
    this.#child = spawn(PYTHON, [SCRIPT, ...args])
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.#errors = `${this.#errors}${chunk.toString()}`.slice(-100_000)
    })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  /** What libtorrent said of itself, with `--verbose`. */
  get log(): string {
    return this.#errors
  }

  /** The next event of this kind; others are passed over. @throws where it failed, or ended */
  async event(kind: string): Promise<LibtorrentEvent> {
    for (;;) {
      const { value, done } = await this.#lines.next()
      if (done === true) throw new Error(`libtorrent ended: ${this.#errors}`)
      const found = JSON.parse(value) as LibtorrentEvent
      if (found.event === 'failed') throw new Error(`libtorrent failed: ${String(found['why'])} ${this.#errors}`)
      if (found.event === kind) return found
    }
  }

  status(): Promise<LibtorrentEvent> {
    this.#child.stdin.write('status\n')
    return this.event('status')
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const ended = new Promise(resolve => this.#child.once('exit', resolve))
    this.#child.stdin.end()
    await ended
  }
}
