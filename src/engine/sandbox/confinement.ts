/** The sandbox as the child itself sees it: the last door is closed here, and the limit of memory set once it is known. */
import { readFileSync } from 'node:fs'
import { CHILD_HEAP_BYTES_MAX, CHILD_MARGIN_BYTES } from '../limits.ts'
import { describeSandbox, noSandbox, type SandboxFacts } from './facts.ts'

export interface Confinement {
  readonly facts: SandboxFacts
  /** Bytes that the process may write to; undefined: as many as there are. */
  readonly memoryBytes: number | undefined
  /** Sets the limit of memory: what is used now, these bytes, JavaScript's heap and a margin. Holds for good. */
  reserve(bytes: number): void
  /** In words. */
  describe(threads: number): string
}

/** @param text what the launcher said; undefined where there is none on this platform */
export async function takeOver(text: string | undefined): Promise<Confinement> {
  if (text === undefined) return confinementOf(noSandbox(process.platform), undefined)
  const facts = JSON.parse(text) as SandboxFacts
  // Loaded here only: elsewhere than on Linux there is nothing to call.
  const { addressOf, lowerLimit } = await import('./kernel.ts')
  if (facts.processes) {
    const { install, sealOf } = await import('./seccomp.ts')
    const seal = sealOf()
    // The launcher could, so this must work; a child that can still start programs is not what was promised.
    if (seal === undefined || !install(seal, addressOf)) throw new Error('the sandbox could not be closed')
  }
  return confinementOf(facts, facts.gpu ? undefined : lowerLimit)
}

type LowerLimit = (resource: 'data', value: number) => number

function confinementOf(facts: SandboxFacts, lowerLimit: LowerLimit | undefined): Confinement {
  let memoryBytes: number | undefined
  return {
    facts,
    get memoryBytes() {
      return memoryBytes
    },
    reserve: bytes => {
      memoryBytes = lowerLimit?.('data', dataBytes() + bytes + CHILD_HEAP_BYTES_MAX + CHILD_MARGIN_BYTES)
    },
    describe: threads => describeSandbox(facts, { threads, memoryBytes }),
  }
}

/** Private memory that this process may write to now, which is what the limit counts. */
function dataBytes(): number {
  const status = readFileSync('/proc/self/status', 'utf8')
  return Number(/^VmData:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
}
