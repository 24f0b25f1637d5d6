/** A command line in front of a node's local socket: commands run as people type them, in a terminal or into a pipe. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import type { TestContext } from 'node:test'
import { startLocalApi } from '#api'
import { type Clock, seededRandom, silentLogger, systemClock } from '#base'
import { type CliDeps, runCli } from '#cli'
import type { KoinonNode } from '#node'
import { TextOutput } from '../../src/cli/terminal.ts'

export type CliBench = {
  readonly stdout: TextOutput
  readonly stderr: TextOutput
  /** Directory of the node: for files of a test, too. */
  readonly dataDir: string
  /** @returns the exit code */
  readonly run: (...args: string[]) => Promise<number>
  /** As Ctrl-C does. */
  readonly interrupt: () => void
  /** What a person types, line end and all. */
  readonly type: (text: string) => void
}

export type CliBenchOptions = {
  readonly isTty?: boolean
  readonly columns?: number
  /** The command line's; the node's is the system's. */
  readonly clock?: Clock
}

export async function createCliBench(
  t: TestContext,
  node: KoinonNode,
  { isTty = false, columns = 80, clock = systemClock }: CliBenchOptions = {},
): Promise<CliBench> {
  const dataDir = await mkdtemp(join(tmpdir(), 'koinon-cli-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  const socket = process.platform === 'win32' ? `\\\\.\\pipe\\${dataDir.replaceAll(/\W/g, '-')}` : join(dataDir, 's')
  const random = seededRandom(1)
  const api = await startLocalApi(
    { clock: systemClock, random, node, log: silentLogger },
    { socket, onStop: () => undefined },
  )
  t.after(() => api.stop())
  const [stdout, stderr] = [new TextOutput({ isTty, columns }), new TextOutput({ isTty, columns })]
  const listeners: ((signal: string) => void)[] = []
  const stdin = Object.assign(new PassThrough(), isTty ? { isTTY: true, setRawMode: () => undefined } : {})
  const deps: CliDeps = {
    clock,
    random,
    stdout,
    stderr,
    stdin,
    lineEditor: undefined,
    env: { NO_COLOR: '1' },
    pid: 7,
    version: '0',
    signals: {
      outputClosed: () => undefined,
      listen: listener => {
        listeners.push(listener)
        return () => void listeners.splice(listeners.indexOf(listener), 1)
      },
    },
    exit: () => undefined,
    createLog: () => silentLogger,
    defaultDataDir: () => dataDir,
    findSocket: async () => socket,
    builtInModel: '',
    serve: () => assert.fail('nothing is served here'),
    planFile: () => assert.fail('not planned here'),
    describeEngine: () => assert.fail('not described here'),
    proveSandbox: () => assert.fail('no engine is looked at'),
    surveyNetwork: () => assert.fail('not looked at here'),
  }
  return {
    stdout,
    stderr,
    dataDir,
    run: (...args) => runCli(deps, args),
    interrupt: () => listeners.at(-1)?.('SIGINT'),
    type: text => void stdin.write(text),
  }
}
