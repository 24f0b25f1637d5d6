/**
 * A key service on loopback that speaks AWS KMS's protocol for GetPublicKey and Sign, checks what it is asked, and signs
 * with a key of its own.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { seededRandom } from '#base'
import { type Ed25519Signer, ed25519Signer } from '#crypto'

export const KMS_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'
export const KMS_REGION = 'eu-central-1'
const ACCESS_KEY = 'AKIDKOINONTEST'

export type KmsRequest = { readonly operation: string; readonly body: Readonly<Record<string, unknown>> }

export type KmsServer = {
  readonly endpoint: string
  readonly publicKey: Uint8Array
  /** All that came, in order. */
  readonly requests: readonly KmsRequest[]
  /**
   * What is done instead of answering as usual, until it is set to undefined. Return true where nothing more is to be
   * done.
   */
  fault: ((request: KmsRequest, response: ServerResponse) => boolean) | undefined
}

const SPKI_HEADER = Buffer.from('302a300506032b6570032100', 'hex')

/** Sets the SDK's credentials in this process's environment: the SDK's own chain is what is tested. */
export async function startKmsServer(after: (action: () => void) => void, seed = 1): Promise<KmsServer> {
  process.env['AWS_ACCESS_KEY_ID'] = ACCESS_KEY
  process.env['AWS_SECRET_ACCESS_KEY'] = 'a secret of the test'
  delete process.env['AWS_SESSION_TOKEN']
  delete process.env['AWS_PROFILE']
  const signer = ed25519Signer(seededRandom(seed).bytes(32))
  const requests: KmsRequest[] = []
  const state: { fault: KmsServer['fault'] } = { fault: undefined }
  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => {
      response.statusCode = 500
      response.end(String(error))
    })
  })
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const asked = await readRequest(request)
    requests.push(asked)
    if (state.fault?.(asked, response) === true) return
    sendJson(response, 200, answerTo(signer, asked))
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  after(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    publicKey: signer.publicKey,
    requests,
    get fault() {
      return state.fault
    },
    set fault(fault) {
      state.fault = fault
    },
  }
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' })
  response.end(JSON.stringify(body))
}

/** An error as KMS sends it. */
export function sendFault(response: ServerResponse, status: number, type: string): true {
  sendJson(response, status, { __type: type, message: 'User: arn:aws:iam::111122223333:user/somebody is told this' })
  return true
}

async function readRequest(request: IncomingMessage): Promise<KmsRequest> {
  const parts: Buffer[] = []
  for await (const part of request as AsyncIterable<Buffer>) parts.push(part)
  assert.equal(request.method, 'POST')
  assert.equal(request.url, '/')
  assert.equal(request.headers['content-type'], 'application/x-amz-json-1.1')
  const { authorization = '' } = request.headers
  const scope = new RegExp(`^AWS4-HMAC-SHA256 Credential=${ACCESS_KEY}/\\d{8}/${KMS_REGION}/kms/aws4_request, `)
  assert.match(authorization, scope)
  assert.match(authorization, /SignedHeaders=[a-z0-9;-]*\bhost\b[a-z0-9;-]*, Signature=[0-9a-f]{64}$/)
  assert.match(String(request.headers['x-amz-date']), /^\d{8}T\d{6}Z$/)
  const [, operation = ''] = /^TrentService\.(\w+)$/.exec(String(request.headers['x-amz-target'])) ?? []
  return { operation, body: JSON.parse(Buffer.concat(parts).toString('utf8')) as Record<string, unknown> }
}

function answerTo(signer: Ed25519Signer, { operation, body }: KmsRequest): unknown {
  assert.equal(body['KeyId'], KMS_KEY)
  if (operation === 'GetPublicKey') {
    assert.deepEqual(Object.keys(body), ['KeyId'])
    return {
      KeyId: KMS_KEY,
      KeySpec: 'ECC_NIST_EDWARDS25519',
      KeyUsage: 'SIGN_VERIFY',
      PublicKey: Buffer.concat([SPKI_HEADER, signer.publicKey]).toString('base64'),
      SigningAlgorithms: ['ED25519_SHA_512', 'ED25519_PH_SHA_512'],
    }
  }
  assert.equal(operation, 'Sign')
  assert.deepEqual(Object.keys(body).toSorted(), ['KeyId', 'Message', 'MessageType', 'SigningAlgorithm'])
  assert.deepEqual([body['MessageType'], body['SigningAlgorithm']], ['RAW', 'ED25519_SHA_512'])
  const message = Buffer.from(String(body['Message']), 'base64')
  assert.equal(message.toString('base64'), body['Message'])
  return {
    KeyId: KMS_KEY,
    SigningAlgorithm: 'ED25519_SHA_512',
    Signature: Buffer.from(signer.sign(message)).toString('base64'),
  }
}
