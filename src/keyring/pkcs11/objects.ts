/** Keys on a token: finds an Ed25519 pair, or makes one. */
import { fromHex } from '#base'
import { ED25519_PUBLIC_BYTES } from '#crypto'
import { KeyringError } from '../errors.ts'
import type { Pkcs11Source } from '../key-source.ts'
import { TOKEN_ATTRIBUTE_BYTES_MAX } from '../limits.ts'
import { CKA, CKK, CKM, CKO, CKR, nameOfResult } from './constants.ts'
import { mechanismBytes, stableCopy, Template, Ulongs, ulongBytes } from './memory.ts'
import { type Pkcs11Module, ResultError } from './module.ts'

/** An Ed25519 key on a token. */
export type TokenKey = {
  /** CK_OBJECT_HANDLE of the private key, good in sessions of this process. */
  readonly handle: number
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  readonly alwaysAuthenticate: boolean
}

type Attributes = readonly (readonly [type: number, value: Uint8Array])[]

/** `CKA_EC_PARAMS` of edwards25519: its name as PrintableString, which the standard has, and the OIDs of RFC 8410 and GnuPG. */
const CURVE_NAME = Uint8Array.from([0x13, 0x0c, ...new TextEncoder().encode('edwards25519')])
const CURVE_OID = Uint8Array.of(0x06, 0x03, 0x2b, 0x65, 0x70)
const CURVE_OLD_OID = Uint8Array.of(0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01)

const TRUE = Uint8Array.of(1)
const FALSE = Uint8Array.of(0)

/** The numbers that a token returns where it cannot do this at all. */
const CANNOT = new Set(['CKR_MECHANISM_INVALID', 'CKR_FUNCTION_NOT_SUPPORTED', 'CKR_MECHANISM_PARAM_INVALID'])
const WRONG_CURVE = new Set([
  'CKR_DOMAIN_PARAMS_INVALID',
  'CKR_CURVE_NOT_SUPPORTED',
  'CKR_ATTRIBUTE_VALUE_INVALID',
  'CKR_TEMPLATE_INCONSISTENT',
  'CKR_GENERAL_ERROR',
  'CKR_FUNCTION_FAILED',
])

/** What all functions here work with. Only from within the module's `exclusive`. */
export type TokenWork = { readonly module: Pkcs11Module; readonly session: number }

/** @throws KeyringError KEYRING_KEY_UNKNOWN, KEYRING_KEY_TYPE; ResultError */
export async function findKey(work: TokenWork, source: Pkcs11Source): Promise<TokenKey> {
  const named = namesOf(source)
  const privates: Attributes = [[CKA.class, ulongBytes(CKO.privateKey)], ...named]
  const [handle, ...others] = await findObjects(work, [...privates, [CKA.keyType, ulongBytes(CKK.ecEdwards)]])
  if (handle === undefined) {
    if ((await findObjects(work, privates)).length > 0) throw wrongType(source)
    throw new KeyringError(
      { code: 'KEYRING_KEY_UNKNOWN', found: 0 },
      `the token "${source.token}" has no private key ${nameText(source)}`,
    )
  }
  if (others.length > 0) {
    throw new KeyringError(
      { code: 'KEYRING_KEY_UNKNOWN', found: others.length + 1 },
      `the token "${source.token}" has several private keys ${nameText(source)}: name one by its id`,
    )
  }
  const [id, always] = await readAttributes(work, handle, [CKA.id, CKA.alwaysAuthenticate])
  const byId: Attributes = id === undefined || id.byteLength === 0 ? named : [[CKA.id, id]]
  const [publicHandle] = await findObjects(work, [
    [CKA.class, ulongBytes(CKO.publicKey)],
    [CKA.keyType, ulongBytes(CKK.ecEdwards)],
    ...byId,
  ])
  // Some tokens keep the point with the private key.
  const [point, curve] = await readAttributes(work, publicHandle ?? handle, [CKA.ecPoint, CKA.ecParams])
  const publicKey = point === undefined ? undefined : pointOf(point)
  const isCurve = curve !== undefined && [CURVE_NAME, CURVE_OID, CURVE_OLD_OID].some(known => isEqual(known, curve))
  if (publicKey === undefined || !isCurve) throw wrongType(source)
  return { handle, publicKey, alwaysAuthenticate: always?.[0] === 1 }
}

/**
 * Makes a key pair whose private half never leaves the token.
 * @param id CKA_ID of both halves
 * @throws KeyringError KEYRING_KEY_EXISTS, KEYRING_MECHANISM; ResultError
 */
export async function generateKey(work: TokenWork, source: Pkcs11Source, id: Uint8Array): Promise<void> {
  if ((await findObjects(work, [[CKA.class, ulongBytes(CKO.privateKey)], ...namesOf(source)])).length > 0) {
    throw new KeyringError(
      { code: 'KEYRING_KEY_EXISTS' },
      `the token "${source.token}" has a private key ${nameText(source)} already`,
    )
  }
  const names: Attributes = [
    ...(source.label === undefined ? [] : ([[CKA.label, textBytes(source.label)]] as const)),
    [CKA.id, source.id === undefined ? id : fromHex(source.id)],
  ]
  const results: number[] = []
  for (const curve of [CURVE_NAME, CURVE_OID]) {
    const result = await generatePair(work, names, curve)
    if (result === CKR.ok) return
    results.push(result)
    if (!WRONG_CURVE.has(nameOfResult(result))) break
  }
  const last = results.at(-1) ?? CKR.ok
  if (!CANNOT.has(nameOfResult(last))) throw new ResultError('C_GenerateKeyPair', last)
  throw new KeyringError(
    { code: 'KEYRING_MECHANISM' },
    `the token "${source.token}" makes no Ed25519 keys (${nameOfResult(last)})`,
  )
}

function generatePair({ module, session }: TokenWork, names: Attributes, curve: Uint8Array): Promise<number> {
  const publicHalf = new Template([[CKA.token, TRUE], [CKA.verify, TRUE], [CKA.ecParams, curve], ...names])
  const privateHalf = new Template([
    [CKA.token, TRUE],
    [CKA.private, TRUE],
    [CKA.sign, TRUE],
    [CKA.sensitive, TRUE],
    [CKA.extractable, FALSE],
    ...names,
  ])
  return module.tryCall(
    'C_GenerateKeyPair',
    session,
    mechanismBytes(CKM.ecEdwardsKeyPairGen),
    publicHalf,
    publicHalf.count,
    privateHalf,
    privateHalf.count,
    new Ulongs(1).bytes,
    new Ulongs(1).bytes,
  )
}

/** At most two: more than one is too many already. */
async function findObjects({ module, session }: TokenWork, attributes: Attributes): Promise<number[]> {
  const template = new Template(attributes)
  const handles = new Ulongs(2)
  const count = new Ulongs(1)
  await module.call('C_FindObjectsInit', session, template, template.count)
  try {
    await module.call('C_FindObjects', session, handles.bytes, 2, count.bytes)
  } finally {
    await module.tryCall('C_FindObjectsFinal', session)
  }
  return [handles.at(0), handles.at(1)].slice(0, count.at(0))
}

/** Undefined for each that the object does not have. */
async function readAttributes(
  { module, session }: TokenWork,
  handle: number,
  types: readonly number[],
): Promise<readonly (Uint8Array | undefined)[]> {
  const values: (Uint8Array | undefined)[] = []
  for (const type of types) {
    const template = new Template([[type, new Uint8Array(new ArrayBuffer(TOKEN_ATTRIBUTE_BYTES_MAX))]])
    const result = await module.tryCall('C_GetAttributeValue', session, handle, template, template.count)
    values.push(result === CKR.ok ? template.valueAt(0) : undefined)
  }
  return values
}

/** `CKA_EC_POINT`: the 32 bytes as they are, or as a DER OCTET STRING or BIT STRING. */
function pointOf(value: Uint8Array): Uint8Array | undefined {
  const headers = [[], [0x04, ED25519_PUBLIC_BYTES], [0x03, ED25519_PUBLIC_BYTES + 1, 0x00]]
  const header = headers.find(bytes => value.byteLength === bytes.length + ED25519_PUBLIC_BYTES)
  return header?.every((byte, index) => value[index] === byte) === true ? value.slice(header.length) : undefined
}

function namesOf({ label, id }: Pkcs11Source): Attributes {
  return [
    ...(label === undefined ? [] : ([[CKA.label, textBytes(label)]] as const)),
    ...(id === undefined ? [] : ([[CKA.id, fromHex(id)]] as const)),
  ]
}

function nameText({ label, id }: Pkcs11Source): string {
  const names = [label === undefined ? '' : `"${label}"`, id === undefined ? '' : `with id ${id}`]
  return names.filter(name => name !== '').join(' ')
}

function wrongType(source: Pkcs11Source): KeyringError {
  return new KeyringError(
    { code: 'KEYRING_KEY_TYPE' },
    `the key ${nameText(source)} of the token "${source.token}" is no Ed25519 key`,
  )
}

function textBytes(text: string): Uint8Array {
  return stableCopy(new TextEncoder().encode(text))
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, index) => byte === b[index])
}
