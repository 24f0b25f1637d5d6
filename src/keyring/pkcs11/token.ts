/** Finds a token by its label and opens a session with it. */
import { KeyringError } from '../errors.ts'
import type { Pkcs11Source } from '../key-source.ts'
import { TOKEN_SLOTS_MAX } from '../limits.ts'
import { CKF, CKR, CKU, nameOfResult } from './constants.ts'
import { readUlong, stableCopy, Ulongs } from './memory.ts'
import { type Pkcs11Module, ResultError } from './module.ts'

/** CK_TOKEN_INFO is about 210 bytes; these fields are where they are on every platform. */
const TOKEN_INFO_BYTES = 512
const LABEL_END = 32
const SERIAL_START = 80
const SERIAL_END = 96

type TokenInfo = { readonly slot: number; readonly label: string; readonly serial: string; readonly flags: number }

export type TokenSession = {
  readonly handle: number
  /** Logs in for one signature, with a key that wants that each time (CKA_ALWAYS_AUTHENTICATE). */
  readonly confirm: () => Promise<void>
}

/** Only from within `exclusive`. @throws KeyringError, ResultError */
export async function openSession(
  module: Pkcs11Module,
  source: Pkcs11Source,
  options: { readonly isWriting: boolean },
): Promise<TokenSession> {
  const token = await findToken(module, source)
  const session = new Ulongs(1)
  const flags = CKF.serialSession | (options.isWriting ? CKF.rwSession : 0)
  await module.call('C_OpenSession', token.slot, flags, null, null, session.bytes)
  const handle = session.at(0)
  try {
    if ((token.flags & CKF.loginRequired) !== 0) await login(module, { handle, user: CKU.user, token }, source.pin)
  } catch (error) {
    await module.tryCall('C_CloseSession', handle)
    throw error
  }
  return { handle, confirm: () => login(module, { handle, user: CKU.contextSpecific, token }, source.pin) }
}

type LoginParts = { readonly handle: number; readonly user: number; readonly token: TokenInfo }

async function login(module: Pkcs11Module, parts: LoginParts, pin: string | undefined): Promise<void> {
  const { handle, user, token } = parts
  const hasPinPad = (token.flags & CKF.protectedAuthenticationPath) !== 0
  if (pin === undefined && !hasPinPad) {
    throw new KeyringError({ code: 'KEYRING_PIN_NEEDED' }, `the token "${token.label}" asks for its PIN`)
  }
  const text = pin === undefined ? undefined : new TextEncoder().encode(pin)
  const bytes = text === undefined ? null : stableCopy(text)
  const result = await module.tryCall('C_Login', handle, user, bytes, text?.byteLength ?? 0)
  text?.fill(0)
  bytes?.fill(0)
  const name = nameOfResult(result)
  if (result === CKR.ok || result === CKR.alreadyLoggedIn) return
  if (result === CKR.pinLocked) {
    const sentence = `the token "${token.label}" is locked: too many wrong PINs came before`
    throw new KeyringError({ code: 'KEYRING_PIN_LOCKED' }, sentence)
  }
  if (!name.startsWith('CKR_PIN_')) throw new ResultError('C_Login', result)
  throw new KeyringError(
    { code: 'KEYRING_PIN_WRONG' },
    `the token "${token.label}" does not take this PIN (${name}); after some wrong ones it locks itself`,
  )
}

async function findToken(module: Pkcs11Module, source: Pkcs11Source): Promise<TokenInfo> {
  const tokens = await readTokens(module)
  const matches = tokens.filter(
    ({ label, serial }) => label === source.token && (source.serial === undefined || serial === source.serial),
  )
  const [token] = matches
  if (token !== undefined && matches.length === 1) return token
  const found = matches.length
  const sentence =
    found > 1
      ? `${found} tokens have the label "${source.token}": name one by its serial too (${matches.map(t => t.serial).join(', ')})`
      : `no token has the label "${source.token}"${labelsText(tokens)}`
  throw new KeyringError({ code: 'KEYRING_TOKEN_UNKNOWN', found }, sentence)
}

function labelsText(tokens: readonly TokenInfo[]): string {
  if (tokens.length === 0) return ': the module knows none. Is it plugged in and set up?'
  return `; there is ${tokens.map(token => `"${token.label}"`).join(', ')}`
}

async function readTokens(module: Pkcs11Module): Promise<TokenInfo[]> {
  const count = new Ulongs(1, TOKEN_SLOTS_MAX)
  const slots = new Ulongs(TOKEN_SLOTS_MAX)
  await module.call('C_GetSlotList', 1, slots.bytes, count.bytes)
  const tokens: TokenInfo[] = []
  for (let index = 0; index < count.at(0); index++) {
    const slot = slots.at(index)
    const bytes = new Uint8Array(new ArrayBuffer(TOKEN_INFO_BYTES))
    // A token that was pulled out since, or does not answer, is not the one that is looked for.
    if ((await module.tryCall('C_GetTokenInfo', slot, bytes)) !== CKR.ok) continue
    const flags = readUlong(new DataView(bytes.buffer), SERIAL_END)
    if ((flags & CKF.tokenInitialized) === 0) continue
    const textOf = (start: number, end: number): string =>
      new TextDecoder().decode(bytes.subarray(start, end)).trimEnd()
    tokens.push({ slot, label: textOf(0, LABEL_END), serial: textOf(SERIAL_START, SERIAL_END), flags })
  }
  return tokens
}
