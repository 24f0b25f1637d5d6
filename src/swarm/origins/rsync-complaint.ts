/** What rsync and ssh say when they fail, as an error of ours: they tell by sentences, in English where LC_ALL is C. */
import { SwarmError } from '../errors.ts'
import { PassingError } from './retries.ts'

export type Ending = {
  /** Exit status; null where a signal ended it. */
  readonly status: number | null
  /** What it wrote to standard error. */
  readonly complaint: string
}

/** Characters of a foreign sentence that are repeated. */
const QUOTE_CHARS_MAX = 200

/** Exit status of a shell, over there, that finds no such program. */
const NOT_A_PROGRAM = 127

/** Of rsync: wrong arguments, another protocol, something that it was built without. */
const UNFIT: ReadonlySet<number> = new Set([1, 2, 4])

/** @param name of the origin, for people */
export function complaintFault({ status, complaint }: Ending, name: string): SwarmError | PassingError {
  const has = (pattern: RegExp): boolean => pattern.test(complaint)
  if (has(/host key verification failed|identification has changed|host key is known|no matching host key/i)) {
    const text = `the machine of ${name} does not show a key that the known hosts file has for it: nothing was fetched`
    return new SwarmError({ code: 'SWARM_ORIGIN_HOST_KEY' }, text)
  }
  if (has(/permission denied \((?!\d)|too many authentication failures/i)) {
    const hint = has(/unprotected private key|bad permissions/i)
      ? ': others can read the identity file, run chmod 600'
      : ''
    const text = `the machine of ${name} does not accept the identity file for this user${hint}`
    return new SwarmError({ code: 'SWARM_ORIGIN_CREDENTIALS' }, text)
  }
  if (has(/no space left|disk quota exceeded/i)) {
    return new SwarmError({ code: 'SWARM_ORIGIN_SPACE' }, `the disk has no room for what comes from ${name}`)
  }
  if (has(/failed to exec ssh/i)) return programFault('ssh', 'is not installed')
  if (status === NOT_A_PROGRAM || has(/rsync: (?:command )?not found/i)) {
    return programFault('rsync', `is not installed on the machine of ${name}`)
  }
  if (status !== null && UNFIT.has(status)) {
    return programFault(
      'rsync',
      `does not do what it is asked to; versions from 3.1 on, here and there, do${quote(complaint)}`,
    )
  }
  if (has(/failed: permission denied \(13\)/i)) {
    return new SwarmError({ code: 'SWARM_ORIGIN_CREDENTIALS' }, `the user of ${name} may not read the file there`)
  }
  if (has(/failed: no such file or directory|skipping directory|skipping non-regular/i)) {
    return new SwarmError({ code: 'SWARM_ORIGIN_NOT_FOUND' }, `${name} has no such file`)
  }
  const end = status === null ? 'was ended' : `ended with status ${status}`
  return new PassingError(`rsync ${end}${quote(complaint)}`)
}

export function programFault(program: string, why: string): SwarmError {
  return new SwarmError({ code: 'SWARM_ORIGIN_PROGRAM', program }, `${program} ${why}`)
}

/** The first line, without what a terminal would take for a command. */
function quote(complaint: string): string {
  const line =
    complaint
      .replaceAll(/[^\P{C}\n]/gu, '')
      .trim()
      .split('\n')[0] ?? ''
  return line === '' ? '' : `: ${line.slice(0, QUOTE_CHARS_MAX)}`
}
