/**
 * The models that this node knows: their cores, what was signed about them, and what its owner decided. Unlike what other
 * stores of `node.db` keep, these were asked for one by one, so nothing is dropped to make room: a full store says so.
 */
import { decodeLayers, formatLayers, type LayerRange, toHex } from '#base'
import { sha256 } from '#crypto'
import { checkManifest, decodeCore } from '#formats'
import { openManifest, type SignedManifest } from '#protocol'
import { StorageError } from './errors.ts'
import {
  KNOWN_CORE_BYTES_MAX,
  KNOWN_MODELS_BYTES_MAX,
  KNOWN_MODELS_MAX,
  MANIFEST_ENVELOPE_BYTES_MAX,
} from './limits.ts'
import { inTransaction, integerOf, prepareRead, type Row, type StoreDeps, textOf } from './rows.ts'

/** What the owner of this node wants with a model. */
export type ModelChoices = {
  /** The user's own file, absolute; undefined: the model lies in the node's store. */
  readonly file: string | undefined
  /** Whether peers may fetch it here. */
  readonly isShared: boolean
}

export type KnownModel = ModelChoices & {
  /** 64 hexadecimal digits. */
  readonly id: string
  /** Canonical; its SHA-256 is the id. */
  readonly core: Uint8Array
  /** What was signed about it, and the envelope; undefined: nobody has, the id alone vouches for it. */
  readonly manifest: (SignedManifest & { readonly bytes: Uint8Array }) | undefined
  /** Unix milliseconds. */
  readonly addedAt: number
  readonly tried: TriedParts
}

/** What of a model was run once, and did what its card says. */
export type TriedParts = {
  /** In order; neighbours are one range. */
  readonly layers: readonly LayerRange[]
  readonly edges: boolean
}

export interface ManifestStore {
  /** All of them, the newest first. Damaged ones count as none. Reads and checks everything: for a start, not for each request. */
  list(): readonly KnownModel[]
  find(id: string): KnownModel | undefined
  /**
   * Keeps a model, or other words about one that is kept.
   * @param model.core checked here @param model.manifest a signed envelope; one of another model is refused
   * @returns undefined: the core is none, or the manifest does not hold or is not this core's
   * @throws StorageError STORAGE_MODELS_FULL, STORAGE_DATABASE
   */
  put(
    model: ModelChoices & { readonly core: Uint8Array; readonly manifest?: Uint8Array | undefined },
  ): KnownModel | undefined
  /** Remembers what was tried of a model, in place of what was before. @throws StorageError STORAGE_DATABASE */
  setTried(id: string, tried: TriedParts): void
  /** @returns whether there was one @throws StorageError STORAGE_DATABASE */
  remove(id: string): boolean
}

type Parts = { readonly core: Uint8Array; readonly manifest: Uint8Array | undefined }
type Checked = Pick<KnownModel, 'id' | 'core' | 'manifest'>

export function createManifestStore(deps: StoreDeps, path: string): ManifestStore {
  const { database, clock, guard } = deps
  const select = 'SELECT id, core, manifest, file, shared, added_at, tried FROM models'
  const all = prepareRead(database, `${select} ORDER BY added_at DESC, id`)
  const one = prepareRead(database, `${select} WHERE id = ?`)
  const save = prepareSave(deps)
  const remove = database.prepare('DELETE FROM models WHERE id = ?')
  const setTried = database.prepare('UPDATE models SET tried = ? WHERE id = ?')
  const failing = <T>(action: () => T): T => {
    try {
      return action()
    } catch (error) {
      if (error instanceof StorageError) throw error
      throw new StorageError({ code: 'STORAGE_DATABASE', path }, `cannot keep a model in ${path}`, { cause: error })
    }
  }
  return {
    list: () =>
      guard.attempt<readonly KnownModel[]>('read the models', [], () =>
        all
          .all()
          .map(knownModel)
          .filter(model => model !== undefined),
      ),
    find: id => guard.attempt('read a model', undefined, () => knownModel(one.get(id))),
    put: ({ core, manifest, file, isShared }) =>
      failing(() => {
        const checked = check({ core, manifest })
        if (checked === undefined) return undefined
        const before = one.get(checked.id) ?? {}
        const addedAt = integerOf(before, 'added_at') ?? clock.now()
        const model = { ...checked, file, isShared, addedAt, tried: triedOf(before) }
        save(model)
        return model
      }),
    setTried: (id, { layers, edges }) =>
      failing(() => {
        setTried.run([...(edges ? ['edges'] : []), ...layers.map(formatLayers)].join(','), id)
      }),
    remove: id => failing(() => Number(remove.run(id).changes) > 0),
  }
}

/** All or nothing, within the bounds. */
function prepareSave({ database }: StoreDeps): (model: KnownModel) => void {
  const upsert = database.prepare(
    `INSERT INTO models (id, core, manifest, file, shared, added_at) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET manifest = excluded.manifest, file = excluded.file, shared = excluded.shared`,
  )
  const usage = database.prepare(
    'SELECT count(*) AS count, coalesce(sum(length(core) + coalesce(length(manifest), 0)), 0) AS bytes FROM models',
  )
  return ({ id, core, manifest, file, isShared, addedAt }) =>
    inTransaction(database, () => {
      upsert.run(id, core, manifest?.bytes ?? null, file ?? null, Number(isShared), Math.trunc(addedAt))
      const { count = 0, bytes = 0 } = usage.get() ?? {}
      if (Number(count) <= KNOWN_MODELS_MAX && Number(bytes) <= KNOWN_MODELS_BYTES_MAX) return
      throw new StorageError(
        { code: 'STORAGE_MODELS_FULL', countMax: KNOWN_MODELS_MAX, bytesMax: KNOWN_MODELS_BYTES_MAX },
        `a node knows ${KNOWN_MODELS_MAX} models at most: remove one (koinon models rm)`,
      )
    })
}

/** A core that is one, and a signed manifest that is about it. */
function check({ core, manifest }: Parts): Checked | undefined {
  if (core.byteLength > KNOWN_CORE_BYTES_MAX || 'code' in decodeCore(core)) return undefined
  const id = toHex(sha256(core))
  if (manifest === undefined) return { id, core: new Uint8Array(core), manifest: undefined }
  if (manifest.byteLength > MANIFEST_ENVELOPE_BYTES_MAX) return undefined
  const opened = openManifest(manifest)
  if ('code' in opened || checkManifest(opened.manifest, core) !== undefined) return undefined
  return { id, core: new Uint8Array(core), manifest: { ...opened, bytes: new Uint8Array(manifest) } }
}

function knownModel(row: Row | undefined): KnownModel | undefined {
  const core = row?.['core']
  if (row === undefined || !(core instanceof Uint8Array)) return undefined
  const manifest = row['manifest']
  const bytes = manifest instanceof Uint8Array ? manifest : undefined
  // A manifest that was damaged leaves the model as it is: its id needs no words.
  const checked = check({ core, manifest: bytes }) ?? check({ core, manifest: undefined })
  const addedAt = integerOf(row, 'added_at')
  if (checked === undefined || checked.id !== textOf(row, 'id') || addedAt === undefined) return undefined
  return { ...checked, file: textOf(row, 'file'), isShared: row['shared'] === 1n, addedAt, tried: triedOf(row) }
}

/** What cannot be read was not tried. */
function triedOf(row: Row): TriedParts {
  const words = (textOf(row, 'tried') ?? '').split(',')
  const layers = words.map(decodeLayers).filter(range => range !== undefined)
  return { layers, edges: words.includes('edges') }
}
