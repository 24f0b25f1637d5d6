/**
 * Compiled code of the child's program, kept where Node keeps it for this program anyway. The child may write nothing, so the
 * launcher makes it, once for each state of the program: stripping types and compiling takes longer than all else of a start.
 */
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { flushCompileCache, getCompileCacheDir } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { messageOf } from '#base'
import type { ChildRole } from '../child/protocol.ts'

const ENTRY = fileURLToPath(new URL('../child/main.ts', import.meta.url))

/** The program of each role, as `child/main.ts` loads it. */
const PROGRAMS: Readonly<Record<ChildRole, () => Promise<unknown>>> = {
  stage: () => import('../child/stage-role.ts'),
  edge: () => import('../child/edge-role.ts'),
  reference: () => import('../child/reference-role.ts'),
  tool: () => import('../child/tool-role.ts'),
  probe: () => import('../child/probe-role.ts'),
}

/** Does nothing where there is no such folder, or all is there already. What goes wrong costs time only. */
export async function compileOnce(role: ChildRole): Promise<void> {
  const folder = getCompileCacheDir()
  if (folder === undefined) return
  try {
    const mark = join(folder, `koinon-${role}-${Math.trunc(statSync(ENTRY).mtimeMs)}`)
    if (existsSync(mark)) return
    await Promise.all([PROGRAMS[role](), import('../child/channel.ts'), import('./confinement.ts')])
    flushCompileCache()
    writeFileSync(mark, '')
  } catch (error) {
    process.stderr.write(`compiled code is not kept: ${messageOf(error)}\n`)
  }
}
