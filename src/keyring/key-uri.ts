/**
 * How people write down where a key lies:
 *
 *   file                                                       the data directory
 *   env                                                        the environment
 *   pkcs11:token=T;object=LABEL?module-path=/m.so&pin-source=F PKCS #11 URI (RFC 7512)
 *   kms:KEY?region=R&endpoint=URL                              AWS KMS: an id, ARN or "alias/NAME"
 *
 * Of RFC 7512's attributes these are read: token, serial, object, id, type ("private"), module-path and pin-source.
 * `pin-value` is refused: others see the arguments of a command.
 */
import { toHex } from '#base'
import { KeyringError } from './errors.ts'
import type { KmsSource, Pkcs11Source } from './key-source.ts'
import { KEY_URI_CHARS_MAX } from './limits.ts'

export type KeyUri =
  | { readonly kind: 'file' }
  | { readonly kind: 'environment' }
  /** `pinFile`: where the PIN is to be read. */
  | (Omit<Pkcs11Source, 'pin'> & { readonly pinFile?: string })
  | KmsSource

/** @throws KeyringError KEYRING_SOURCE_INVALID */
export function parseKeyUri(text: string): KeyUri {
  if (text === 'file') return { kind: 'file' }
  if (text === 'env') return { kind: 'environment' }
  const [, scheme, path = '', query = ''] = /^([a-z0-9]+):([^?]*)(?:\?(.*))?$/s.exec(text) ?? []
  if (text.length > KEY_URI_CHARS_MAX) throw invalid('it is too long')
  if (scheme === 'pkcs11') return parsePkcs11(path, query)
  if (scheme === 'kms') return parseKms(path, query)
  throw invalid('expected file, env, pkcs11:… or kms:…')
}

const PKCS11_PATH = ['token', 'serial', 'object', 'id', 'type']
const PKCS11_QUERY = ['module-path', 'pin-source']

function parsePkcs11(path: string, query: string): KeyUri {
  const id = attributesOf(path.split(';'), PKCS11_PATH)
  const how = attributesOf(query.split('&'), PKCS11_QUERY)
  const [token, serial, object, type] = ['token', 'serial', 'object', 'type'].map(name => textOf(id, name))
  const [module, pinSource] = PKCS11_QUERY.map(name => textOf(how, name))
  const idBytes = id.get('id')
  if (token === undefined) throw invalid('it names no token (token=LABEL)')
  if (module === undefined) throw invalid('it names no module (?module-path=/path/to/module.so)')
  if (object === undefined && idBytes === undefined) throw invalid('it names no key (object=LABEL or id=%01)')
  if (type !== undefined && type !== 'private') throw invalid('only a key of type=private can sign')
  return {
    kind: 'pkcs11',
    module,
    token,
    ...(serial === undefined ? {} : { serial }),
    ...(object === undefined ? {} : { label: object }),
    ...(idBytes === undefined ? {} : { id: toHex(idBytes) }),
    ...(pinSource === undefined ? {} : { pinFile: pinFileOf(pinSource) }),
  }
}

/** RFC 7512 leaves open what a source is; a file by its path or as a file URI is what all programs take. */
function pinFileOf(source: string): string {
  const path = source.startsWith('file:') ? source.slice('file:'.length).replace(/^\/\/(?=\/)/, '') : source
  if (path === '' || path.startsWith('|')) throw invalid('pin-source is no file')
  return path
}

function parseKms(path: string, query: string): KmsSource {
  const key = decodeText(percentDecoded(path))
  const how = attributesOf(query.split('&'), ['region', 'endpoint'])
  const region = textOf(how, 'region') ?? /^arn:[^:]*:kms:([^:]+):/.exec(key)?.[1]
  const endpoint = textOf(how, 'endpoint')
  if (!/^[\w:/-]{1,2048}$/.test(key)) throw invalid('it names no key of the service (kms:KEY-ID?region=REGION)')
  if (region !== undefined && !/^[a-z0-9-]{1,64}$/.test(region)) throw invalid('the region is none')
  if (endpoint !== undefined && !/^https?:$/.test(URL.parse(endpoint)?.protocol ?? '')) {
    throw invalid('the endpoint is no http or https URL')
  }
  return {
    kind: 'kms',
    key,
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
  }
}

/** "name=value" texts, percent-decoded. */
function attributesOf(texts: readonly string[], names: readonly string[]): ReadonlyMap<string, Uint8Array> {
  const found = new Map<string, Uint8Array>()
  for (const text of texts) {
    if (text === '') continue
    const [, name = '', value = ''] = /^([\w-]+)=(.+)$/s.exec(text) ?? []
    if (name === 'pin-value')
      throw invalid('a PIN does not belong into an argument, which others can see: use pin-source')
    if (!names.includes(name)) throw invalid(`"${name === '' ? text : name}" is not one of ${names.join(', ')}`)
    if (found.has(name)) throw invalid(`${name} is there twice`)
    found.set(name, percentDecoded(value))
  }
  return found
}

/** Bytes: an id need not be text. */
function percentDecoded(text: string): Uint8Array {
  if (/%(?![0-9a-fA-F]{2})/.test(text)) throw invalid('a % stands before two hexadecimal digits')
  const bytes: number[] = []
  for (const part of text.split(/(%[0-9a-fA-F]{2})/)) {
    if (/^%[0-9a-fA-F]{2}$/.test(part)) bytes.push(Number.parseInt(part.slice(1), 16))
    else bytes.push(...new TextEncoder().encode(part))
  }
  return Uint8Array.from(bytes)
}

function textOf(attributes: ReadonlyMap<string, Uint8Array>, name: string): string | undefined {
  const bytes = attributes.get(name)
  return bytes === undefined ? undefined : decodeText(bytes)
}

function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw invalid('it holds bytes that are no text') // The decoder's error says no more.
  }
}

function invalid(why: string): KeyringError {
  return new KeyringError({ code: 'KEYRING_SOURCE_INVALID' }, `this does not say where a key lies: ${why}`)
}
