/**
 * What `koinon doctor` says of the network: can others reach this machine, what is between, and what follows from that. In
 * words for people; `docs/guides/network.md` says more. Pure.
 */
import type { NetworkSurvey } from '#reach'
import type { NatName, ReachReport, PathWord } from '#wire'
import type { DoctorCheck } from './doctor-checks.ts'
import { countOf } from './units.ts'

const GUIDE = 'docs/guides/network.md'

/** What a running node knows. */
export function networkChecks(report: ReachReport): DoctorCheck[] {
  const isPublic = report.type === 'public'
  return [
    checkReach(report),
    checkNat(report.nat, { isPublic }),
    checkMapping(report),
    ...(isPublic ? [] : [checkPaths(report.paths, report.nat)]),
  ]
}

/** What a look without a node has found. */
export function surveyChecks(survey: NetworkSurvey): DoctorCheck[] {
  const [address] = survey.publicAddresses
  const { nat } = survey
  return [
    {
      name: 'Reachable',
      state: 'ok',
      text:
        address === undefined
          ? 'not known: no node runs; this machine has private addresses only'
          : `not known: no node runs; this machine has a public address, ${address}`,
      advice: 'start a node with `koinon up --listen /ip4/0.0.0.0/tcp/4001` and ask again: its peers can tell',
    },
    nat === undefined
      ? {
          name: 'NAT',
          state: 'ok',
          text: 'not looked at: that takes somebody outside to ask',
          advice: 'name one or two STUN servers, as in `koinon doctor --stun stun.example.org:3478`',
        }
      : checkNat(nat, { isPublic: false }),
    checkGateway(survey),
    ...(nat === undefined ? [] : [checkPaths(survey.paths, nat)]),
  ]
}

const PROOFS: Readonly<Record<ReachReport['external'][number]['source'], string>> = {
  owner: 'you say so',
  interface: 'an address of this machine',
  gateway: 'mapped by the gateway',
  peers: 'where peers see this machine',
}

function checkReach({ type, external, isLocalOnly, transports }: ReachReport): DoctorCheck {
  const name = 'Reachable'
  const lines = external.map(({ address, source, reach }) => {
    const proof =
      reach === 'reachable' ? 'a peer dialled it' : reach === 'not' ? 'peers could not dial it' : 'not tried'
    return `\n${address} (${PROOFS[source]}; ${proof})`
  })
  if (type === 'public') {
    const missing = (['tcp', 'quic', 'ws', 'plane'] as const).filter(transport => transports[transport] === 'not')
    const text = `yes: others can dial this node${lines.join('')}`
    if (missing.length === 0) return { name, state: 'ok', text }
    const names = missing.map(transport => (transport === 'plane' ? 'the data plane' : transport.toUpperCase()))
    return { name, state: 'warn', text, advice: `but not over ${names.join(', ')}: let its port in too (see ${GUIDE})` }
  }
  if (isLocalOnly) {
    const advice = 'to let others in: `koinon up --listen /ip4/0.0.0.0/tcp/4001`'
    return { name, state: 'ok', text: 'no: this node listens on this machine only', advice }
  }
  if (type === 'unknown') {
    const advice = 'it is once two peers in other networks have tried; look again in a minute'
    return { name, state: 'ok', text: `not known yet${lines.join('')}`, advice }
  }
  const advice = `forward its port in the router, or go through relays (see ${GUIDE})`
  return { name, state: 'warn', text: `no: others cannot dial this node${lines.join('')}`, advice }
}

const KINDS: Readonly<Record<NatName, string>> = {
  none: 'none: this machine has its address for itself',
  'full-cone': 'full cone: one port outside for everybody, and everybody may send in',
  restricted: 'restricted cone: one port outside for everybody; addresses that were called may send in',
  'port-restricted': 'port-restricted cone: one port outside for everybody; only who was called may send in',
  symmetric: 'symmetric: another port outside for each peer',
  blocked: 'UDP does not get out: no server answers',
  unknown: 'kind not known: fewer than two STUN servers to ask',
}

const PORTS: Readonly<Record<ReachReport['nat']['ports'], string>> = {
  preserved: 'ports outside are those inside',
  offset: 'ports outside can be foreseen',
  sequence: 'ports outside follow one another, so the next can be guessed',
  random: 'ports outside are random',
  unknown: '',
}

function checkNat(nat: ReachReport['nat'], { isPublic }: { readonly isPublic: boolean }): DoctorCheck {
  const { kind, ports, address, filtering } = nat
  const isWalled = kind === 'none' && filtering !== 'endpoint-independent' && filtering !== 'unknown'
  const facts = [
    ...(isWalled ? ['a firewall lets in only who was called'] : []),
    ...(kind === 'none' || PORTS[ports] === '' ? [] : [PORTS[ports]]),
    ...(address === undefined ? [] : [`others see ${address}`]),
  ]
  const check = { name: 'NAT', text: [KINDS[kind], facts.join('; ')].filter(line => line !== '').join('\n') }
  if (isPublic) return { ...check, state: 'ok' }
  if (kind === 'symmetric') {
    const advice = 'some peers are reached through relays only; a forwarded port or a better router helps'
    return { ...check, state: 'warn', advice }
  }
  if (kind === 'blocked')
    return { ...check, state: 'warn', advice: 'let UDP out in the firewall, or name another STUN server' }
  if (kind !== 'unknown') return { ...check, state: 'ok' }
  return {
    ...check,
    state: 'ok',
    advice: 'public peers are STUN servers; or name some with `koinon up --stun HOST:PORT`',
  }
}

const MAPPING_TEXTS: Readonly<Record<Exclude<ReachReport['mapping']['state'], 'mapped'>, string>> = {
  off: 'is not asked to map ports (--map-ports off)',
  'not-needed': 'not asked: the node listens at no private address',
  asking: 'is being asked to map the ports',
  none: 'maps no ports',
}

function checkMapping({ mapping, type }: ReachReport): DoctorCheck {
  const name = 'Gateway'
  if (mapping.state !== 'mapped') {
    const check = { name, text: MAPPING_TEXTS[mapping.state] }
    if (mapping.state !== 'none' || type === 'public') return { ...check, state: 'ok' }
    const advice = 'switch on UPnP, NAT-PMP or PCP in the router, or forward the port there'
    return { ...check, state: 'warn', advice }
  }
  const lines = mapping.ports.map(({ protocol, internalPort, externalAddress, externalPort, via }) => {
    return `${protocol.toUpperCase()} ${internalPort} is ${externalAddress}:${externalPort} outside (${viaName(via)})`
  })
  const isBehindAnother = mapping.ports.some(port => !port.isPublic)
  return gatewayCheck(lines.join('\n'), isBehindAnother)
}

function checkGateway({ gateways, mapping }: NetworkSurvey): DoctorCheck {
  const name = 'Gateway'
  if (mapping !== undefined) {
    return gatewayCheck(
      `maps ports (${viaName(mapping.via)}); outside it is ${mapping.externalAddress}`,
      !mapping.isPublic,
    )
  }
  if (gateways === 0) return { name, state: 'ok', text: 'none: no default route over IPv4' }
  const text = `${countOf(gateways, 'gateway')}, and none maps ports`
  return { name, state: 'warn', text, advice: 'switch on UPnP, NAT-PMP or PCP in the router, or forward ports there' }
}

function gatewayCheck(text: string, isBehindAnother: boolean): DoctorCheck {
  if (!isBehindAnother) return { name: 'Gateway', state: 'ok', text }
  const advice =
    'that address is private: there is another NAT behind the gateway, the provider’s, so nobody comes in here'
  return { name: 'Gateway', state: 'warn', text, advice }
}

function viaName(via: string): string {
  return { pcp: 'PCP', 'nat-pmp': 'NAT-PMP', upnp: 'UPnP' }[via] ?? via
}

const KIND_NAMES: Readonly<Record<NatName, string>> = {
  none: 'public nodes',
  'full-cone': 'full cone',
  restricted: 'restricted',
  'port-restricted': 'port-restricted',
  symmetric: 'symmetric',
  blocked: 'no UDP',
  unknown: 'unknown',
}

const WORDS: readonly (readonly [PathWord, string])[] = [
  ['direct', 'directly'],
  ['punched', 'by hole punching'],
  ['guessed', 'by a guessed port'],
  ['relayed', 'through a relay'],
]

/** How this node comes together with peers, by their NAT: a line for each way. */
function checkPaths(paths: ReachReport['paths'], { kind }: ReachReport['nat']): DoctorCheck {
  const name = 'Peers'
  if (kind === 'unknown') {
    return {
      name,
      state: 'ok',
      text: 'public nodes are reached directly; the others once the NAT is known, till then by relays',
    }
  }
  const lines = WORDS.flatMap(([word, text]) => {
    const tcp = paths.filter(path => path.tcp === word).map(path => path.kind)
    const udp = paths.filter(path => path.udp === word).map(path => path.kind)
    const both = tcp.filter(each => udp.includes(each))
    return [
      ...lineOf(text, both),
      ...lineOf(
        `${text} (TCP)`,
        tcp.filter(each => !both.includes(each)),
      ),
      ...lineOf(
        `${text} (UDP)`,
        udp.filter(each => !both.includes(each)),
      ),
    ]
  })
  return { name, state: 'ok', text: lines.join('\n') }
}

function lineOf(how: string, kinds: readonly NatName[]): string[] {
  return kinds.length === 0 ? [] : [`${how}: ${kinds.map(kind => KIND_NAMES[kind]).join(', ')}`]
}
