/**
 * A node's key in AWS KMS, or in a service that speaks its protocol: GetPublicKey once, then Sign for each signature.
 * The SDK is loaded when such a key is opened, not before.
 */
import type { Clock } from '#base'
import { ED25519_PUBLIC_BYTES } from '#crypto'
import type { KeyProvider } from '#identity'
import { checkedKey } from './checked-key.ts'
import { KeyringError } from './errors.ts'
import { JobQueue } from './job-queue.ts'
import type { KmsSource } from './key-source.ts'
import {
  KMS_ANSWER_MS_MAX,
  KMS_CONNECT_MS_MAX,
  KMS_MESSAGE_BYTES_MAX,
  KMS_QUEUE_MAX,
  KMS_RUNNING_MAX,
  KMS_SIGN_MS_MAX,
  KMS_TRIES_MAX,
} from './limits.ts'

const KEY_SPEC = 'ECC_NIST_EDWARDS25519'
const JOB = { what: 'the key service', timeoutMs: KMS_SIGN_MS_MAX } as const

/** SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410): DER has one way to write it. */
const SPKI_HEADER = Uint8Array.of(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00)

/** @throws KeyringError */
export async function openKmsKey(deps: { readonly clock: Clock }, source: KmsSource): Promise<KeyProvider> {
  const { KMSClient, GetPublicKeyCommand, SignCommand } = await import('@aws-sdk/client-kms')
  const client = new KMSClient({
    ...(source.region === undefined ? {} : { region: source.region }),
    ...(source.endpoint === undefined ? {} : { endpoint: source.endpoint }),
    maxAttempts: KMS_TRIES_MAX,
    requestHandler: {
      connectionTimeout: KMS_CONNECT_MS_MAX,
      requestTimeout: KMS_ANSWER_MS_MAX,
      throwOnRequestTimeout: true,
    },
  })
  const queue = new JobQueue(deps.clock, { runningMax: KMS_RUNNING_MAX, waitingMax: KMS_QUEUE_MAX })
  let isClosed = false
  const ask = <T>(request: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    queue.run(JOB, async signal => {
      if (isClosed) throw new KeyringError({ code: 'KEYRING_CLOSED' }, 'the key was closed')
      return request(signal).catch((error: unknown) => {
        signal.throwIfAborted()
        throw toKeyringError(error)
      })
    })
  const close = async (): Promise<void> => {
    isClosed = true
    client.destroy()
  }
  try {
    const KeyId = source.key
    const answer = await ask(abortSignal => client.send(new GetPublicKeyCommand({ KeyId }), { abortSignal }))
    const signRaw = async (message: Uint8Array): Promise<Uint8Array> => {
      assertSize(message)
      const command = new SignCommand({
        KeyId,
        Message: message,
        MessageType: 'RAW',
        SigningAlgorithm: 'ED25519_SHA_512',
      })
      const { Signature } = await ask(abortSignal => client.send(command, { abortSignal }))
      return new Uint8Array(Signature ?? [])
    }
    const key = await checkedKey({ kind: 'kms', publicKey: publicKeyOf(answer), signRaw, close })
    return { ...key, messageBytesMax: KMS_MESSAGE_BYTES_MAX }
  } catch (error) {
    await close()
    throw error
  }
}

type PublicKeyAnswer = { readonly KeySpec?: string | undefined; readonly PublicKey?: Uint8Array | undefined }

function publicKeyOf({ KeySpec, PublicKey }: PublicKeyAnswer): Uint8Array {
  const isSpki =
    PublicKey?.byteLength === SPKI_HEADER.byteLength + ED25519_PUBLIC_BYTES &&
    SPKI_HEADER.every((byte, index) => PublicKey[index] === byte)
  if (KeySpec === KEY_SPEC && isSpki) return new Uint8Array(PublicKey.subarray(SPKI_HEADER.byteLength))
  throw new KeyringError(
    { code: 'KEYRING_KEY_TYPE' },
    `the key of the service is no Ed25519 key (${KEY_SPEC}, for SIGN_VERIFY) but ${KeySpec ?? 'of no type that it names'}`,
  )
}

function assertSize(message: Uint8Array): void {
  const bytes = message.byteLength
  if (bytes <= KMS_MESSAGE_BYTES_MAX) return
  throw new KeyringError(
    { code: 'KEYRING_MESSAGE_SIZE', bytes, bytesMax: KMS_MESSAGE_BYTES_MAX },
    `the key service signs messages of ${KMS_MESSAGE_BYTES_MAX} bytes, and this one has ${bytes}`,
  )
}

/** Error names of KMS, and of the SDK where it does not get to it. */
const ACCESS = new Set([
  'AccessDeniedException',
  'CredentialsProviderError',
  'ExpiredTokenException',
  'IncompleteSignature',
  'InvalidClientTokenId',
  'InvalidSignatureException',
  'MissingAuthenticationTokenException',
  'NotAuthorized',
  'UnrecognizedClientException',
])
const BUSY = new Set([
  'LimitExceededException',
  'ThrottlingException',
  'TooManyRequestsException',
  'RequestLimitExceeded',
])
const UNKNOWN = new Set(['NotFoundException', 'InvalidArnException'])
const TYPE = new Set(['InvalidKeyUsageException', 'UnsupportedOperationException'])

/** "AccessDeniedException" of the service, "ECONNREFUSED" of the way to it. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  return error.name === 'Error' && 'code' in error && typeof error.code === 'string' ? error.code : error.name
}

/** By the name alone: the service's sentences name accounts and users. */
function toKeyringError(error: unknown): KeyringError {
  if (error instanceof KeyringError) return error
  const reason = reasonOf(error)
  const because = { cause: error }
  if (UNKNOWN.has(reason)) {
    return new KeyringError({ code: 'KEYRING_KEY_UNKNOWN', found: 0 }, 'the key service knows no such key', because)
  }
  if (TYPE.has(reason)) {
    return new KeyringError({ code: 'KEYRING_KEY_TYPE' }, `the key of the service cannot sign (${reason})`, because)
  }
  if (BUSY.has(reason)) {
    return new KeyringError({ code: 'KEYRING_BUSY' }, `the key service takes no more requests now (${reason})`, because)
  }
  if (ACCESS.has(reason)) {
    const sentence = `the key service does not let this node use the key (${reason}): check its credentials and the key's policy`
    return new KeyringError({ code: 'KEYRING_ACCESS', reason }, sentence, because)
  }
  if (reason === 'TimeoutError') {
    const sentence = 'the key service does not answer in time'
    return new KeyringError({ code: 'KEYRING_TIMEOUT', timeoutMs: KMS_ANSWER_MS_MAX }, sentence, because)
  }
  return new KeyringError(
    { code: 'KEYRING_SERVICE_FAILED', reason },
    `the key service failed (${reason}): is its region or endpoint right, and the key enabled?`,
    because,
  )
}
