/**
 * The file of sources: which web servers, machines and folders weights may come from, besides peers. It is the owner's own word,
 * so it is refused where others can change it, and where it holds a token that others can read.
 */
import { constants, type FileHandle, open } from 'node:fs/promises'
import { isAbsolute, posix } from 'node:path'
import { z } from 'zod'
import { messageOf } from '#base'
import { SwarmError } from '../errors.ts'
import {
  ORIGIN_CONFIG_BYTES_MAX,
  ORIGIN_ENTRIES_MAX,
  ORIGIN_RANGES_MAX,
  ORIGIN_RATE_BYTES_MIN,
  ORIGIN_SECRET_BYTES_MAX,
  ORIGIN_URL_CHARS_MAX,
  ORIGIN_SOURCES_MAX,
} from '../limits.ts'
import { decodeAllowance } from './address-rules.ts'

const PATH_CHARS_MAX = 4_096

const label = z.string().regex(/^\P{C}{1,100}$/u, 'a name has 1 to 100 characters and no control characters')
const modelId = z.string().regex(/^[0-9a-f]{64}$/, 'a model id has 64 hexadecimal digits')
const absolutePath = z
  .string()
  .max(PATH_CHARS_MAX)
  .refine(path => isAbsolute(path), 'a path is absolute')
const url = z
  .string()
  .max(ORIGIN_URL_CHARS_MAX)
  .refine(isPlainUrl, 'an http or https URL without a user and a password')
const relativePath = z
  .string()
  .min(1)
  .max(PATH_CHARS_MAX)
  .refine(isInside, 'a path inside the source, such as "a/b.gguf"')
const allowance = z
  .string()
  .max(300)
  .refine(text => decodeAllowance(text) !== undefined, 'a host, a host and port, or a network such as 10.0.0.0/8')
const token = z.string().regex(/^[\x21-\x7e]{1,4096}$/, 'a token has 1 to 4096 visible ASCII characters')

const models = z
  .record(modelId, relativePath)
  .refine(value => Object.keys(value).length <= ORIGIN_ENTRIES_MAX, `at most ${ORIGIN_ENTRIES_MAX} models`)
const files = z.array(relativePath).max(ORIGIN_ENTRIES_MAX)
const bytesPerSecond = z.int().min(ORIGIN_RATE_BYTES_MIN)

const common = { name: label.optional(), files: files.optional(), bytesPerSecond: bytesPerSecond.optional() }

const httpSource = z
  .strictObject({
    ...common,
    kind: z.literal('http'),
    /** A folder: files are looked for in it. Ends with a slash. */
    base: url.refine(text => text.endsWith('/'), 'the URL of a folder ends with a slash').optional(),
    /** Model id → URL, or path below `base`. */
    models: z.record(modelId, z.union([url, relativePath])).optional(),
    token: token.optional(),
    tokenEnv: z
      .string()
      .regex(/^[A-Z_][A-Z0-9_]{0,100}$/i)
      .optional(),
    tokenFile: absolutePath.optional(),
    /** Certificates (PEM) to trust instead of those that Node brings along. */
    caFile: absolutePath.optional(),
    parallel: z.int().min(1).max(ORIGIN_RANGES_MAX).optional(),
  })
  .refine(
    source => [source.token, source.tokenEnv, source.tokenFile].filter(given => given !== undefined).length <= 1,
    'one of token, tokenEnv and tokenFile',
  )
  .refine(
    source => Object.keys(source.models ?? {}).length <= ORIGIN_ENTRIES_MAX,
    `at most ${ORIGIN_ENTRIES_MAX} models`,
  )
  .refine(
    source => source.base !== undefined || Object.values(source.models ?? {}).every(isPlainUrl),
    'a source without base names its models by whole URLs',
  )

const rsyncSource = z.strictObject({
  ...common,
  kind: z.literal('rsync'),
  host: z.string().min(1).max(255),
  user: z.string().min(1).max(64),
  port: z.int().min(1).max(65_535).optional(),
  identityFile: absolutePath,
  knownHostsFile: absolutePath,
  /** Folder over there. */
  path: z.string().max(PATH_CHARS_MAX).startsWith('/', 'a path is absolute'),
  /** Model id → path below `path`. */
  models: models.optional(),
})

const folderSource = z.strictObject({
  ...common,
  kind: z.literal('folder'),
  /** Folder, or one file. */
  path: absolutePath,
  models: models.optional(),
})

const schema = z.strictObject({
  /** Hosts and networks that are no part of the public internet and that may be gone to all the same. */
  allow: z.array(allowance).max(ORIGIN_ENTRIES_MAX).optional(),
  /** Whether URLs that manifests and peers suggest are used: all (of the public internet, by https), or these hosts'. */
  allowSuggested: z.union([z.boolean(), z.array(allowance).max(ORIGIN_ENTRIES_MAX)]).optional(),
  sources: z
    .array(z.discriminatedUnion('kind', [httpSource, rsyncSource, folderSource]))
    .max(ORIGIN_SOURCES_MAX)
    .optional(),
})

/** What the file of sources says. Plain data; a secret where a source has a `token`. See docs/guides/sources.md. */
export type SourcesConfig = z.infer<typeof schema>
export type HttpSource = z.infer<typeof httpSource>
export type RsyncSource = z.infer<typeof rsyncSource>
export type FolderSource = z.infer<typeof folderSource>
export type Source = HttpSource | RsyncSource | FolderSource

/** @throws SwarmError SWARM_ORIGIN_CONFIG; the message names the field, and never repeats a value */
export function parseSources(value: unknown): SourcesConfig {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const field = issue?.path.join('.') ?? ''
  throw configFault(
    `the sources are not as they should be${field === '' ? '' : `, at ${field}`}: ${issue?.message ?? ''}`,
  )
}

/**
 * Reads the file of sources.
 * @throws SwarmError SWARM_ORIGIN_CONFIG where it cannot be read, is too long, no JSON, not as it should be, or open to others
 */
export async function readSources(path: string): Promise<SourcesConfig> {
  const { text, mode } = await readBounded(path, ORIGIN_CONFIG_BYTES_MAX)
  if ((mode & 0o022) !== 0) throw configFault(`others can change ${path}: run "chmod go-w ${path}"`)
  const config = parseSources(parseJson(text, path))
  const hasToken = config.sources?.some(source => source.kind === 'http' && source.token !== undefined) === true
  if (hasToken && (mode & 0o077) !== 0) {
    throw configFault(`${path} holds a token, and others can read it: run "chmod 600 ${path}"`)
  }
  return config
}

/** The token of a source; undefined: it needs none. @throws SwarmError SWARM_ORIGIN_CONFIG */
export async function tokenOf(
  source: HttpSource,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  if (source.token !== undefined) return source.token
  if (source.tokenEnv !== undefined) return checkToken(env[source.tokenEnv] ?? '', source.tokenEnv)
  if (source.tokenFile === undefined) return undefined
  const { text, mode } = await readBounded(source.tokenFile, ORIGIN_SECRET_BYTES_MAX)
  if ((mode & 0o077) !== 0) {
    throw configFault(`others can read the token in ${source.tokenFile}: run "chmod 600 ${source.tokenFile}"`)
  }
  return checkToken(text.trim(), source.tokenFile)
}

/** The certificates of a source; undefined: Node's own. @throws SwarmError SWARM_ORIGIN_CONFIG */
export async function certificatesOf({ caFile }: HttpSource): Promise<string | undefined> {
  return caFile === undefined ? undefined : (await readBounded(caFile, ORIGIN_SECRET_BYTES_MAX)).text
}

function checkToken(text: string, where: string): string {
  if (token.safeParse(text).success) return text
  throw configFault(`there is no token in ${where}`)
}

/** On Windows rights are no bits of a mode: none are told there. */
async function readBounded(path: string, bytesMax: number): Promise<{ readonly text: string; readonly mode: number }> {
  let handle: FileHandle | undefined
  try {
    // Without O_NONBLOCK (which Windows lacks and does not need) opening a named pipe would wait for its writer.
    handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    const stats = await handle.stat()
    const { size, mode } = stats
    if (!stats.isFile()) throw new Error('it is not a regular file')
    if (size > bytesMax) throw new Error('it is too large')
    const buffer = Buffer.alloc(size)
    const { bytesRead } = await handle.read(buffer, 0, size, 0)
    return { text: buffer.toString('utf8', 0, bytesRead), mode: process.platform === 'win32' ? 0 : mode }
  } catch (error) {
    throw configFault(`${path} cannot be read: ${messageOf(error)}`, error)
  } finally {
    await handle?.close()
  }
}

/** A parser's own message would repeat a piece of the file, which may be a token. */
function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw configFault(`${path} is no JSON`)
  }
}

function isPlainUrl(text: string): boolean {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return false
  const { username, password } = new URL(text)
  return username === '' && password === ''
}

function isInside(text: string): boolean {
  const isPlain = posix.normalize(text) === text && !/[\p{C}\\]/u.test(text)
  return isPlain && !posix.isAbsolute(text) && text !== '.' && !text.split('/').includes('..') && !text.startsWith('-')
}

function configFault(text: string, cause?: unknown): SwarmError {
  return new SwarmError({ code: 'SWARM_ORIGIN_CONFIG' }, text, { cause })
}
