/** A token of SoftHSM2 in a directory of the test's own, where Debian's package (or another build) is installed. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const MODULES = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
  '/opt/homebrew/lib/softhsm/libsofthsm2.so',
]

/** Path of the PKCS#11 module. */
export const SOFTHSM_MODULE = MODULES.find(path => existsSync(path)) ?? ''

/** For a test's `skip`: false where SoftHSM2 is there, else why it is skipped. */
export const SOFTHSM_SKIP: false | string =
  SOFTHSM_MODULE === '' || spawnSync('softhsm2-util', ['--version']).status !== 0
    ? 'SoftHSM2 is not installed (Debian: apt-get install softhsm2)'
    : false

export const PIN = 'four words of pin'

export type SoftHsm = {
  readonly directory: string
  /** Path of a file with the PIN and a line end. */
  readonly pinFile: string
  /** Makes a token. @returns its label */
  readonly addToken: (label: string) => string
  /** For commands in processes of their own. */
  readonly env: Readonly<Record<string, string>>
}

/** Sets SOFTHSM2_CONF of this process, which the module reads when it is initialised: one for each test file. */
export function createSoftHsm(after: (action: () => void) => void): SoftHsm {
  const directory = mkdtempSync(join(tmpdir(), 'koinon-softhsm-'))
  after(() => rmSync(directory, { recursive: true, force: true }))
  const tokens = join(directory, 'tokens')
  mkdirSync(tokens)
  const conf = join(directory, 'softhsm2.conf')
  writeFileSync(conf, `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`)
  const pinFile = join(directory, 'pin')
  writeFileSync(pinFile, `${PIN}\n`, { mode: 0o600 })
  process.env['SOFTHSM2_CONF'] = conf
  const addToken = (label: string): string => {
    const args = ['--init-token', '--free', '--label', label, '--pin', PIN, '--so-pin', 'so-pin-of-the-test']
    const { status, stderr } = spawnSync('softhsm2-util', args, { encoding: 'utf8' })
    if (status !== 0) throw new Error(`softhsm2-util failed: ${stderr}`)
    return label
  }
  return { directory, pinFile, addToken, env: { SOFTHSM2_CONF: conf } }
}
