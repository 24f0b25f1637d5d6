/** Where a node's key lies. Plain data, so that it can come over the local socket too. */

/** A key in a token, such as a smart card or an HSM: by PKCS #11 v3.0. */
export type Pkcs11Source = {
  readonly kind: 'pkcs11'
  /** Path of the token's PKCS#11 module, a shared library. */
  readonly module: string
  /** Label of the token. */
  readonly token: string
  /** Serial number, where tokens share a label. */
  readonly serial?: string
  /** Label of the key. */
  readonly label?: string
  /** CKA_ID of the key in hexadecimal. One of `label` and `id` is there. */
  readonly id?: string
  /** A secret. Undefined where the token asks for it by itself (a PIN pad), or for none. */
  readonly pin?: string
}

/** A key in AWS KMS, or in a service that speaks its protocol. Credentials are the AWS SDK's own matter. */
export type KmsSource = {
  readonly kind: 'kms'
  /** Id, ARN or alias ("alias/koinon") of the key. */
  readonly key: string
  /** @default that of the ARN, else the AWS SDK's own (AWS_REGION, the profile) */
  readonly region?: string
  /** @default AWS's for the region */
  readonly endpoint?: string
}

export type KeySource =
  /** The data directory. */
  | { readonly kind: 'file' }
  /** @see parseEnvironmentKey of `#identity`; the text is a secret. */
  | { readonly kind: 'environment'; readonly text: string }
  | Pkcs11Source
  | KmsSource
