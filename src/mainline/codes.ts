/** Codes of KRPC errors (BEP 5, BEP 44). */
export const KRPC_SERVER = 202
export const KRPC_PROTOCOL = 203
export const KRPC_METHOD_UNKNOWN = 204
export const KRPC_VALUE_TOO_BIG = 205
export const KRPC_SIGNATURE_INVALID = 206
export const KRPC_SALT_TOO_BIG = 207
export const KRPC_CAS_MISMATCH = 301
export const KRPC_SEQ_TOO_OLD = 302
