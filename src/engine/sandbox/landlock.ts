/**
 * Landlock (`landlock(7)`, Linux 5.13 and newer): which files a process may open, without privileges. What is not named
 * here cannot be opened, by no thread of the program that takes this one's place.
 */
import { call } from './kernel.ts'

/** Rights on files, `linux/landlock.h`. */
const EXECUTE = 1 << 0
const WRITE_FILE = 1 << 1
const READ_FILE = 1 << 2
const READ_DIR = 1 << 3
const TRUNCATE = 1 << 14
const IOCTL_DEV = 1 << 15

/** What a file can be the object of; the others concern directories. */
const OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

export type Rule = {
  /** A file, or a directory with all below it. Links are followed. */
  readonly path: string
  readonly may: 'read' | 'execute' | 'write' | 'device'
}

const RIGHTS: Readonly<Record<Rule['may'], number>> = {
  read: READ_FILE | READ_DIR,
  execute: READ_FILE | EXECUTE,
  write: READ_FILE | WRITE_FILE | TRUNCATE,
  device: READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV,
}

const VERSION_FLAG = 1
const PATH_BENEATH = 1
const AT_CWD = -100
const O_PATH_CLOEXEC = 0o10000000 | 0o2000000

/** What each version of the interface knows beyond the one before. */
export type LandlockFacts = {
  /** 0: the kernel has none, or it is off. */
  readonly version: number
  /** Connections by TCP are refused here too (version 4). */
  readonly network: boolean
  /** Sockets without a file, and signals, reach nobody outside (version 6). */
  readonly scoped: boolean
}

export function landlockVersion(): number {
  return Math.max(0, call('landlock_create_ruleset', 0, 0, VERSION_FLAG))
}

/** Restricts this thread, and the program that it turns into. @throws Error where the kernel has Landlock and refuses */
export function restrict(rules: readonly Rule[], version: number): LandlockFacts {
  const facts: LandlockFacts = { version, network: version >= 4, scoped: version >= 6 }
  if (version === 0) return facts
  const handled = handledBy(version)
  const words = new BigUint64Array([BigInt(handled), facts.network ? 3n : 0n, facts.scoped ? 3n : 0n])
  const attributes = new Uint8Array(words.buffer, 0, version >= 6 ? 24 : version >= 4 ? 16 : 8)
  const ruleset = check('rules', call('landlock_create_ruleset', attributes, attributes.byteLength, 0))
  for (const rule of rules) allow(ruleset, rule, handled)
  check('restriction', call('landlock_restrict_self', ruleset, 0))
  return facts
}

function handledBy(version: number): number {
  const bits = version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13
  return 2 ** bits - 1
}

function allow(ruleset: number, { path, may }: Rule, handled: number): void {
  const name = new TextEncoder().encode(`${path}\0`)
  const fd = call('openat', AT_CWD, name, O_PATH_CLOEXEC, 0)
  // What is not there cannot be opened either way; the child says so better.
  if (fd < 0) return
  const rule = new Uint8Array(12)
  const view = new DataView(rule.buffer)
  view.setInt32(8, fd, true)
  const add = (rights: number): number => {
    view.setBigUint64(0, BigInt(rights & handled), true)
    return call('landlock_add_rule', ruleset, PATH_BENEATH, rule, 0)
  }
  // A file has fewer rights than a directory, and the kernel refuses to give it more (EINVAL).
  if (add(RIGHTS[may]) !== 0) check(path, add(RIGHTS[may] & OF_FILES))
}

function check(what: string, result: number): number {
  if (result < 0) throw new Error(`Landlock refused ${what} (error ${-result})`)
  return result
}
