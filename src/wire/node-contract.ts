/**
 * What a node tells and does for those who use it: the HTTP API, the command line over the local socket, later the
 * console. Plain data only, so that it crosses a socket as JSON.
 */
import type { LayerRange } from '#base'
import type { PeerRelay, RelayStatus } from './relay-report.ts'
import type { ConnectionStateName, PathSummary, TrafficSummary } from './network-contract.ts'

/** How the next token is chosen. Every field is required here; the API fills in OpenAI's defaults. */
export type SamplingOptions = {
  /** 0 picks the most likely token (greedy). Range [0, 2]. */
  readonly temperature: number
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK: number
  /** Keep the smallest set whose probability reaches p; 1 keeps all. */
  readonly topP: number
  /** Keep tokens at least this fraction as likely as the best one; 0 keeps all. */
  readonly minP: number
  /** 1 is off. Over the last `penaltyLastN` tokens. */
  readonly repeatPenalty: number
  readonly frequencyPenalty: number
  readonly presencePenalty: number
  readonly penaltyLastN: number
  /** Same seed, same request, same answer. Unsigned 32 bits. */
  readonly seed: number
  /** Added to a token's logit, by token id as text. */
  readonly logitBias?: Readonly<Record<string, number>>
}

/** A greedy choice with everything else off: what parity and `--once` use. */
export const GREEDY: SamplingOptions = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repeatPenalty: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
  penaltyLastN: 64,
  seed: 0,
}

/** One message of a chat. Content is text only: the models served here read nothing else. */
export type ChatMessage = {
  readonly role: string
  readonly content: string
  readonly name?: string
}

/** What to continue: a chat (rendered with the model's own template), plain text, or tokens as they are. */
export type Prompt =
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly tokens: readonly number[] }

export type CompletionRequest = {
  /** Model id, a prefix of it of 8 digits or more, the model's name, or its file name. */
  readonly model: string
  readonly prompt: Prompt
  readonly sampling: SamplingOptions
  /** Most tokens to make; undefined: as many as the context holds. */
  readonly tokensMax?: number
  /** Texts that end the answer; they are not part of it. */
  readonly stop: readonly string[]
  /** 0..20: log-probabilities of the chosen token and of this many alternatives; undefined: none. */
  readonly topLogprobs?: number
  /** Send every step's logits too (local socket only; parity uses it). */
  readonly logits?: boolean
  /** Go on after an end token: benchmarks and parity only. */
  readonly ignoreEnd?: boolean
}

export type TokenLogprob = {
  readonly token: number
  /** The token's bytes as text (U+FFFD where they are not UTF-8 on their own). */
  readonly text: string
  readonly bytes: readonly number[]
  readonly logprob: number
}

/** One token that was made. */
export type TokenInfo = {
  readonly token: number
  readonly logprob?: TokenLogprob
  readonly top?: readonly TokenLogprob[]
  /** f32 little-endian, base64; only where `logits` was asked for. */
  readonly logits?: string
}

export type Usage = { readonly promptTokens: number; readonly completionTokens: number }

/** One stage of a route. */
export type RouteHop = { readonly peer: string; readonly layers: LayerRange }

/** What a completion says, in order: one `start`, any number of `delta`, one `end`. */
export type CompletionEvent =
  | {
      readonly kind: 'start'
      readonly generation: string
      readonly model: string
      readonly promptTokens: number
      readonly route: readonly RouteHop[]
    }
  /** `text` may be empty while a character or a possible stop text is incomplete. */
  | { readonly kind: 'delta'; readonly text: string; readonly tokens: readonly TokenInfo[] }
  | { readonly kind: 'end'; readonly reason: 'stop' | 'length'; readonly usage: Usage }

/** A model that this node can answer with. */
export type ModelSummary = {
  readonly id: string
  readonly name: string
  readonly architecture: string
  readonly file: string
  readonly fileBytes: number
  /** Seconds since the epoch. */
  readonly createdAt: number
  readonly layerCount: number
  readonly width: number
  /** The model's training context. */
  readonly contextTrain: number
  /** Ranges that this node and its peers serve now. */
  readonly served: readonly RouteHop[]
  /** Whether the served ranges cover every layer. */
  readonly isComplete: boolean
}

export type EngineState = 'starting' | 'ready' | 'restarting' | 'failed' | 'stopped'

export type EngineStatus = {
  readonly role: 'stage' | 'edge'
  readonly state: EngineState
  readonly pid?: number
  readonly device?: string
  readonly profile?: string
  readonly restarts: number
  /** Why the last process ended, for people. */
  readonly lastError?: string
  /** What the process is kept from, in words: "no network, no other programs, reads 1 file, writes none, 2.1 GiB, 2 threads". */
  readonly sandbox?: string
  readonly weightBytes: number
  readonly kvBytes: number
}

/** A generation as one node sees it. */
export type GenerationStatus = {
  /** 32 hexadecimal digits. */
  readonly generation: string
  readonly role: 'entry' | 'stage'
  readonly model: string
  readonly ageMs: number
  /** Positions so far. On a stage these are KV rows in use. */
  readonly positions: number
  readonly positionsMax: number
  /** Stage only. */
  readonly layers?: LayerRange
  readonly slot?: number
  readonly entry?: string
  /** Entry only. */
  readonly route?: readonly RouteHop[]
}

export type StageStatus = {
  readonly model: string
  readonly name: string
  readonly layers: LayerRange
  readonly layerCount: number
  readonly slots: number
  readonly slotsFree: number
  /** KV rows that live generations hold on this node (positions times one; not times layers). */
  readonly kvRows: number
  readonly stepMs: number
}

export type NodeStatus = {
  readonly peer: string
  readonly pid: number
  readonly agent: string
  readonly uptimeMs: number
  readonly addresses: readonly string[]
  readonly api?: string
  readonly dataDir: string
  readonly placement: string
  readonly stages: readonly StageStatus[]
  readonly engines: readonly EngineStatus[]
  readonly generations: readonly GenerationStatus[]
  readonly kvRows: number
  readonly peers: number
  /** How this node uses relays, and is one. */
  readonly relay?: RelayStatus
}

export type PeerSummary = {
  readonly peer: string
  /** Version of the protocol that is spoken. */
  readonly version: number
  readonly capabilities: readonly string[]
  /** The session, as a UUID: it outlives the connection. */
  readonly session: string
  /** How often the session was resumed after its connection had gone. */
  readonly resumptions: number
  readonly suite: string
  /** How often the session's keys were replaced, in both directions together. */
  readonly rekeys: number
  /** Peer id of the key that signs for the peer: another than `peer` once the peer has rotated its key. */
  readonly key: string
  /** The peer's clock minus ours, in milliseconds. */
  readonly clockOffsetMs: number
  readonly agent: string
  readonly addresses: readonly string[]
  readonly direction: 'inbound' | 'outbound'
  /** Of the connection that new streams use. */
  readonly state: ConnectionStateName
  readonly path: PathSummary
  /** Why it stays however quiet it is. */
  readonly holds: readonly string[]
  /** Over all connections with the peer. */
  readonly traffic: TrafficSummary
  readonly connectedMs: number
  readonly rttMs?: number
  /** Open streams with the peer: over the data plane, and over libp2p. */
  readonly streams: { readonly plane: number; readonly libp2p: number }
  readonly stages: readonly StageStatus[]
  readonly memoryBytes: number
  /** Set where one of the two relays for the other, or offers to. */
  readonly relay?: PeerRelay
}

/** Whether others can dial a node: `unknown` while nobody has tried. */
export type NodeType = 'public' | 'nat' | 'unknown'

/** How two nodes come together: one dials; both do at once; both do, at a port that is foreseen; through a third. */
export type PathWord = 'direct' | 'punched' | 'guessed' | 'relayed'

/** The kinds of NAT by the names that people know; `docs/reference/nat.md` says what each is. */
export type NatName = 'none' | 'full-cone' | 'restricted' | 'port-restricted' | 'symmetric' | 'blocked' | 'unknown'

/** `off`: the node does not listen that way. */
export type TransportReach = 'reachable' | 'not' | 'unknown' | 'off'

/** How a node stands in the network. */
export type ReachReport = {
  readonly type: NodeType
  /** Whether the node may forward for others: only public ones may. */
  readonly mayRelay: boolean
  /** Whether the node listens at no address but this machine's own. */
  readonly isLocalOnly: boolean
  readonly nat: {
    readonly kind: NatName
    /** RFC 4787, 4.1. */
    readonly mapping: string
    /** RFC 4787, 5. */
    readonly filtering: string
    readonly ports: 'preserved' | 'offset' | 'sequence' | 'random' | 'unknown'
    /** The address that others see, as far as it is agreed on. */
    readonly address?: string
    /** STUN servers that are known. */
    readonly servers: number
    /** Since the last detection; without one there has been none. */
    readonly ageMs?: number
  }
  /** Where the node can be dialled from outside, and why that is believed. */
  readonly external: readonly {
    /** A multiaddr without the peer id. */
    readonly address: string
    readonly source: 'owner' | 'interface' | 'gateway' | 'peers'
    readonly reach: Exclude<TransportReach, 'off'>
  }[]
  readonly transports: Readonly<Record<'tcp' | 'quic' | 'ws' | 'plane', TransportReach>>
  readonly mapping: {
    /** `none`: no gateway does it. `not-needed`: the node listens at no private address. */
    readonly state: 'off' | 'not-needed' | 'asking' | 'none' | 'mapped'
    readonly ports: readonly {
      readonly protocol: 'tcp' | 'udp'
      readonly internalPort: number
      readonly externalAddress: string
      readonly externalPort: number
      readonly via: string
      /** False: there is another NAT behind the gateway, so nobody comes in here. */
      readonly isPublic: boolean
    }[]
  }
  /** Port of the node's own STUN server. */
  readonly stunPort?: number
  /** How this node comes together with one of each kind. */
  readonly paths: readonly { readonly kind: NatName; readonly tcp: PathWord; readonly udp: PathWord }[]
}

/** A command that peers can give. */
export type CommandSummary = {
  readonly name: string
  readonly type: number
  /** Who may give it. */
  readonly right: string
  /** Tokens of the caller's bucket for all commands together. */
  readonly cost: number
  /** Bytes of an attachment that a request may bring; 0: none. */
  readonly attachmentBytesMax: number
}

/** Body of `POST /local/ask`: a command for a connected peer. */
export type AskRequest = {
  /** Peer id. */
  readonly peer: string
  readonly command: string
  /** JSON; bytes inside of it have dag-json's form, {"/": {"bytes": base64}}. */
  readonly body: unknown
  /** @default the command's own deadline */
  readonly timeoutMs?: number
  /** What the request brings, in base64. */
  readonly attachment?: string
  /** Send the bytes of the answer's attachment too; else only its size is told. */
  readonly wantsAttachment: boolean
}

/** What a command that was given to a peer says over the local socket, in order: events, an answer and its bytes, or an error. */
export type AskEvent =
  | { readonly kind: 'event'; readonly event: unknown }
  | { readonly kind: 'answer'; readonly body: unknown; readonly attachment?: { readonly sizeBytes: number } }
  /** The next part of the attachment, where it was asked for. */
  | { readonly kind: 'bytes'; readonly base64: string }
  /** Ends it. `remoteCode`: the peer's own, where it was the peer that refused. */
  | {
      readonly kind: 'error'
      readonly code: string
      readonly message: string
      readonly remoteCode?: string
      readonly retryAfterMs?: number
    }

/** Who would run what. */
export type PlanReport = {
  readonly model: string
  readonly name: string
  readonly layerCount: number
  readonly weightBytes: number
  readonly edgeBytes: number
  readonly kvBytesPerGeneration: number
  readonly fits: boolean
  /** A sentence: why it fits or what is missing. */
  readonly summary: string
  readonly stages: readonly {
    readonly peer: string
    readonly isSelf: boolean
    readonly layers: LayerRange
    readonly weightBytes: number
    readonly kvBytes: number
    readonly memoryBytes: number
    readonly stepMs: number
  }[]
  readonly tokensPerSecond: number
  /** One line for each term of the estimate. */
  readonly why: readonly string[]
  /** What serves the model now, if anything does. */
  readonly current?: { readonly route: readonly RouteHop[]; readonly tokensPerSecond: number }
}

/** Body of `POST /local/find`: who serves something, near and far. */
export type FindRequest = {
  /** 'stage', or the name of another service. */
  readonly service: string
  /** Model id, a prefix of it of 8 digits or more, or the model's name. */
  readonly model?: string
  /** @default 15 s */
  readonly timeoutMs?: number
}

/** A service that was found: its peer has signed an announcement of it that is in force. */
export type FoundServiceSummary = {
  readonly peer: string
  readonly service: string
  readonly model?: string
  readonly modelName?: string
  readonly layers?: LayerRange
  readonly layerCount?: number
  readonly addresses: readonly string[]
  /** Number of the announcement. */
  readonly sequence: number
  /** Unix milliseconds. */
  readonly expiresAt: number
  /** Who told of it: this node, a connected peer, or one of the DHTs. */
  readonly via: 'self' | 'peer' | 'kad' | 'mainline'
}

/** A line of the answer to `POST /local/find`: results as they come in, then one `end` or `error`. */
export type FindEvent =
  | { readonly kind: 'found'; readonly found: FoundServiceSummary }
  | { readonly kind: 'end' }
  | { readonly kind: 'error'; readonly code: string; readonly message: string }
