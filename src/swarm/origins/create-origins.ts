/** From the file of sources to the origins of one model: which of them have it, and under which name. */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { isAbsolute, join, posix } from 'node:path'
import { abortError, type Clock, codeOf, type Logger, messageOf, type Random, withDeadline } from '#base'
import { SwarmError } from '../errors.ts'
import { ORIGIN_PROBE_MS_MAX, ORIGIN_SOURCES_MAX, ORIGINS_SUGGESTED_MAX } from '../limits.ts'
import type { Origin } from '../types.ts'
import { type AddressRules, createAddressRules, decodeAllowance } from './address-rules.ts'
import {
  certificatesOf,
  type FolderSource,
  type HttpSource,
  parseSources,
  type RsyncSource,
  type Source,
  type SourcesConfig,
  tokenOf,
} from './config.ts'
import { openFolderOrigin } from './folder.ts'
import { createHttpOrigin } from './http.ts'
import { placeOf, type Resolve } from './http-client.ts'
import { createRsyncOrigin } from './rsync.ts'
import { STAGING_PREFIX } from './rsync-window.ts'

export type OriginsDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Where tokens are looked up (`tokenEnv`). */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Folder of this node alone for what rsync has on its way. Made where it is missing; what a killed node left is removed. */
  readonly stagingDir: string
  /** @default the system's resolver */
  readonly resolve?: Resolve
  /**
   * What this node takes in at most. Whoever asks for ranges keeps to it; rsync goes ahead of what it was asked for, so its own
   * limit is no higher. @default no limit
   */
  readonly bytesPerSecondMax?: number | undefined
}

export type WantedModel = {
  /** 64 hexadecimal digits. */
  readonly id: string
  /** Of the model's GGUF file. */
  readonly fileBytes: number
  /** A label: tried as the name of a file, with and without ".gguf", where it looks like one. */
  readonly name: string
}

export type FindOptions = {
  readonly signal: AbortSignal
  /** Is told of each source that should have it and does not, or cannot be used. `name`: the source's, for people. */
  readonly onFault?: (name: string, error: Error) => void
}

export interface Origins {
  /**
   * The origins of a model. Those whose file the configuration names are not asked yet; where a name has to be guessed, one
   * byte is fetched. Whoever gets them closes them.
   * @throws the signal's reason
   */
  find(model: WantedModel, options: FindOptions): Promise<readonly Origin[]>
  /**
   * Origins that the owner names for this once: a source's name, an http or https URL, or an absolute path of a folder or file.
   * For URLs the same hosts are allowed as for the sources; no token goes to them. One byte is fetched of each. Whoever gets
   * them closes them.
   * @throws the signal's reason
   */
  chosen(model: WantedModel, places: readonly string[], options: FindOptions): Promise<readonly Origin[]>
  /**
   * Origins by URLs that a manifest or a peer suggests: those that the owner allows, by default none. No token goes to them.
   * Whoever gets them closes them.
   */
  suggested(model: WantedModel, urls: readonly string[]): readonly Origin[]
}

type Rules = { readonly own: AddressRules; readonly suggested: AddressRules | undefined }

/** One way to a model's file. `isNamed`: the configuration names it, so there is nothing to try. */
type Candidate = { readonly isNamed: boolean; readonly open: () => Promise<Origin> }

/** What a label may be made of to be tried as a file's name: it may come from anybody. */
const FILE_LABEL = /^[\p{L}\p{N}][\p{L}\p{N} ._+()-]{0,199}$/u

/** @throws SwarmError SWARM_ORIGIN_CONFIG, SWARM_ORIGIN_SPACE */
export async function createOrigins(deps: OriginsDeps, config: SourcesConfig): Promise<Origins> {
  const { sources = [], allow = [], allowSuggested = false } = config
  const rules: Rules = { own: rulesOf(allow), suggested: suggestedRules(allowSuggested) }
  if (sources.some(source => source.kind === 'rsync')) await prepareStaging(deps.stagingDir)
  const findDeps: FindDeps = { ...deps, rules: rules.own }
  return {
    find: (model, options) => findAmong(findDeps, sources, { model, options }),
    chosen: (model, places, options) => {
      const among = places.slice(0, ORIGIN_SOURCES_MAX).flatMap(place => sourcesAt(sources, { place, model, options }))
      return findAmong(findDeps, among, { model, options, isTried: true })
    },
    suggested: (model, urls) =>
      urls.slice(0, ORIGINS_SUGGESTED_MAX).flatMap(url => suggestedAt(deps, { url, model, rules, allowSuggested })),
  }
}

/** What a place that the owner named is among the sources, or by itself. */
function sourcesAt(
  sources: readonly Source[],
  { place, model, options }: Search & { readonly place: string },
): readonly Source[] {
  const named = sources.filter(source => labelOf(source) === place)
  if (named.length > 0) return named
  const source = isAbsolute(place) ? { kind: 'folder', path: place } : { kind: 'http', models: { [model.id]: place } }
  try {
    return parseSources({ sources: [source] }).sources ?? []
  } catch (error) {
    if (!(error instanceof SwarmError)) throw error
    const text = 'that is no name of a source, no http or https URL without a user and a password, and no absolute path'
    // A URL with a password is not to get into a log.
    options.onFault?.(
      place.includes('@') ? 'a URL' : place,
      new SwarmError({ code: 'SWARM_ORIGIN_CONFIG' }, text, { cause: error }),
    )
    return []
  }
}

type Search = {
  readonly model: WantedModel
  readonly options: FindOptions
  /** One byte is fetched of each, so that its owner hears at once of one that cannot be used. @default only of guessed ones */
  readonly isTried?: boolean
}

async function findAmong(deps: FindDeps, sources: readonly Source[], search: Search): Promise<readonly Origin[]> {
  const found = await Promise.all(sources.map(source => findAt(deps, source, search)))
  const origins = found.filter(origin => origin !== undefined)
  const { signal } = search.options
  if (!signal.aborted) return origins
  await Promise.all(origins.map(origin => origin.close()))
  throw abortError(signal)
}

type FindDeps = OriginsDeps & { readonly rules: AddressRules }

async function findAt(
  deps: FindDeps,
  source: Source,
  { model, options, isTried = false }: Search,
): Promise<Origin | undefined> {
  const name = labelOf(source)
  let fault: unknown
  try {
    for (const candidate of await candidatesOf(deps, source, model)) {
      try {
        const isKnown = candidate.isNamed && !isTried
        return await openCandidate(deps, { ...candidate, isNamed: isKnown }, options.signal)
      } catch (error) {
        // A worse fault than that one of the names is not there says more.
        if (fault === undefined || codeOf(error) !== 'SWARM_ORIGIN_NOT_FOUND') fault = error
      }
    }
  } catch (error) {
    fault = error
  }
  if (fault === undefined || options.signal.aborted) return undefined
  const error = fault instanceof Error ? fault : new Error(messageOf(fault))
  deps.log.warn('a source cannot be used', { name, code: codeOf(error), reason: error.message })
  options.onFault?.(name, error)
  return undefined
}

async function openCandidate(deps: FindDeps, { isNamed, open }: Candidate, signal: AbortSignal): Promise<Origin> {
  const origin = await open()
  if (isNamed) return origin
  try {
    const options = { what: `an answer of ${origin.name}`, timeoutMs: ORIGIN_PROBE_MS_MAX, signal }
    await withDeadline(deps.clock, options, async signal => {
      for await (const bytes of origin.fetch({ offset: 0, length: 1 }, { signal })) void bytes
    })
    return origin
  } catch (error) {
    await origin.close()
    throw error
  }
}

async function candidatesOf(deps: FindDeps, source: Source, model: WantedModel): Promise<readonly Candidate[]> {
  if (source.kind === 'http') return httpCandidates(deps, source, model)
  if (source.kind === 'rsync') return rsyncCandidates(deps, source, model)
  return [{ isNamed: true, open: () => openFolder(deps, source, model) }]
}

async function httpCandidates(deps: FindDeps, source: HttpSource, model: WantedModel): Promise<readonly Candidate[]> {
  const named = source.models?.[model.id]
  const places = named === undefined ? (source.base === undefined ? [] : namesOf(source, model)) : [named]
  if (places.length === 0) return []
  const [token, ca] = [await tokenOf(source, deps.env), await certificatesOf(source)]
  const { name, parallel, bytesPerSecond } = source
  return places.map(place => ({
    isNamed: named !== undefined,
    open: async () =>
      createHttpOrigin(deps, {
        url: urlOf(place, source.base),
        fileBytes: model.fileBytes,
        ...(name === undefined ? {} : { name }),
        ...(token === undefined ? {} : { token }),
        ...(ca === undefined ? {} : { ca }),
        ...(parallel === undefined ? {} : { parallel }),
        ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
      }),
  }))
}

function rsyncCandidates(deps: FindDeps, source: RsyncSource, model: WantedModel): readonly Candidate[] {
  const { host, user, port, identityFile, knownHostsFile, name } = source
  const limits = [source.bytesPerSecond, deps.bytesPerSecondMax].filter(limit => limit !== undefined)
  const named = source.models?.[model.id]
  return (named === undefined ? namesOf(source, model) : [named]).map(file => ({
    isNamed: named !== undefined,
    open: async () =>
      createRsyncOrigin(deps, {
        machine: { host, user, identityFile, knownHostsFile, ...(port === undefined ? {} : { port }) },
        path: posix.join(source.path, file),
        fileBytes: model.fileBytes,
        stagingDir: deps.stagingDir,
        ...(name === undefined ? {} : { name }),
        ...(limits.length === 0 ? {} : { bytesPerSecond: Math.min(...limits) }),
      }),
  }))
}

function openFolder(
  deps: FindDeps,
  source: FolderSource,
  { id, fileBytes, name: label }: WantedModel,
): Promise<Origin> {
  const { path, name, bytesPerSecond } = source
  const named = source.models?.[id]
  return openFolderOrigin(deps, {
    path,
    fileBytes,
    files: named === undefined ? namesOf(source, { name: label }) : [named],
    bySize: named === undefined && source.files === undefined,
    ...(name === undefined ? {} : { name }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
  })
}

/** The names that a model's file may have: what the owner says, else its label. */
function namesOf({ files }: Pick<Source, 'files'>, { name }: Pick<WantedModel, 'name'>): readonly string[] {
  if (files !== undefined) return files
  if (!FILE_LABEL.test(name)) return []
  return /\.gguf$/i.test(name) ? [name] : [`${name}.gguf`, name]
}

function urlOf(place: string, base: string | undefined): URL {
  if (/^https?:\/\//i.test(place)) return new URL(place)
  return new URL(place.split('/').map(encodeURIComponent).join('/'), base)
}

function suggestedAt(
  deps: OriginsDeps,
  {
    url: text,
    model,
    rules,
    allowSuggested,
  }: {
    readonly url: string
    readonly model: WantedModel
    readonly rules: Rules
    readonly allowSuggested: boolean | readonly string[]
  },
): readonly Origin[] {
  if (rules.suggested === undefined || !URL.canParse(text)) return []
  const url = new URL(text)
  try {
    const origin = createHttpOrigin({ ...deps, rules: rules.suggested }, { url, fileBytes: model.fileBytes })
    const isNamed = rules.suggested.isAllowed(placeOf(url))
    if (isNamed || (allowSuggested === true && url.protocol === 'https:')) return [origin]
    void origin.close() // It has no connection yet: there is nothing to wait for.
  } catch (error) {
    if (!(error instanceof SwarmError)) throw error
    deps.log.debug('a suggested URL is not used', { code: error.code })
  }
  return []
}

function suggestedRules(allowSuggested: boolean | readonly string[]): AddressRules | undefined {
  // The hosts that the owner's own sources may use are nothing that others get this node to call.
  if (allowSuggested === false) return undefined
  return rulesOf(allowSuggested === true ? [] : allowSuggested)
}

function rulesOf(texts: readonly string[]): AddressRules {
  return createAddressRules(texts.map(decodeAllowance).filter(entry => entry !== undefined))
}

function labelOf(source: Source): string {
  if (source.name !== undefined) return source.name
  if (source.kind === 'http') return source.base === undefined ? 'web' : new URL(source.base).host
  return source.kind === 'rsync' ? source.host : source.path
}

async function prepareStaging(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const left = (await readdir(directory)).filter(name => name.startsWith(STAGING_PREFIX))
    for (const name of left) await rm(join(directory, name), { recursive: true, force: true })
  } catch (error) {
    const text = `there is no place for what comes by rsync: ${messageOf(error)}`
    throw new SwarmError({ code: 'SWARM_ORIGIN_SPACE' }, text, { cause: error })
  }
}
