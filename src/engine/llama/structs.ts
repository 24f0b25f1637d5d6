/**
 * The structures that libllama takes and returns by value, as llama.cpp v0.4.0 declares them. `openRuntime` refuses any
 * other version, so these layouts hold. All of them are filled by libllama's own `…_default_params` and changed in a few
 * fields, so what is not named in `ModelParams`, `ContextParams` and `QuantizeParams` keeps its default.
 */
import koffi from 'koffi'

const POINTER = 'void *'

export const MODEL_PARAMS = koffi.struct({
  devices: POINTER,
  tensor_buft_overrides: POINTER,
  n_gpu_layers: 'int32',
  split_mode: 'int32',
  load_mode: 'int32',
  lazy_mode: 'int32',
  main_gpu: 'int32',
  tensor_split: POINTER,
  progress_callback: POINTER,
  progress_callback_user_data: POINTER,
  kv_overrides: POINTER,
  vocab_only: 'bool',
  check_tensors: 'bool',
  use_extra_bufts: 'bool',
  no_host: 'bool',
  no_alloc: 'bool',
  load_mtp: 'bool',
})

export type ModelParams = {
  n_gpu_layers: number
  vocab_only: boolean
}

export const CONTEXT_PARAMS = koffi.struct({
  n_ctx: 'uint32',
  n_batch: 'uint32',
  n_ubatch: 'uint32',
  n_seq_max: 'uint32',
  n_rs_seq: 'uint32',
  n_outputs_max: 'uint32',
  n_outputs_max_per_seq: 'uint32',
  n_threads: 'int32',
  n_threads_batch: 'int32',
  ctx_type: 'int32',
  rope_scaling_type: 'int32',
  pooling_type: 'int32',
  attention_type: 'int32',
  flash_attn_type: 'int32',
  rope_freq_base: 'float',
  rope_freq_scale: 'float',
  yarn_ext_factor: 'float',
  yarn_attn_factor: 'float',
  yarn_beta_fast: 'float',
  yarn_beta_slow: 'float',
  yarn_orig_ctx: 'uint32',
  defrag_thold: 'float',
  cb_eval: POINTER,
  cb_eval_user_data: POINTER,
  type_k: 'int32',
  type_v: 'int32',
  abort_callback: POINTER,
  abort_callback_data: POINTER,
  embeddings: 'bool',
  offload_kqv: 'bool',
  no_perf: 'bool',
  op_offload: 'bool',
  swa_full: 'bool',
  kv_unified: 'bool',
  samplers: POINTER,
  n_samplers: 'size_t',
  ctx_other: POINTER,
})

export type ContextParams = {
  n_ctx: number
  n_batch: number
  n_threads: number
  n_threads_batch: number
}

export const BATCH = koffi.struct({
  n_tokens: 'int32',
  token: POINTER,
  embd: POINTER,
  pos: POINTER,
  n_seq_id: POINTER,
  seq_id: POINTER,
  logits: POINTER,
})

/** Only ever passed from `llama_batch_get_one` to `llama_decode`. */
export type Batch = { readonly n_tokens: number }

/** Ends in two 32-bit fields that v0.4.0 added (default 0 and 2); they go back as they came. */
export const QUANTIZE_PARAMS = koffi.struct({
  nthread: 'int32',
  ftype: 'int32',
  output_tensor_type: 'int32',
  token_embedding_type: 'int32',
  allow_requantize: 'bool',
  quantize_output_tensor: 'bool',
  only_copy: 'bool',
  pure: 'bool',
  keep_split: 'bool',
  dry_run: 'bool',
  imatrix: POINTER,
  kv_overrides: POINTER,
  tt_overrides: POINTER,
  prune_layers: POINTER,
  added_a: 'int32',
  added_b: 'int32',
})

export type QuantizeParams = {
  nthread: number
  ftype: number
  output_tensor_type: number
  token_embedding_type: number
  allow_requantize: boolean
  pure: boolean
}

export const CHAIN_PARAMS = koffi.struct({ no_perf: 'bool' })
