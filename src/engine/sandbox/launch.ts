/**
 * The launcher of an engine child on Linux: `launch.ts REQUEST PROGRAM ARGUMENTS…`. It takes rights away from itself
 * and then turns into the child (`execve`), so that the restrictions hold for the child's every thread from its first
 * instruction. What a process does to itself while it runs holds, for files, only for the thread that does it.
 *
 * Each layer that the kernel does not have is left out and named in the facts, which the child gets as its last argument.
 */
import { messageOf } from '#base'
import { CHILD_FILES_MAX, CHILD_GPU_FILES_MAX } from '../limits.ts'
import { compileOnce } from './compile-once.ts'
import type { SandboxFacts } from './facts.ts'
import { addressOf, dropCapabilities, execute, keepThroughExec, limit, renounceNewPrivileges } from './kernel.ts'
import { landlockVersion, restrict } from './landlock.ts'
import { gpuDevices, rulesFor, type SandboxRequest } from './policy.ts'
import { filterOf, install } from './seccomp.ts'

/** Standard streams, the command pipe and the lifeline. */
const DESCRIPTORS = [0, 1, 2, 3, 4]

async function main([text = '{}', program = '', ...rest]: readonly string[]): Promise<void> {
  const request = JSON.parse(text) as SandboxRequest
  await compileOnce(request.role)
  const facts = confine(request)
  // Where nothing else keeps the child from writing there, its attempt to keep compiled code would end it.
  if (!facts.files) delete process.env['NODE_COMPILE_CACHE']
  for (const fd of DESCRIPTORS) keepThroughExec(fd)
  const error = execute(program, [program, ...rest, JSON.stringify(facts)], process.env)
  process.stderr.write(`Error: the engine's program could not be started in its sandbox (error ${error})\n`)
  process.exitCode = 1
}

function confine(request: SandboxRequest): SandboxFacts {
  const missing: string[] = []
  const gpus = gpuDevices(request)
  const rules = rulesFor(request, gpus)
  const mayWrite = request.writes.length > 0 || gpus.length > 0
  setLimits(mayWrite, gpus.length > 0)
  if (!dropCapabilities()) missing.push('rights of the super-user could not be given up')
  if (!renounceNewPrivileges()) missing.push('new privileges could not be renounced')
  const landlock = restrictFiles(rules, missing)
  const filter = filterOf({ pid: process.pid, mayWrite })
  const hasFilter = filter !== undefined && install(filter, addressOf)
  if (!hasFilter)
    missing.push('network and other processes are within reach: the kernel takes no filter of calls (seccomp)')
  return {
    network: hasFilter,
    files: landlock > 0,
    processes: hasFilter,
    reads: request.reads.length,
    writes: request.writes.length,
    gpu: gpus.length > 0,
    landlock,
    missing,
  }
}

function restrictFiles(rules: Parameters<typeof restrict>[0], missing: string[]): number {
  try {
    const { version } = restrict(rules, landlockVersion())
    if (version === 0) missing.push('every file of the user can be read: the kernel has no Landlock, or it is off')
    return version
  } catch (error) {
    missing.push(`every file of the user can be read: ${messageOf(error)}`)
    return 0
  }
}

function setLimits(mayWrite: boolean, hasGpu: boolean): void {
  limit('core', 0)
  // Drivers of graphics cards share memory by files of their own, and map far more than they use.
  if (!mayWrite) limit('fileSize', 0)
  if (!hasGpu) limit('data', process.availableMemory())
  limit('files', hasGpu ? CHILD_GPU_FILES_MAX : CHILD_FILES_MAX)
}

await main(process.argv.slice(2))
