/**
 * Commands that the owner adds (`koinon up --plugin FILE`). A plug-in is a JavaScript or TypeScript module that needs to
 * import nothing of ours, because it is given zod:
 *
 *     export const commands = z => [{ type: 64, name: 'ECHO', request: z.object({ text: z.string() }), … }]
 *
 * It runs in this process with all that the process may do: the owner vouches for it.
 */
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { z } from 'zod'
import { type Clock, messageOf, withDeadline } from '#base'
import { type Command, type CommandRegistry, ProtocolError } from '#protocol'
import { PLUGIN_LOAD_MS_MAX } from './limits.ts'

/**
 * Loads the files in order and registers their commands: all of them, or none where one file is refused.
 *
 * @returns what was registered
 * @throws ProtocolError `PROTOCOL_PLUGIN_INVALID` with the file and what is wrong with it
 */
export async function loadPlugins(
  deps: { readonly clock: Clock; readonly registry: CommandRegistry },
  paths: readonly string[],
): Promise<readonly Command[]> {
  const registered: Command[] = []
  for (const path of paths) {
    try {
      const options = { what: 'loading the plug-in', timeoutMs: PLUGIN_LOAD_MS_MAX }
      for (const command of await withDeadline(deps.clock, options, () => commandsOf(path))) {
        deps.registry.register(command, { isPlugin: true })
        registered.push(command)
      }
    } catch (error) {
      for (const { name } of registered) deps.registry.unregister(name)
      const fault = { code: 'PROTOCOL_PLUGIN_INVALID', file: path } as const
      throw new ProtocolError(fault, `the plug-in ${path} cannot be used: ${messageOf(error)}`, { cause: error })
    }
  }
  return registered
}

async function commandsOf(path: string): Promise<readonly Command[]> {
  const module = (await import(pathToFileURL(resolve(path)).href)) as Readonly<Record<string, unknown>>
  const make = module['commands']
  if (typeof make !== 'function') throw new TypeError('it must export a function `commands`, which is given zod')
  const commands: unknown = await make(z)
  if (!Array.isArray(commands)) throw new TypeError('`commands` must return an array of commands')
  if (commands.some(command => typeof command !== 'object' || command === null)) {
    throw new TypeError('a command must be an object')
  }
  return commands as readonly Command[]
}
