/**
 * How rsync and ssh are called: rsync with an array of arguments and no shell, ssh with a configuration of its own in a
 * private folder and nothing of the user's. Every value that the owner gave stands in that file, quoted, or behind `--`.
 */
import { isIP } from 'node:net'
import { posix } from 'node:path'
import { SwarmError } from '../errors.ts'
import { RSYNC_CONNECT_S_MAX, RSYNC_STALL_S_MAX } from '../limits.ts'

/** A machine that files are fetched from by rsync over ssh. */
export type RsyncMachine = {
  /** Host name or IP address. */
  readonly host: string
  readonly user: string
  /** @default 22 */
  readonly port?: number
  /** Private key without a passphrase. Absolute. */
  readonly identityFile: string
  /** The only file whose keys of hosts count. Absolute. */
  readonly knownHostsFile: string
}

/** What ssh goes by instead of the host: the host's name never stands among the arguments. */
const ALIAS = 'origin'

/** The name of the configuration in the private folder, which is the working directory. */
export const SSH_CONFIG = 'ssh_config'

/** The name of the staging file there. */
export const STAGED = 'staged'

const HOST = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/i
const USER = /^[a-z0-9_][a-z0-9_.-]{0,63}$/i

/** Control characters, and what ssh would expand or end a quoted word at. */
const ODD_IN_SSH = /[\p{Cc}"\\%$]/u

/** Control characters, and what rsync takes for a pattern of names, over there too. */
const ODD_IN_RSYNC = /[\p{Cc}*?[\]\\]/u

/** @throws SwarmError SWARM_ORIGIN_CONFIG */
export function assertMachine(machine: RsyncMachine): void {
  const { host, user, port = 22, identityFile, knownHostsFile } = machine
  if (!HOST.test(host) && isIP(host) === 0) throw odd('host', 'is no host name and no IP address')
  if (!USER.test(user)) throw odd('user', 'is no name of a user')
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw odd('port', 'is none')
  for (const [what, path] of Object.entries({ identityFile, knownHostsFile })) {
    if (!path.startsWith('/')) throw odd(what, 'is no absolute path')
    if (ODD_IN_SSH.test(path)) throw odd(what, 'holds a control character or one of " \\ % $')
  }
}

/** @throws SwarmError SWARM_ORIGIN_CONFIG */
export function assertRemotePath(path: string): void {
  if (!path.startsWith('/')) throw odd('path', 'is not absolute')
  if (posix.normalize(path) !== path) throw odd('path', 'is not in its plain form (no "..", no "//")')
  if (ODD_IN_RSYNC.test(path)) throw odd('path', 'holds a control character or one of * ? [ ] \\')
}

/** Nothing is asked, learned, forwarded or run on the way; a host that is not known is not connected to. */
export function sshConfig(machine: RsyncMachine): string {
  const lines = [
    `Host ${ALIAS}`,
    `HostName ${machine.host}`,
    `User ${machine.user}`,
    `Port ${machine.port ?? 22}`,
    `IdentityFile "${machine.identityFile}"`,
    `UserKnownHostsFile "${machine.knownHostsFile}"`,
    'GlobalKnownHostsFile none',
    'StrictHostKeyChecking yes',
    'UpdateHostKeys no',
    'BatchMode yes',
    'IdentitiesOnly yes',
    'IdentityAgent none',
    'PreferredAuthentications publickey',
    'ForwardAgent no',
    'ForwardX11 no',
    'ClearAllForwardings yes',
    'PermitLocalCommand no',
    'ProxyCommand none',
    'ControlMaster no',
    'ControlPath none',
    'CanonicalizeHostname no',
    'RequestTTY no',
    'Compression no',
    `ConnectTimeout ${RSYNC_CONNECT_S_MAX}`,
    'ConnectionAttempts 1',
    'ServerAliveInterval 5',
    'ServerAliveCountMax 3',
    'LogLevel ERROR',
  ]
  return `${lines.join('\n')}\n`
}

/**
 * The arguments of rsync that fetch what of a file lies behind the end of the staging file (`--append`: the bytes before are
 * neither read nor compared, here or there). First it tells the file's length and date on a line of its own.
 */
export function rsyncArguments(
  remotePath: string,
  options: { readonly bytesPerSecond?: number | undefined },
): string[] {
  const { bytesPerSecond } = options
  return [
    '--append',
    '--partial',
    '--copy-links',
    '--protect-args',
    '--no-human-readable',
    '--out-format=%l %M',
    // Nobody needs what it says of its progress, but a node that was killed leaves nobody to say it to, and that ends rsync:
    // without a buffer, for it does not look whether emptying one succeeds.
    '--info=progress2',
    '--outbuf=N',
    `--timeout=${RSYNC_STALL_S_MAX}`,
    ...(bytesPerSecond === undefined ? [] : [`--bwlimit=${Math.max(1, Math.floor(bytesPerSecond / 1024))}`]),
    '--rsh',
    `ssh -F ${SSH_CONFIG}`,
    '--',
    `${ALIAS}:${remotePath}`,
    STAGED,
  ]
}

function odd(what: string, why: string): SwarmError {
  return new SwarmError({ code: 'SWARM_ORIGIN_CONFIG' }, `the ${what} of an rsync source ${why}`)
}
