/**
 * A PKCS#11 module in this process: a shared library whose functions are found through C_GetFunctionList. Calls run on
 * threads of the pool, so that a slow token never holds up the event loop; they take turns, because not every module
 * can do two things at once.
 */
import koffi, { type KoffiFunc, type LibraryHandle } from 'koffi'
import { assert, type Clock, messageOf } from '#base'
import { KeyringError } from '../errors.ts'
import { JobQueue, type JobOptions } from '../job-queue.ts'
import { TOKEN_OPEN_MS_MAX, TOKEN_QUEUE_MAX } from '../limits.ts'
import { CKF, CKR, FUNCTIONS, nameOfResult } from './constants.ts'
import { FUNCTION_LIST_OFFSET, initializeBytes, Template } from './memory.ts'

const N = 'unsigned long'
const B = 'uint8_t'
const P = 'void *'

/** Arguments of the functions that are called here. */
const ARGUMENTS = {
  C_Initialize: [P],
  C_Finalize: [P],
  C_GetSlotList: [B, P, P],
  C_GetTokenInfo: [N, P],
  C_OpenSession: [N, N, P, P, P],
  C_CloseSession: [N],
  C_Login: [N, N, P, N],
  C_GetAttributeValue: [N, N, P, N],
  C_FindObjectsInit: [N, P, N],
  C_FindObjects: [N, P, N, P],
  C_FindObjectsFinal: [N],
  C_SignInit: [N, P, N],
  C_Sign: [N, P, N, P, P],
  C_GenerateKeyPair: [N, P, P, N, P, N, P, P],
} as const satisfies Partial<Record<(typeof FUNCTIONS)[number], readonly string[]>>

type FunctionName = keyof typeof ARGUMENTS
type Argument = number | Uint8Array | Template | null
type Native = KoffiFunc<(...values: (number | Uint8Array | null)[]) => number>

/** A function of the module returned something else than CKR_OK. */
export class ResultError extends Error {
  readonly call: FunctionName
  readonly result: number

  constructor(call: FunctionName, result: number) {
    super(`${call} returned ${nameOfResult(result)}`)
    this.call = call
    this.result = result
  }
}

/** Held for good: a library whose handle is collected is unloaded, whatever functions of it are still known. */
const libraries = new Set<LibraryHandle>()

/** Loaded once for each path, for the life of the process: a module that was unloaded is not always one that loads again. */
const loaded = new Map<string, Pkcs11Module>()

export class Pkcs11Module {
  readonly path: string
  readonly #functions: Readonly<Record<FunctionName, Native>>
  readonly #queue: JobQueue
  /** What calls point to, and attributes with them, until they return: a thread works with memory of ours meanwhile. */
  readonly #inUse = new Set<readonly Argument[]>()
  #users = 0
  #isOurs = false

  private constructor(clock: Clock, path: string) {
    this.path = path
    this.#functions = bind(path)
    this.#queue = new JobQueue(clock, { runningMax: 1, waitingMax: TOKEN_QUEUE_MAX })
  }

  /** Loads and initialises a module. Each call is to be followed by one of `release`. @throws KeyringError */
  static async acquire(clock: Clock, path: string): Promise<Pkcs11Module> {
    let module = loaded.get(path)
    if (module === undefined) {
      module = new Pkcs11Module(clock, path)
      loaded.set(path, module)
    }
    await module.#begin()
    return module
  }

  async release(): Promise<void> {
    await this.exclusive({ what: 'the token', timeoutMs: TOKEN_OPEN_MS_MAX }, async () => {
      this.#users--
      if (this.#users > 0 || !this.#isOurs) return
      this.#isOurs = false
      await this.call('C_Finalize', null)
    })
  }

  /**
   * Runs several calls with none of others between them.
   * @throws KeyringError KEYRING_BUSY, KEYRING_TIMEOUT, KEYRING_TOKEN_FAILED; else what `job` throws
   */
  exclusive<T>(options: JobOptions, job: () => Promise<T>): Promise<T> {
    return this.#queue.run(options, async () => {
      try {
        return await job()
      } catch (error) {
        if (!(error instanceof ResultError)) throw error
        const fault = {
          code: 'KEYRING_TOKEN_FAILED',
          call: error.call,
          reason: nameOfResult(error.result),
        } as const
        throw new KeyringError(fault, `the token failed: ${error.message}`, { cause: error })
      }
    })
  }

  /** Only from within `exclusive`. @throws ResultError */
  async call(name: FunctionName, ...values: Argument[]): Promise<void> {
    const result = await this.tryCall(name, ...values)
    if (result !== CKR.ok) throw new ResultError(name, result)
  }

  /** Only from within `exclusive`. @returns what the function returned */
  tryCall(name: FunctionName, ...values: Argument[]): Promise<number> {
    assert(values.length === ARGUMENTS[name].length, `the arguments of ${name}`)
    this.#inUse.add(values)
    const plain = values.map(value => (value instanceof Template ? value.bytes : value))
    return new Promise((resolve, reject) => {
      this.#functions[name].async(...plain, (error: unknown, result: number) => {
        this.#inUse.delete(values)
        if (error === null || error === undefined) resolve(result)
        else reject(new Error(`${name} could not be called: ${messageOf(error)}`))
      })
    })
  }

  async #begin(): Promise<void> {
    await this.exclusive({ what: 'the token', timeoutMs: TOKEN_OPEN_MS_MAX }, async () => {
      if (this.#users === 0) {
        let result = await this.tryCall('C_Initialize', initializeBytes(CKF.osLockingOk))
        if (result === CKR.cantLock) result = await this.tryCall('C_Initialize', null)
        // Somebody else in this process uses the module, and will end it.
        if (result !== CKR.ok && result !== CKR.alreadyInitialized) throw new ResultError('C_Initialize', result)
        this.#isOurs = result === CKR.ok
      }
      this.#users++
    })
  }
}

function bind(path: string): Readonly<Record<FunctionName, Native>> {
  try {
    const library = koffi.load(path)
    libraries.add(library)
    const getFunctionList = library.func('C_GetFunctionList', N, [koffi.out(koffi.pointer(P))])
    const list: [bigint | null] = [null]
    const result = Number(getFunctionList(list))
    if (result !== CKR.ok || list[0] === null) throw new Error(`C_GetFunctionList returned ${nameOfResult(result)}`)
    const functions = Object.entries(ARGUMENTS).map(([name, types]) => [name, functionAt(list[0], name, types)])
    return Object.fromEntries(functions) as Record<FunctionName, Native>
  } catch (cause) {
    const sentence = `${path} cannot be used as a PKCS#11 module: ${messageOf(cause)}`
    throw new KeyringError({ code: 'KEYRING_MODULE', module: path }, sentence, { cause })
  }
}

function functionAt(list: bigint | null, name: string, types: readonly string[]): Native {
  const index = FUNCTIONS.findIndex(candidate => candidate === name)
  const address = koffi.decode(list, FUNCTION_LIST_OFFSET + index * koffi.sizeof(P), P) as bigint | null
  if (address === null) throw new Error(`it has no ${name}`)
  return koffi.decode(address, koffi.proto(N, [...types])) as Native
}
