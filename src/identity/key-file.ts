/**
 * The key file: text, so that it can be kept in a password manager. Version 2 comes in two forms, in the clear for a
 * node that must start with nobody there, and encrypted:
 *
 *   koinon-node-key 2                        koinon-node-key 2
 *   clear                                    argon2id m=65536 t=3 p=4
 *   <base64 of the secret>                   <base64 of the salt, 16 bytes>
 *                                            <base64 of the IV, 12 bytes>
 *                                            <base64 of ciphertext and tag>
 *   <checksum>                               <checksum>
 *
 * The secret is dag-cbor, `{ index, root }` or `{ seed }` (`node-secret.ts`). The key is Argon2id of the passphrase
 * (NFKC, UTF-8), the cipher AES-256-GCM, and the lines before the ciphertext are its associated data: nobody can make
 * a file cheaper to guess. The checksum is the first 8 bytes, in hexadecimal, of SHA-256 of all before it: it says
 * nothing that the file does not, and tells a damaged file from a wrong passphrase. Every line ends with "\n".
 *
 * Version 1 is read only: the same first line with a 1, then base64 of libp2p's protobuf form of the private key.
 */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { concatBytes, type Random, toHex } from '#base'
import {
  AEAD_IV_BYTES,
  AEAD_TAG_BYTES,
  Aead,
  type Argon2Cost,
  argon2id,
  decodeNodeKey,
  seedOfNodeKey,
  sha256,
} from '#crypto'
import { fromBase64, toBase64 } from './base64.ts'
import { IdentityError } from './errors.ts'
import {
  KDF_LANES_MAX,
  KDF_MEMORY_KIB_MAX,
  KDF_PASSES_MAX,
  KEY_INDEX_MAX,
  KEY_TEXT_CHARS_MAX,
  PASSPHRASE_CHARS_MAX,
  PASSPHRASE_CHARS_MIN,
} from './limits.ts'
import { type HeldIdentity, identityOfSecret } from './node-identity.ts'
import { type NodeSecret, SECRET_BYTES } from './node-secret.ts'

const HEADING = 'koinon-node-key'
const VERSION = '2'
const SALT_BYTES = 16
const CHECKSUM_BYTES = 8
/** RFC 9106's second recommendation: 64 MiB, three passes, four lanes. A tenth of a second on a small machine. */
const COST: Argon2Cost = { memoryKib: 64 * 1024, passes: 3, lanes: 4 }

/** What a key file's text is, with nothing secret looked at. */
type KeyFile =
  | { readonly kind: 'clear'; readonly secret: NodeSecret }
  | {
      readonly kind: 'encrypted'
      readonly cost: Argon2Cost
      readonly salt: Uint8Array
      readonly iv: Uint8Array
      readonly sealed: Uint8Array
      /** The lines before the ciphertext. */
      readonly associated: Uint8Array
    }

/** The text of a key file in the clear. It is a secret. */
export function encodeKeyFile({ secret }: { readonly secret: NodeSecret }): string {
  return withChecksum(`${HEADING} ${VERSION}\nclear\n${toBase64(encodeSecret(secret))}\n`)
}

/**
 * The text of an encrypted key file.
 * @param deps.cost of one guess at the passphrase; without it RFC 9106's second recommendation
 * @throws IdentityError IDENTITY_PASSPHRASE_LENGTH
 */
export async function encryptKeyFile(
  deps: { readonly random: Random; readonly cost?: Argon2Cost },
  { secret }: { readonly secret: NodeSecret },
  passphrase: string,
): Promise<string> {
  assertPassphrase(passphrase)
  const { memoryKib, passes, lanes } = deps.cost ?? COST
  const salt = deps.random.bytes(SALT_BYTES)
  const iv = deps.random.bytes(AEAD_IV_BYTES)
  const head = [`${HEADING} ${VERSION}`, `argon2id m=${memoryKib} t=${passes} p=${lanes}`, toBase64(salt), toBase64(iv)]
  const associated = `${head.join('\n')}\n`
  const key = new Aead(await argon2id(passphraseBytes(passphrase), salt, { memoryKib, passes, lanes }))
  const { ciphertext, tag } = key.seal(iv, utf8(associated), encodeSecret(secret))
  return withChecksum(`${associated}${toBase64(concatBytes([ciphertext, tag]))}\n`)
}

/** @throws IdentityError IDENTITY_PASSPHRASE_LENGTH, for a passphrase that should not protect a key */
export function assertPassphrase(passphrase: string): void {
  const chars = passphrase.normalize('NFKC').length
  if (chars >= PASSPHRASE_CHARS_MIN && chars <= PASSPHRASE_CHARS_MAX) return
  throw new IdentityError(
    { code: 'IDENTITY_PASSPHRASE_LENGTH', charsMin: PASSPHRASE_CHARS_MIN, charsMax: PASSPHRASE_CHARS_MAX },
    `a passphrase has ${PASSPHRASE_CHARS_MIN} to ${PASSPHRASE_CHARS_MAX} characters`,
  )
}

/**
 * Whether a passphrase is needed to read the file.
 * @throws IdentityError IDENTITY_KEY_INVALID, IDENTITY_KEY_VERSION, IDENTITY_KEY_COST
 */
export function isKeyFileEncrypted(text: string): boolean {
  return readKeyFile(text).kind === 'encrypted'
}

/**
 * Reads a key file in the clear, of either version.
 * @throws IdentityError IDENTITY_KEY_INVALID, IDENTITY_KEY_VERSION, IDENTITY_KEY_COST, IDENTITY_PASSPHRASE_NEEDED
 */
export function parseKeyFile(text: string): HeldIdentity {
  const file = readKeyFile(text)
  if (file.kind === 'clear') return identityOfSecret(file.secret, 'file')
  throw new IdentityError({ code: 'IDENTITY_PASSPHRASE_NEEDED' }, 'the node key is encrypted: give its passphrase')
}

/**
 * Reads a key file with its passphrase; a file in the clear needs none.
 * @throws IdentityError IDENTITY_KEY_INVALID, IDENTITY_KEY_VERSION, IDENTITY_KEY_COST, IDENTITY_PASSPHRASE_WRONG
 */
export async function decryptKeyFile(text: string, passphrase: string): Promise<HeldIdentity> {
  const file = readKeyFile(text)
  if (file.kind === 'clear') return identityOfSecret(file.secret, 'file')
  const { cost, salt, iv, sealed, associated } = file
  const border = sealed.byteLength - AEAD_TAG_BYTES
  // No file was ever encrypted with a longer one, and the length is what hashing it costs.
  const isPossible = passphrase.length <= 4 * PASSPHRASE_CHARS_MAX
  const key = isPossible ? new Aead(await argon2id(passphraseBytes(passphrase), salt, cost)) : undefined
  const plaintext = key?.open(iv, associated, sealed.subarray(0, border), sealed.subarray(border))
  if (plaintext === undefined) {
    throw new IdentityError({ code: 'IDENTITY_PASSPHRASE_WRONG' }, 'the passphrase does not open the node key')
  }
  return identityOfSecret(decodeSecret(plaintext) ?? throwInvalid(), 'file')
}

function readKeyFile(text: string): KeyFile {
  if (text.length > KEY_TEXT_CHARS_MAX) throwInvalid()
  // Editors on Windows change the ends of the lines, and others leave the last one out.
  const lines = text.replaceAll('\r\n', '\n').replace(/\n$/, '').split('\n')
  const version = /^koinon-node-key (\S{1,16})$/.exec(lines[0] ?? '')?.[1] ?? throwInvalid()
  if (version === '1') return readVersion1(lines)
  if (version !== VERSION) {
    throw new IdentityError(
      { code: 'IDENTITY_KEY_VERSION', version },
      `the node key has version ${version}, but this program knows version ${VERSION}: update it`,
    )
  }
  const checked = lines.slice(0, -1)
  if (withChecksum(`${checked.join('\n')}\n`) !== `${lines.join('\n')}\n`) throwInvalid()
  if (checked[1] === 'clear') {
    const secret = checked.length === 3 ? decodeSecret(fromBase64(checked[2] ?? '')) : undefined
    return { kind: 'clear', secret: secret ?? throwInvalid() }
  }
  return readEncrypted(checked)
}

function readVersion1(lines: readonly string[]): KeyFile {
  const bytes = lines.length === 2 ? fromBase64(lines[1] ?? '') : undefined
  const key = (bytes === undefined ? undefined : decodeNodeKey(bytes)) ?? throwInvalid()
  return { kind: 'clear', secret: { kind: 'seed', seed: seedOfNodeKey(key) } }
}

function readEncrypted(lines: readonly string[]): KeyFile {
  const match = /^argon2id m=([1-9]\d{0,9}) t=([1-9]\d{0,9}) p=([1-9]\d{0,9})$/.exec(lines[1] ?? '')
  const [salt, iv, sealed] = lines.slice(2).map(fromBase64)
  const isWhole = match !== null && lines.length === 5 && salt?.byteLength === SALT_BYTES
  if (!isWhole || iv?.byteLength !== AEAD_IV_BYTES || sealed === undefined || sealed.byteLength < AEAD_TAG_BYTES) {
    throwInvalid()
  }
  const [memoryKib = 0, passes = 0, lanes = 0] = match.slice(1).map(Number)
  // Argon2 needs 8 KiB for a lane. The rest bounds what a file from elsewhere makes this program spend.
  const isTaken = memoryKib >= 8 * lanes && memoryKib <= KDF_MEMORY_KIB_MAX
  if (!isTaken || passes > KDF_PASSES_MAX || lanes > KDF_LANES_MAX) {
    throw new IdentityError(
      { code: 'IDENTITY_KEY_COST' },
      `the node key asks for ${memoryKib} KiB of memory, ${passes} passes and ${lanes} lanes, which is not taken`,
    )
  }
  const associated = utf8(`${lines.slice(0, 4).join('\n')}\n`)
  return { kind: 'encrypted', cost: { memoryKib, passes, lanes }, salt, iv, sealed, associated }
}

function withChecksum(text: string): string {
  return `${text}${toHex(sha256(utf8(text)).subarray(0, CHECKSUM_BYTES))}\n`
}

const secretBytes = z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength === SECRET_BYTES)
const secretSchema = z.union([
  z.strictObject({ root: secretBytes, index: z.int().min(0).max(KEY_INDEX_MAX) }),
  z.strictObject({ seed: secretBytes }),
])

function encodeSecret(secret: NodeSecret): Uint8Array {
  return encode(secret.kind === 'seed' ? { seed: secret.seed } : { index: secret.index, root: secret.root })
}

function decodeSecret(bytes: Uint8Array | undefined): NodeSecret | undefined {
  if (bytes === undefined) return undefined
  try {
    const secret = secretSchema.safeParse(decode(bytes)).data
    if (secret === undefined) return undefined
    return 'seed' in secret ? { kind: 'seed', ...secret } : { kind: 'root', ...secret }
  } catch {
    return undefined // dag-cbor throws errors of many kinds for bytes that are none: all mean the same here.
  }
}

/** The same characters give the same bytes, whichever keyboard they come from. */
function passphraseBytes(passphrase: string): Uint8Array {
  return utf8(passphrase.normalize('NFKC'))
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

function throwInvalid(): never {
  throw new IdentityError(
    { code: 'IDENTITY_KEY_INVALID' },
    'the node key file is damaged: restore it from a copy or from the seed phrase, or move it away to start with a new identity',
  )
}
