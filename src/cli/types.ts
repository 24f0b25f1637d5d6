/**
 * What the command line is given by the program around it (`src/main.ts`): the terminal, time, chance, signals, and
 * functions that start a node and look at the machine. Tests replace each of them.
 */
import type { Clock, Logger, LogLevel, Random } from '#base'
import type { EngineDescription, SandboxProof } from '#engine'
import type { FilePlanConfig, KoinonNode, NodeConfig, NodeProgress } from '#node'
import type { NetworkSurvey, StunName } from '#reach'
import type { PlanReport } from '#wire'
import type { ExitCode } from './exit-codes.ts'
import type { Output } from './terminal.ts'

/** A node in this process with its surfaces. */
export type Served = {
  readonly node: KoinonNode
  /** "http://127.0.0.1:11435"; undefined where no API was asked for. */
  readonly api?: string
  /** Resolves when somebody asks over the local socket for the node to stop. */
  readonly stopRequested: Promise<void>
  /** Stops the surfaces, then the node. Idempotent. */
  stop(): Promise<void>
}

type FilePlanOptions = { readonly onProgress: NodeProgress; readonly signal: AbortSignal }

export type ServeOptions = {
  /** Where the HTTP API listens; undefined: no API. */
  readonly api?: { readonly host: string; readonly port: number }
  /** Whether `koinon` commands may reach the node: false for a node that lives for one answer. */
  readonly hasLocalSocket: boolean
  readonly onProgress: NodeProgress
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Signals from outside, one listener at a time: the newest gets them. */
export interface Signals {
  /** @returns removes the listener, and gives the signals back to the one before */
  listen(listener: (signal: string) => void): () => void
  /** The reader of our output has gone away: as good as a signal that asks for the end. */
  outputClosed(): void
}

export type CliDeps = {
  readonly stdout: Output
  readonly stderr: Output
  readonly stdin: NodeJS.ReadableStream & {
    readonly isTTY?: boolean
    /** Of a terminal: whether keys come as they are typed, and nothing is shown of them. */
    setRawMode?(isRaw: boolean): unknown
  }
  /** Where a person edits lines: the terminal, where both standard input and output are one; else undefined. */
  readonly lineEditor: NodeJS.WritableStream | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly pid: number
  readonly version: string
  readonly clock: Clock
  readonly random: Random
  readonly signals: Signals
  /** Ends the process at once: for a second Ctrl-C, and for a node that does not stop in time. */
  readonly exit: (code: number) => void
  readonly createLog: (level: LogLevel, write: (line: string) => void) => Logger
  readonly defaultDataDir: () => string
  /** Path of the local socket of a node with this data directory. */
  readonly findSocket: (dataDir: string) => Promise<string>
  readonly builtInModel: string
  readonly serve: (config: NodeConfig, options: ServeOptions) => Promise<Served>
  /** Reads a model file's header and says what this machine alone could do with it. */
  readonly planFile: (config: FilePlanConfig, options: FilePlanOptions) => Promise<PlanReport>
  /** Looks at the network without a node, for seconds. */
  readonly surveyNetwork: (
    stun: readonly StunName[],
    options: { readonly signal: AbortSignal },
  ) => Promise<NetworkSurvey>
  /** @throws where no engine package fits this machine */
  readonly describeEngine: () => Promise<EngineDescription>
  /** Has an engine try to break out of its sandbox. @throws where it does not start */
  readonly proveSandbox: () => Promise<SandboxProof>
}

/** Lets a command end with another exit code than 0 without an error. */
export type SetExitCode = (code: ExitCode) => void
