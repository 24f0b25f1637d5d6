/**
 * What is asked of the Linux kernel beyond what Node offers: system calls by number, through the C library. Used by the
 * launcher of an engine child and by the child itself, never by the node.
 */
import koffi from 'koffi'
import { numberOf, type SystemCall } from './numbers.ts'

export type Argument = number | Uint8Array | null

const libc = process.platform === 'linux' ? koffi.load(null) : undefined

const PR_SET_NO_NEW_PRIVS = 38
const F_SETFD = 2
/** `linux/capability.h` */
const CAPABILITY_VERSION_3 = 0x20080522
const CAP_DAC_READ_SEARCH = 1 << 2

/** The numbers of `setrlimit` (asm-generic; x86-64 and arm64 alike). */
const RESOURCES = { fileSize: 1, data: 2, core: 4, files: 7 } as const

/** Makes a call. @returns what it returned, or minus the error's number; -38 (ENOSYS) where there is no such call here */
export function call(name: SystemCall, ...values: readonly Argument[]): number {
  const number = numberOf(name)
  if (number === undefined) return -ENOSYS
  const prototype = Array.from({ length: 6 }, (_, i) => (values[i] instanceof Uint8Array ? 'void *' : 'long'))
  const syscall = functionOf(`long syscall(long, ${prototype.join(', ')})`)
  const result = Number(syscall(number, ...prototype.map((_, i) => values[i] ?? 0)))
  return result === -1 ? -koffi.errno() : result
}

export const ENOSYS = 38

/** Nothing that is started from here on has more rights than this process. @returns whether that holds */
export function renounceNewPrivileges(): boolean {
  return functionOf('int prctl(int, long, long, long, long)')(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) === 0
}

/** Keeps of the rights of a super-user only that of reading files, which Landlock's rules bound. @returns whether that holds */
export function dropCapabilities(): boolean {
  const header = new Uint32Array([CAPABILITY_VERSION_3, 0])
  const granted = new Uint32Array(6)
  const bytesOf = (words: Uint32Array): Uint8Array => new Uint8Array(words.buffer)
  if (call('capget', bytesOf(header), bytesOf(granted)) !== 0) return false
  // Effective, permitted and inheritable, for rights 0 to 31 and then for those above.
  const kept = (granted[1] ?? 0) & CAP_DAC_READ_SEARCH
  return call('capset', bytesOf(header), bytesOf(new Uint32Array([kept, kept, 0, 0, 0, 0]))) === 0
}

/** Where the bytes lie, for structures that hold pointers. Valid while the caller holds the bytes. */
export function addressOf(bytes: Uint8Array): bigint {
  return koffi.address(bytes)
}

/** Lets a descriptor through to the program that replaces this one. */
export function keepThroughExec(fd: number): void {
  functionOf('int fcntl(int, int, long)')(fd, F_SETFD, 0)
}

/** Sets a limit for good: neither may be raised again without rights that the child does not have. */
export function limit(resource: keyof typeof RESOURCES, value: number): boolean {
  const number = BigInt(Math.floor(value))
  const words = new BigUint64Array([number, number])
  return call('prlimit64', 0, RESOURCES[resource], new Uint8Array(words.buffer), 0) === 0
}

/** Lowers a limit, and never raises it. @returns what it is now */
export function lowerLimit(resource: keyof typeof RESOURCES, value: number): number {
  const lowest = Math.min(Math.floor(value), limitOf(resource))
  limit(resource, lowest)
  return lowest
}

/** The largest value that a limit may have here; infinity where there is none. */
function limitOf(resource: keyof typeof RESOURCES): number {
  const words = new BigUint64Array(2)
  const old = new Uint8Array(words.buffer)
  if (call('prlimit64', 0, RESOURCES[resource], 0, old) !== 0) return 0
  const hard = words[1] ?? 0n
  return hard === 0xffff_ffff_ffff_ffffn ? Number.POSITIVE_INFINITY : Number(hard)
}

/** Replaces this program. Returns only where that failed: the error's number. */
export function execute(path: string, argv: readonly string[], env: NodeJS.ProcessEnv): number {
  const run = functionOf('int execve(const char *, const char **, const char **)')
  const pairs = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  run(path, [...argv, null], [...pairs, null])
  return koffi.errno()
}

type Native = (...values: readonly unknown[]) => unknown

const functions = new Map<string, Native>()

function functionOf(prototype: string): Native {
  if (libc === undefined) throw new TypeError('only Linux has these calls')
  const known = functions.get(prototype)
  if (known !== undefined) return known
  const made = libc.func(prototype) as Native
  functions.set(prototype, made)
  return made
}
