/**
 * A file of a local folder (a disk of somebody, a network share) as an origin. Names may come from others, so a name leads
 * to a regular file inside the folder, whatever links lie there, or to nothing.
 */
import { constants, type FileHandle, open, readdir, readlink, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'
import { abortError, assert, type Clock, messageOf } from '#base'
import { SwarmError } from '../errors.ts'
import { FOLDER_FILES_MAX, ORIGIN_READ_BYTES } from '../limits.ts'
import type { Origin } from '../types.ts'
import { createPace } from './pace.ts'

export type FolderOriginOptions = {
  /** A folder, or one file. */
  readonly path: string
  readonly fileBytes: number
  /** Paths within the folder that are looked at first, in order. */
  readonly files?: readonly string[]
  /** Whether a file of the right length is taken whatever its name. Its bytes are verified like all others. @default false */
  readonly bySize?: boolean
  /** For people. @default the path */
  readonly name?: string
  /** @default no limit */
  readonly bytesPerSecond?: number
}

/** Reading at once; a disk does not get faster by more. */
const PARALLEL = 2

/**
 * Finds the model's file in a folder.
 * @throws SwarmError SWARM_ORIGIN_NOT_FOUND, SWARM_ORIGIN_SIZE, SWARM_ORIGIN_REFUSED (a link that leads out, no regular file)
 */
export async function openFolderOrigin(deps: { readonly clock: Clock }, options: FolderOriginOptions): Promise<Origin> {
  const { path, fileBytes, name = path } = options
  const { root, candidates } = await lookInto(options)
  let fault = notFound(name)
  for (const candidate of candidates) {
    try {
      const handle = await openInside(root, candidate)
      try {
        const state = await stampOf(handle)
        if (state.size === BigInt(fileBytes))
          return toOrigin(deps, { ...options, name }, { root, candidate, stamp: state.text })
        fault = sizeFault(name, Number(state.size), fileBytes)
      } finally {
        await handle.close()
      }
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error
      if (error.code !== 'SWARM_ORIGIN_NOT_FOUND') fault = error
    }
  }
  throw fault
}

async function lookInto(options: FolderOriginOptions): Promise<{ root: string; candidates: readonly string[] }> {
  const { path, files = [], bySize = false, name = path } = options
  try {
    const real = await realpath(path)
    if (!(await stat(real)).isDirectory()) return { root: dirname(real), candidates: [basename(real)] }
    return { root: real, candidates: bySize ? [...files, ...(await filesIn(real))] : files }
  } catch (error) {
    throw notFound(name, error)
  }
}

async function filesIn(root: string): Promise<readonly string[]> {
  const entries = await readdir(root, { withFileTypes: true })
  return entries
    .filter(entry => entry.isFile() && /\.gguf$/i.test(entry.name))
    .slice(0, FOLDER_FILES_MAX)
    .map(entry => entry.name)
}

type Found = { readonly root: string; readonly candidate: string; readonly stamp: string }

function toOrigin(
  deps: { readonly clock: Clock },
  options: FolderOriginOptions & { readonly name: string },
  { root, candidate, stamp }: Found,
): Origin {
  const { name, fileBytes, bytesPerSecond } = options
  const closing = new AbortController()
  const pace = createPace(deps.clock, bytesPerSecond)
  return {
    kind: 'folder',
    name,
    parallel: PARALLEL,
    fetch: async function* ({ offset, length }, { signal: callers }) {
      assert(offset >= 0 && length >= 0 && offset + length <= fileBytes, 'a range lies within its file')
      const signal = AbortSignal.any([callers, closing.signal])
      const handle = await openInside(root, candidate)
      try {
        if ((await stampOf(handle)).text !== stamp) throw changed(name)
        for (let done = 0; done < length; ) {
          if (signal.aborted) throw abortError(signal)
          const bytes = new Uint8Array(Math.min(ORIGIN_READ_BYTES, length - done))
          const bytesRead = await readAt(handle, bytes, { position: offset + done, name })
          if (bytesRead === 0) throw changed(name)
          await pace.take(bytesRead, signal)
          done += bytesRead
          yield bytes.subarray(0, bytesRead)
        }
      } finally {
        await handle.close()
      }
    },
    close: () => {
      closing.abort(new SwarmError({ code: 'SWARM_ORIGIN_CLOSED' }, `${name} was closed`))
      return Promise.resolve()
    },
  }
}

async function readAt(
  handle: FileHandle,
  bytes: Uint8Array,
  { position, name }: { readonly position: number; readonly name: string },
): Promise<number> {
  try {
    return (await handle.read(bytes, 0, bytes.byteLength, position)).bytesRead
  } catch (error) {
    const text = `${name} cannot be read: ${messageOf(error)}`
    throw new SwarmError({ code: 'SWARM_ORIGIN_UNREACHABLE' }, text, { cause: error })
  }
}

/** @throws SwarmError SWARM_ORIGIN_NOT_FOUND, SWARM_ORIGIN_REFUSED */
async function openInside(root: string, candidate: string): Promise<FileHandle> {
  const isInside = (path: string): boolean => path.startsWith(root.endsWith(sep) ? root : `${root}${sep}`)
  let real: string
  try {
    real = await realpath(join(root, candidate))
  } catch (error) {
    throw notFound(candidate, error)
  }
  if (!isInside(real)) throw refused(candidate, 'leads out of its folder')
  const handle = await openRegular(real, candidate)
  try {
    // Between the look and the opening a folder on the way may have become a link; Linux tells what was opened.
    if (process.platform === 'linux' && !isInside(await readlink(`/proc/self/fd/${handle.fd}`))) {
      throw refused(candidate, 'leads out of its folder')
    }
    return handle
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function openRegular(path: string, candidate: string): Promise<FileHandle> {
  let handle: FileHandle
  try {
    // Without O_NONBLOCK opening a named pipe would wait for its writer. Windows has neither.
    handle = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
  } catch (error) {
    throw refused(candidate, `cannot be opened: ${messageOf(error)}`, error)
  }
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw refused(candidate, 'is no regular file')
}

/** Which file it is, and in which state. */
async function stampOf(handle: FileHandle): Promise<{ readonly size: bigint; readonly text: string }> {
  const { size, dev, ino, mtimeNs, ctimeNs } = await handle.stat({ bigint: true })
  return { size, text: [dev, ino, size, mtimeNs, ctimeNs].join(' ') }
}

function notFound(name: string, cause?: unknown): SwarmError {
  return new SwarmError({ code: 'SWARM_ORIGIN_NOT_FOUND' }, `${name} has no file of this model`, { cause })
}

function refused(candidate: string, what: string, cause?: unknown): SwarmError {
  return new SwarmError({ code: 'SWARM_ORIGIN_REFUSED' }, `${candidate} ${what}`, { cause })
}

function sizeFault(name: string, bytes: number, expectedBytes: number): SwarmError {
  const text = `the file at ${name} has ${bytes} bytes, the model's has ${expectedBytes}: it is another file`
  return new SwarmError({ code: 'SWARM_ORIGIN_SIZE', bytes, expectedBytes }, text)
}

function changed(name: string): SwarmError {
  return new SwarmError({ code: 'SWARM_ORIGIN_CHANGED' }, `the file at ${name} was changed meanwhile`)
}
