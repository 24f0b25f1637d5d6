/** Key files, keys from the environment and seed phrases: text from a disk or a person. Only `IdentityError` may come. */
import { codeOf, toHex } from '#base'
import { sha256, type Argon2Cost } from '#crypto'
import {
  decryptKeyFile,
  encodeKeyFile,
  encryptKeyFile,
  isKeyFileEncrypted,
  parseEnvironmentKey,
  parseKeyFile,
  secretOfPhrase,
  seedPhraseOf,
} from '#identity'
import { Chance } from '../lib/chance.ts'
import { byInputs, type Fuzzer, type Outcome, type Target } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'

const PASSPHRASE = 'correct horse battery'
/** The least that Argon2 takes: a file of more is not decrypted here. */
const COST: Argon2Cost = { memoryKib: 8, passes: 1, lanes: 1 }
const VERSION_1 = 'koinon-node-key 1\nCAESQ' // The beginning of every protobuf of an Ed25519 key.

export const keyFiles: Fuzzer = { name: 'key-files', kind: 'pure', open }

async function open({ corpus }: { readonly corpus: readonly Uint8Array[] }): Promise<Target> {
  const root = { kind: 'root', root: new Uint8Array(32).fill(7), index: 3 } as const
  const texts = [
    encodeKeyFile({ secret: root }),
    encodeKeyFile({ secret: { kind: 'seed', seed: new Uint8Array(32).fill(9) } }),
    await encryptKeyFile({ random: new Chance(1).random, cost: COST }, { secret: root }, PASSPHRASE),
    `${VERSION_1}${'A'.repeat(80)}\n`,
    'ab'.repeat(32),
    `${seedPhraseOf(root)} #2`,
  ]
  const valid = texts.map(text => new TextEncoder().encode(text))
  return byInputs({
    make: chance => {
      const bytes = mutateBytes(chance, chance.pick([...valid, ...corpus]), valid)
      // A checksum that fits lets the rest be read.
      return chance.isOneIn(2) ? withChecksum(bytes) : bytes
    },
    check: async input => look(Buffer.from(input).toString('utf8')),
  })
}

function withChecksum(bytes: Uint8Array): Uint8Array {
  const lines = Buffer.from(bytes).toString('utf8').split('\n')
  const head = `${lines.slice(0, -2).join('\n')}\n`
  const checksum = toHex(sha256(new TextEncoder().encode(head)).subarray(0, 8))
  return new TextEncoder().encode(`${head}${checksum}\n`)
}

async function look(text: string): Promise<Outcome> {
  const outcomes = [
    await outcomeOf(() => isKeyFileEncrypted(text)),
    await outcomeOf(() => parseKeyFile(text)),
    await outcomeOf(() => parseEnvironmentKey(text)),
    await outcomeOf(() => secretOfPhrase(text)),
  ]
  if (text.includes('\nargon2id m=8 t=1 p=1\n')) outcomes.push(await outcomeOf(() => decryptKeyFile(text, PASSPHRASE)))
  return outcomes.join(' ')
}

async function outcomeOf(read: () => unknown): Promise<Outcome> {
  try {
    await read()
    return 'good'
  } catch (error) {
    const code = codeOf(error)
    if (!code.startsWith('IDENTITY_')) throw new Error('a key file threw what nobody expects', { cause: error })
    return code.slice('IDENTITY_'.length)
  }
}
