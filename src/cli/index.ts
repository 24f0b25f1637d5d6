/** The command line: what people type and see. The node and its surfaces are given to it by `src/main.ts`. */
export { type ChatDeps, type ChatOptions, runChat } from './chat-loop.ts'
export type { EngineFacts } from './doctor-checks.ts'
export { createLocalClient, type LocalClient, type LocalClientOptions } from './local-client.ts'
export { runCli } from './program.ts'
export { createPaint, type Output, type Paint, wantsColour } from './terminal.ts'
export type { CliDeps, Served, ServeOptions, Signals } from './types.ts'
export type { ReadyEvent, UpEvent } from './up-printer.ts'
