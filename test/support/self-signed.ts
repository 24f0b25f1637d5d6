/** A certificate of nobody, for servers of `node:tls` that tests and benchmarks start. */

/** P-256, made once with openssl, good for a hundred years. */
export const SELF_SIGNED = {
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg8x5k87GGt0Y9BzMo
0xCdvjOxhYwvxoN22dms6p2yHtGhRANCAASXO3abeVfW3oz1RLWdFGrxBMB0maTB
yk1uuXuXanyDUDcdUBez/qIMfZI27USn5zBs0tIa7F5B+nQQ8nGhQcdo
-----END PRIVATE KEY-----`,
  cert: `-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIULk8PvtCw77Y6VDHdtTs8e7qtdjowCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMTE4Mzg1NVoYDzIxMjYxMDI4MTgz
ODU1WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AASXO3abeVfW3oz1RLWdFGrxBMB0maTByk1uuXuXanyDUDcdUBez/qIMfZI27USn
5zBs0tIa7F5B+nQQ8nGhQcdoo1MwUTAdBgNVHQ4EFgQUa/B8dZbiH7nEwDN9cqIv
2kdbbpQwHwYDVR0jBBgwFoAUa/B8dZbiH7nEwDN9cqIv2kdbbpQwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAxgMnesG6WvqzmdkM84MwHPnDJcFG
lu8NvHZuGne4VeECIB9h5FaM9HyT6/bp9uoY2VE0kkVf1Pin2/5dVk9ufPCw
-----END CERTIFICATE-----`,
}
