/**
 * The C functions of ggml that Koinon calls, with types. Nothing here decides anything: one line is one function of
 * `ggml.h`, `ggml-alloc.h` or `ggml-backend.h` of the pinned version. A failed assertion inside ggml ends the process,
 * so shapes are checked before they come here.
 *
 * ggml writes a shape with the fastest dimension first: a matrix `[columns, rows]` has `columns` numbers side by side.
 * `mulMat(w [in, out], x [in, rows])` is `[out, rows]`.
 */
import koffi, { type LibraryHandle } from 'koffi'

declare const kind: unique symbol
/** An address in the process; the name says of what, so that a tensor is not passed for a buffer. */
type Address<Name extends string> = bigint & { readonly [kind]: Name }

export type Context = Address<'ggml_context'>
export type Tensor = Address<'ggml_tensor'>
export type Graph = Address<'ggml_cgraph'>
export type Backend = Address<'ggml_backend'>
export type Device = Address<'ggml_backend_device'>
export type Registry = Address<'ggml_backend_reg'>
export type BufferType = Address<'ggml_backend_buffer_type'>
export type Buffer = Address<'ggml_backend_buffer'>
export type Allocator = Address<'ggml_gallocr'>
export type FunctionPointer = Address<'function'>

/** Ids of `enum ggml_type` that graphs name; those of weights come from the file. */
export const F32 = 0
export const F16 = 1
export const I32 = 26
export const I64 = 27

/** `enum ggml_backend_dev_type`. */
export const DEVICE_CPU = 0

/** `ggml_flash_attn_ext_set_prec`: accumulate attention in f32. */
export const PRECISION_F32 = 10

/** Offset of `buffer` in `struct ggml_tensor`: behind the type and its padding, on every 64-bit platform. */
const TENSOR_BUFFER_OFFSET = 8

const P = 'void *'
const I = 'int'
const N = 'int64_t'
const S = 'size_t'
const F = 'float'

// The one structure that is passed by value. A name may be declared once per process, hence here.
const InitParams = koffi.struct({ mem_size: S, mem_buffer: P, no_alloc: 'bool' })

/** The functions of `libggml-base` and `libggml`. */
export type Ggml = ReturnType<typeof bindGgml>

/** Looks every function up. @throws Error where one is missing: another version of the libraries */
export function bindGgml(base: LibraryHandle, main: LibraryHandle) {
  return { ...bindMemory(base), ...bindOperations(base), ...bindBackends(base, main) }
}

/** Contexts (arenas of tensor descriptions), tensors and graphs. */
function bindMemory(base: LibraryHandle) {
  const init = base.func('ggml_init', P, [InitParams])
  return {
    version: base.func('ggml_version', 'str', []) as () => string,
    commit: base.func('ggml_commit', 'str', []) as () => string,
    /** An arena for descriptions only: data is allocated by a back end. */
    newContext: (size: number): Context => init({ mem_size: size, mem_buffer: null, no_alloc: true }),
    freeContext: base.func('ggml_free', 'void', [P]) as (context: Context) => void,
    resetContext: base.func('ggml_reset', 'void', [P]) as (context: Context) => void,
    tensorOverhead: base.func('ggml_tensor_overhead', S, []) as () => number,
    graphOverhead: base.func('ggml_graph_overhead_custom', S, [S, 'bool']) as (nodes: number, grads: boolean) => number,
    newTensor1d: base.func('ggml_new_tensor_1d', P, [P, I, N]) as (c: Context, type: number, n0: number) => Tensor,
    newTensor2d: base.func('ggml_new_tensor_2d', P, [P, I, N, N]) as (
      c: Context,
      type: number,
      ...dims: [number, number]
    ) => Tensor,
    byteSize: base.func('ggml_nbytes', S, [P]) as (t: Tensor) => number,
    dataOf: base.func('ggml_get_data', P, [P]) as (t: Tensor) => bigint | null,
    setInput: base.func('ggml_set_input', 'void', [P]) as (t: Tensor) => void,
    setOutput: base.func('ggml_set_output', 'void', [P]) as (t: Tensor) => void,
    newGraph: base.func('ggml_new_graph_custom', P, [P, S, 'bool']) as (c: Context, nodes: number, g: boolean) => Graph,
    expand: base.func('ggml_build_forward_expand', 'void', [P, P]) as (graph: Graph, t: Tensor) => void,
    nodeCount: base.func('ggml_graph_n_nodes', I, [P]) as (graph: Graph) => number,
    node: base.func('ggml_graph_node', P, [P, I]) as (graph: Graph, index: number) => Tensor,
    describeOperation: base.func('ggml_op_desc', 'str', [P]) as (t: Tensor) => string,
    /** Writes the field `buffer`, as llama.cpp does to ask a device about a weight that is not allocated yet. */
    pretendBuffer: (t: Tensor, buffer: Buffer | null): void => koffi.encode(t, TENSOR_BUFFER_OFFSET, P, buffer),
  }
}

/** Operations: each adds a description to the context and returns it; nothing is computed yet. */
function bindOperations(base: LibraryHandle) {
  type Unary = (c: Context, a: Tensor) => Tensor
  type Binary = (c: Context, a: Tensor, b: Tensor) => Tensor
  const unary = (name: string): Unary => base.func(name, P, [P, P])
  const binary = (name: string): Binary => base.func(name, P, [P, P, P])
  return {
    add: binary('ggml_add'),
    mul: binary('ggml_mul'),
    mulMat: binary('ggml_mul_mat'),
    getRows: binary('ggml_get_rows'),
    tanh: unary('ggml_tanh'),
    swiglu: binary('ggml_swiglu_split'),
    geglu: binary('ggml_geglu_split'),
    scale: base.func('ggml_scale', P, [P, P, F]) as (c: Context, a: Tensor, factor: number) => Tensor,
    rmsNorm: base.func('ggml_rms_norm', P, [P, P, F]) as (c: Context, a: Tensor, epsilon: number) => Tensor,
    setRows: base.func('ggml_set_rows', P, [P, P, P, P]) as (
      c: Context,
      into: Tensor,
      ...source: [rows: Tensor, indices: Tensor]
    ) => Tensor,
    reshape2d: base.func('ggml_reshape_2d', P, [P, P, N, N]) as (
      c: Context,
      a: Tensor,
      ...dims: [number, number]
    ) => Tensor,
    reshape3d: base.func('ggml_reshape_3d', P, [P, P, N, N, N]) as (
      c: Context,
      a: Tensor,
      ...dims: [number, number, number]
    ) => Tensor,
    view3d: base.func('ggml_view_3d', P, [P, P, N, N, N, S, S, S]) as (
      c: Context,
      a: Tensor,
      ...layout: [n0: number, n1: number, n2: number, stride1: number, stride2: number, offset: number]
    ) => Tensor,
    permute: base.func('ggml_permute', P, [P, P, I, I, I, I]) as (
      c: Context,
      a: Tensor,
      ...axes: [number, number, number, number]
    ) => Tensor,
    rope: base.func('ggml_rope_ext', P, [P, P, P, P, I, I, I, F, F, F, F, F, F]) as (
      c: Context,
      a: Tensor,
      ...rope: [
        positions: Tensor,
        factors: Tensor | null,
        dimensions: number,
        mode: number,
        contextOriginal: number,
        base: number,
        scale: number,
        extrapolation: number,
        attention: number,
        betaFast: number,
        betaSlow: number,
      ]
    ) => Tensor,
    flashAttention: base.func('ggml_flash_attn_ext', P, [P, P, P, P, P, F, F, F]) as (
      c: Context,
      q: Tensor,
      ...attention: [k: Tensor, v: Tensor, mask: Tensor, scale: number, alibiMax: number, softCap: number]
    ) => Tensor,
    setFlashAttentionPrecision: base.func('ggml_flash_attn_ext_set_prec', 'void', [P, I]) as (
      a: Tensor,
      precision: number,
    ) => void,
  }
}

/** Devices, buffers and computing. */
function bindBackends(base: LibraryHandle, main: LibraryHandle) {
  const loadAll = main.func('ggml_backend_load_all_from_path', 'void', ['str']) as (directory: string) => void
  return {
    loadBackends: (directory: string): string[] => collectLog(base, () => loadAll(directory)),
    deviceCount: main.func('ggml_backend_dev_count', S, []) as () => number,
    device: main.func('ggml_backend_dev_get', P, [S]) as (index: number) => Device,
    deviceType: base.func('ggml_backend_dev_type', I, [P]) as (device: Device) => number,
    deviceName: base.func('ggml_backend_dev_name', 'str', [P]) as (device: Device) => string,
    deviceDescription: base.func('ggml_backend_dev_description', 'str', [P]) as (device: Device) => string,
    /** Bytes free and in all, into two arrays of one. */
    deviceMemory: base.func('ggml_backend_dev_memory', 'void', [P, P, P]) as (
      device: Device,
      free: BigUint64Array,
      total: BigUint64Array,
    ) => void,
    deviceRegistry: base.func('ggml_backend_dev_backend_reg', P, [P]) as (device: Device) => Registry,
    deviceBufferType: base.func('ggml_backend_dev_buffer_type', P, [P]) as (device: Device) => BufferType,
    initDevice: base.func('ggml_backend_dev_init', P, [P, 'str']) as (device: Device, params: null) => Backend | null,
    supports: base.func('ggml_backend_dev_supports_op', 'bool', [P, P]) as (device: Device, op: Tensor) => boolean,
    procedure: base.func('ggml_backend_reg_get_proc_address', P, [P, 'str']) as (
      registry: Registry,
      name: string,
    ) => FunctionPointer | null,
    /** Fills in the defaults of `struct ggml_threadpool_params`. */
    initThreadPoolParams: base.func('ggml_threadpool_params_init', 'void', [P, I]) as (
      params: Uint8Array,
      threads: number,
    ) => void,
    freeBackend: base.func('ggml_backend_free', 'void', [P]) as (backend: Backend) => void,
    compute: base.func('ggml_backend_graph_compute', I, [P, P]) as (backend: Backend, graph: Graph) => number,
    bufferTypeName: base.func('ggml_backend_buft_name', 'str', [P]) as (type: BufferType) => string,
    bufferTypeIsHost: base.func('ggml_backend_buft_is_host', 'bool', [P]) as (type: BufferType) => boolean,
    allocateBuffer: base.func('ggml_backend_buft_alloc_buffer', P, [P, S]) as (
      type: BufferType,
      size: number,
    ) => Buffer | null,
    allocateTensors: base.func('ggml_backend_alloc_ctx_tensors_from_buft', P, [P, P]) as (
      context: Context,
      type: BufferType,
    ) => Buffer | null,
    freeBuffer: base.func('ggml_backend_buffer_free', 'void', [P]) as (buffer: Buffer) => void,
    clearBuffer: base.func('ggml_backend_buffer_clear', 'void', [P, 'uint8_t']) as (b: Buffer, value: number) => void,
    bufferSize: base.func('ggml_backend_buffer_get_size', S, [P]) as (buffer: Buffer) => number,
    /** Tells the scheduler-less graph that this buffer holds weights; some back ends lay them out by it. */
    setBufferUsage: base.func('ggml_backend_buffer_set_usage', 'void', [P, I]) as (b: Buffer, usage: number) => void,
    writeTensor: base.func('ggml_backend_tensor_set', 'void', [P, P, S, S]) as (
      t: Tensor,
      bytes: ArrayBufferView,
      ...range: [offset: number, size: number]
    ) => void,
    readTensor: base.func('ggml_backend_tensor_get', 'void', [P, P, S, S]) as (
      t: Tensor,
      into: ArrayBufferView,
      ...range: [offset: number, size: number]
    ) => void,
    fillTensor: base.func('ggml_backend_tensor_memset', 'void', [P, 'uint8_t', S, S]) as (
      t: Tensor,
      value: number,
      ...range: [offset: number, size: number]
    ) => void,
    newAllocator: base.func('ggml_gallocr_new', P, [P]) as (type: BufferType) => Allocator,
    freeAllocator: base.func('ggml_gallocr_free', 'void', [P]) as (allocator: Allocator) => void,
    reserveGraph: base.func('ggml_gallocr_reserve', 'bool', [P, P]) as (a: Allocator, graph: Graph) => boolean,
    allocateGraph: base.func('ggml_gallocr_alloc_graph', 'bool', [P, P]) as (a: Allocator, graph: Graph) => boolean,
    allocatedBytes: base.func('ggml_gallocr_get_buffer_size', S, [P, I]) as (a: Allocator, buffer: number) => number,
  }
}

/**
 * Runs `action` and returns the lines that ggml logged meanwhile, then gives the log back to stderr. Only for actions
 * on the calling thread: ggml's own threads must never call into JavaScript.
 */
function collectLog(base: LibraryHandle, action: () => void): string[] {
  const lines: string[] = []
  const setLog = base.func('ggml_log_set', 'void', [P, P]) as (callback: bigint | null, data: null) => void
  const type = koffi.pointer(koffi.proto('void', [I, 'str', P]))
  const callback = koffi.register((_level: number, text: string) => void lines.push(text.trimEnd()), type)
  setLog(callback, null)
  try {
    action()
  } finally {
    setLog(null, null)
    koffi.unregister(callback)
  }
  return lines
}

/** `enum ggml_backend_buffer_usage`: weights. */
export const USAGE_WEIGHTS = 1

/** A tensor's own memory, without a copy: valid as long as its buffer is. @throws TypeError where it has no place yet */
export function memoryOf(ggml: Ggml, tensor: Tensor): Uint8Array {
  const address = ggml.dataOf(tensor)
  if (address === null) throw new TypeError('the tensor has no place in memory')
  return new Uint8Array(koffi.view(address, ggml.byteSize(tensor)))
}

/** Makes a function that a back end handed out callable. The caller knows its signature and casts. */
export function procedureAt(
  address: FunctionPointer,
  result: string,
  args: readonly string[],
): (...args: never[]) => unknown {
  return koffi.decode(address, koffi.proto(result, [...args]))
}

/** Reads a null-terminated array of pointers. */
export function readPointers(array: bigint, countMax: number): bigint[] {
  const pointers: bigint[] = []
  for (let index = 0; index < countMax; index++) {
    const pointer: bigint | null = koffi.decode(array, index * 8, P)
    if (pointer === null || pointer === 0n) break
    pointers.push(pointer)
  }
  return pointers
}
