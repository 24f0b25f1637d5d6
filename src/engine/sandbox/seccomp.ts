/**
 * The filter that the kernel runs before every system call of an engine child (seccomp-BPF, `seccomp(2)`): calls that a
 * computation never needs fail with EPERM, whatever their arguments, for all threads and for good.
 *
 * It names what is refused, not what is allowed: Node, ggml and the drivers of graphics cards need too many calls that
 * differ from one C library and driver to the next. Calls newer than those known here do not exist for the child.
 */
import { call, ENOSYS } from './kernel.ts'
import { auditArchitecture, numberOf, type SystemCall } from './numbers.ts'

const EPERM = 1

/** The highest number that existed when the list below was made (`mseal`, Linux 6.10). */
const NEWEST_CALL = 462
/** On x86-64 the same calls again for 32-bit pointers. */
const X32_CALLS = 0x4000_0000

function wordsOf(text: string): readonly SystemCall[] {
  return text.split(' ') as SystemCall[]
}

/** New sockets of any family, and what could be done with one. The child has two, which its node made. */
const NETWORK = wordsOf('socket socketpair connect bind listen accept accept4')

const PROCESSES = wordsOf(
  'fork vfork execveat tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal pidfd_open pidfd_getfd ' +
    'ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp setpriority ' +
    'migrate_pages move_pages setuid setgid setgroups setsid setpgid personality capset',
)

/** What changes files by name. Landlock stops some of it; owners, modes, times and attributes are its blind spot. */
const FILES = wordsOf(
  'creat rename mkdir rmdir link unlink symlink chmod chown lchown utime mknod utimes futimesat truncate ' +
    'mkdirat mknodat fchownat fchown fchmod fchmodat fchmodat2 unlinkat renameat renameat2 linkat symlinkat ' +
    'utimensat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr name_to_handle_at ' +
    'open_by_handle_at',
)

/** Large or privileged parts of the kernel in which most of its weaknesses were found. */
const KERNEL = wordsOf(
  'mount umount2 pivot_root chroot mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick setns ' +
    'unshare bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register add_key ' +
    'request_key keyctl init_module finit_module delete_module kexec_load kexec_file_load reboot swapon ' +
    'swapoff acct quotactl syslog settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname ' +
    'iopl ioperm fanotify_init',
)

/** Memory and messages that are shared with other programs of the same user. */
const SHARED = wordsOf('shmget shmat shmctl semget semctl msgget msgctl mq_open mq_unlink')

const REFUSED = [...NETWORK, ...PROCESSES, ...FILES, ...KERNEL, ...SHARED]

/** These say by arguments in memory, which a filter cannot read, what others say in numbers: programs fall back to those. */
const ABSENT: readonly SystemCall[] = ['clone3', 'openat2']

/** A call that is judged by one of its numbers. */
type Rule = {
  readonly call: SystemCall
  readonly argument: number
  readonly values: readonly number[]
  /** Whether one of the values is what is allowed, or what is refused, or bits that must, or must not, be set. */
  readonly means: 'allowed' | 'refused' | 'bits-needed' | 'bits-refused'
}

export type FilterOptions = {
  /** The only process that signals may go to and whose limits may be set. */
  readonly pid: number
  /** Whether files may be opened for writing: the other rules say which. */
  readonly mayWrite: boolean
}

const CLONE_THREAD = 0x10000
/** O_WRONLY, O_RDWR, O_CREAT, O_TRUNC: the same bits on both processors. */
const WRITING = 0o1 | 0o2 | 0o100 | 0o1000
const [F_SETOWN, F_SETSIG, F_SETOWN_EX] = [8, 10, 15]
const [TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP] = [0x5412, 0x541c, 0x8901, 0x8902]

function rulesFor({ pid, mayWrite }: FilterOptions): readonly Rule[] {
  const opening: readonly Rule[] = [
    { call: 'open', argument: 1, values: [WRITING], means: 'bits-refused' },
    { call: 'openat', argument: 2, values: [WRITING], means: 'bits-refused' },
  ]
  return [
    { call: 'clone', argument: 0, values: [CLONE_THREAD], means: 'bits-needed' },
    { call: 'kill', argument: 0, values: [pid], means: 'allowed' },
    { call: 'tgkill', argument: 0, values: [pid], means: 'allowed' },
    { call: 'prlimit64', argument: 0, values: [0, pid], means: 'allowed' },
    // Somebody else could be made to get a signal when bytes come in.
    { call: 'fcntl', argument: 1, values: [F_SETOWN, F_SETSIG, F_SETOWN_EX], means: 'refused' },
    { call: 'ioctl', argument: 1, values: [TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP], means: 'refused' },
    ...(mayWrite ? [] : opening),
  ]
}

/** `linux/filter.h`: what an instruction is made of. */
const [LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_BITS, RETURN] = [0x20, 0x15, 0x35, 0x45, 0x06]
const [RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS] = [0x7fff0000, 0x00050000, 0x80000000]
/** `struct seccomp_data`: number, architecture, instruction pointer, six arguments of 64 bits, the low half first. */
const [AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS] = [0, 4, 16]

type Instruction = readonly [code: number, value: number, ifTrue?: number, ifFalse?: number]

/** The filter of an engine child, as the kernel reads it; undefined for a processor whose calls are not known here. */
export function filterOf(options: FilterOptions, arch: string = process.arch): Uint8Array | undefined {
  const audit = auditArchitecture(arch)
  if (audit === undefined) return undefined
  const isKnown = (name: SystemCall): boolean => numberOf(name, arch) !== undefined
  return assemble([
    ...head(audit),
    ...REFUSED.filter(isKnown).flatMap(name => refuse(numberOf(name, arch), EPERM)),
    ...ABSENT.flatMap(name => refuse(numberOf(name, arch), ENOSYS)),
    ...rulesFor(options)
      .filter(rule => isKnown(rule.call))
      .flatMap(rule => judge(rule, numberOf(rule.call, arch))),
    [RETURN, RET_ALLOW],
  ])
}

/** The filter that comes on top once the child's program runs: no other may take its place. */
export function sealOf(arch: string = process.arch): Uint8Array | undefined {
  const audit = auditArchitecture(arch)
  if (audit === undefined) return undefined
  return assemble([...head(audit), ...refuse(numberOf('execve', arch), EPERM), [RETURN, RET_ALLOW]])
}

function head(audit: number): readonly Instruction[] {
  return [
    [LOAD, AT_ARCHITECTURE],
    [JUMP_EQUAL, audit, 1, 0],
    [RETURN, RET_KILL_PROCESS],
    [LOAD, AT_NUMBER],
    [JUMP_AT_LEAST, X32_CALLS, 1, 0],
    [JUMP_AT_LEAST, NEWEST_CALL + 1, 0, 1],
    [RETURN, RET_ERRNO | ENOSYS],
  ]
}

function refuse(number: number | undefined, errno: number): readonly Instruction[] {
  if (number === undefined) return []
  return [
    [JUMP_EQUAL, number, 0, 1],
    [RETURN, RET_ERRNO | errno],
  ]
}

function judge({ argument, values, means }: Rule, number: number | undefined): readonly Instruction[] {
  if (number === undefined) return []
  const isBits = means === 'bits-needed' || means === 'bits-refused'
  const [onHit, onMiss] =
    means === 'allowed' || means === 'bits-needed' ? [RET_ALLOW, RET_ERRNO | EPERM] : [RET_ERRNO | EPERM, RET_ALLOW]
  const tests = values.flatMap((value): readonly Instruction[] => [
    [isBits ? JUMP_BITS : JUMP_EQUAL, value, 0, 1],
    [RETURN, onHit],
  ])
  const body: readonly Instruction[] = [[LOAD, AT_ARGUMENTS + 8 * argument], ...tests, [RETURN, onMiss]]
  return [[JUMP_EQUAL, number, 0, body.length], ...body]
}

function assemble(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * 8)
  const view = new DataView(bytes.buffer)
  for (const [i, [code, value, ifTrue = 0, ifFalse = 0]] of program.entries()) {
    view.setUint16(8 * i, code, true)
    view.setUint8(8 * i + 2, ifTrue)
    view.setUint8(8 * i + 3, ifFalse)
    view.setUint32(8 * i + 4, value >>> 0, true)
  }
  return bytes
}

const SET_MODE_FILTER = 1
/** TSYNC: for all threads of the process, or for none. SPEC_ALLOW: what older kernels do besides costs a tenth of the speed. */
const [FLAG_TSYNC, FLAG_SPEC_ALLOW] = [1, 4]

/** Puts a filter into force for every thread. @returns whether that holds */
export function install(filter: Uint8Array, addressOf: (bytes: Uint8Array) => bigint): boolean {
  const program = new Uint8Array(16)
  const view = new DataView(program.buffer)
  view.setUint16(0, filter.byteLength / 8, true)
  view.setBigUint64(8, addressOf(filter), true)
  return call('seccomp', SET_MODE_FILTER, FLAG_TSYNC | FLAG_SPEC_ALLOW, program) === 0
}
