/** libtorrent's DHT node as a process of its own (`test/peers/libtorrent-dht.py`), where Debian's package is installed. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const PYTHON = '/usr/bin/python3'
const SCRIPT = fileURLToPath(new URL('../peers/libtorrent-dht.py', import.meta.url))

/** For a test's `skip`: false where it can run, else why it cannot. */
export const LIBTORRENT_SKIP: false | string =
  spawnSync(PYTHON, ['-c', 'import libtorrent']).status === 0
    ? false
    : 'libtorrent is not installed (Debian: apt-get install python3-libtorrent)'

export type LibtorrentDht = {
  readonly port: number
  /** Sends one command, and gives its answer. */
  ask(command: Readonly<Record<string, string | number>>): Promise<Readonly<Record<string, unknown>>>
  stop(): Promise<void>
}

export async function startLibtorrent(): Promise<LibtorrentDht> {
  const child: ChildProcessWithoutNullStreams = spawn(PYTHON, [SCRIPT])
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString()
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<Readonly<Record<string, unknown>>> => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error(`libtorrent ended: ${errors}`)
    const answer = JSON.parse(value) as Readonly<Record<string, unknown>>
    if (typeof answer['error'] === 'string') throw new Error(answer['error'])
    return answer
  }
  const { port } = await next()
  return {
    port: Number(port),
    ask: command => {
      child.stdin.write(`${JSON.stringify(command)}\n`)
      return next()
    },
    stop: async () => {
      const ended = new Promise(resolve => child.once('exit', resolve))
      child.stdin.end()
      await ended
    },
  }
}
