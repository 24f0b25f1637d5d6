/**
 * The rules of each kind of NAT, as text for `nft -f`. Pure: settings in, text out.
 *
 * Linux by itself is a port-restricted NAT that keeps ports. Everything else is built from three dynamic tables per
 * protocol, learned from packets on their way out, after their source was translated:
 *
 *   outside    (inside port, inside address) -> outside port     one mapping for all destinations (RFC 4787 REQ-1)
 *   address,   outside port -> inside address, inside port       where a packet from a stranger goes
 *   port
 *   contacted  (outside port, remote address[, remote port])     whom the filter lets in (RFC 4787 section 5)
 *
 * An unasked packet that the filter refuses falls to the router itself and is dropped there, without an answer
 * (RFC 5382 REQ-4). It must be dropped, too: else its connection would be tracked, and would take the port from a packet
 * that comes the other way a moment later, and no hole could be punched.
 *
 * All packets are tracked in one conntrack zone. Another zone forgets every connection at once.
 */
import { ASSIGNED_PORTS_COUNT, ASSIGNED_PORTS_FIRST, TCP_MAPPING_SECONDS } from './limits.ts'

/** What a router does with addresses and ports; docs/guides/lab.md says what each is made of. */
export const NAT_KINDS = [
  'none',
  'full-cone',
  'restricted',
  'port-restricted',
  'symmetric-sequential',
  'symmetric',
] as const
export type NatKind = (typeof NAT_KINDS)[number]

export type Protocol = 'tcp' | 'udp'

/** A port that the router passes on for good, as after UPnP or by hand. */
export type PortForward = {
  readonly protocol: Protocol
  readonly outsidePort: number
  readonly insideAddress: string
  readonly insidePort: number
}

export type NatSettings = {
  readonly kind: NatKind
  /** The public address. */
  readonly wan: string
  /** The inside network, such as `192.168.10.0/24`. */
  readonly lan: string
  /** `preserve`: the outside port is the inside port where it is free. `assign`: it never is. */
  readonly ports: 'preserve' | 'assign'
  readonly hairpin: boolean
  readonly mappingSeconds: number
  /** The conntrack zone, 1 or more. */
  readonly zone: number
  /** Where the order of assigned ports begins. */
  readonly seed: number
  readonly forwards: readonly PortForward[]
}

const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp']

/** Whether all destinations see one port of an inside socket (endpoint-independent mapping). */
export function isIndependent(kind: NatKind): boolean {
  return kind === 'full-cone' || kind === 'restricted' || kind === 'port-restricted'
}

/** The whole rule set for IPv4; it replaces the one before it at once. */
export function natRules(settings: NatSettings): string {
  const parts = [zoneChains(settings.zone)]
  if (settings.kind !== 'none') {
    const independent = isIndependent(settings.kind)
    parts.push(...(independent ? [tables(settings), learnChain(settings)] : []))
    parts.push(admitChain(settings), translateChains(settings), filterChains(settings))
  }
  return `table ip lab\ndelete table ip lab\ntable ip lab {\n${parts.join('\n')}\n}\n`
}

/** The rule set for IPv6, which has no NAT: a stateful filter (RFC 6092), or nothing. */
export function ipv6Rules(settings: { readonly firewall: boolean; readonly zone: number }): string {
  const filter = settings.firewall
    ? `chain forwarded {
         type filter hook forward priority 0; policy drop
         ct state invalid drop
         iifname "lan" accept
         meta l4proto ipv6-icmp accept
         ct state established,related accept
       }`
    : ''
  return `table ip6 lab\ndelete table ip6 lab\ntable ip6 lab {\n${zoneChains(settings.zone)}\n${filter}\n}\n`
}

/** Drops all that comes from or goes to one device, routed or bridged, as if the cable were cut further on. */
export function cutRules(device: string): string {
  const families = ['inet', 'bridge'].map(
    family => `
    table ${family} cut_${device} {
      chain from {
        type filter hook prerouting priority -400
        iifname "${device}" drop
      }
      chain to {
        type filter hook postrouting priority 400
        oifname "${device}" drop
      }
    }`,
  )
  return `${families.join('\n')}\n`
}

/** Undoes `cutRules`, also where there is nothing to undo. */
export function healRules(device: string): string {
  return ['inet', 'bridge']
    .map(family => `table ${family} cut_${device}\ndelete table ${family} cut_${device}\n`)
    .join('')
}

function zoneChains(zone: number): string {
  return `
    chain zone_in {
      type filter hook prerouting priority -300
      ct zone set ${zone}
    }
    chain zone_out {
      type filter hook output priority -300
      ct zone set ${zone}
    }`
}

function tables(settings: NatSettings): string {
  const remote = settings.kind === 'port-restricted' ? 'ipv4_addr . inet_service' : 'ipv4_addr'
  return PROTOCOLS.map(protocol => {
    const seconds = protocol === 'udp' ? settings.mappingSeconds : TCP_MAPPING_SECONDS
    const kept = `flags dynamic,timeout; size 65535; timeout ${seconds}s;`
    return `
    map ${protocol}_outside { type inet_service . ipv4_addr : inet_service; ${kept} }
    map ${protocol}_address { type inet_service : ipv4_addr; ${kept} }
    map ${protocol}_port { type inet_service : inet_service; ${kept} }
    set ${protocol}_taken { type inet_service; ${kept} }
    set ${protocol}_contacted { type inet_service . ${remote}; ${kept} }`
  }).join('')
}

/** Packets from outside, before they are routed: forwarded ports, then what the filter of the kind lets in. */
function admitChain(settings: NatSettings): string {
  const { kind, wan, hairpin } = settings
  const from = hairpin ? '{ "wan", "lan" }' : '"wan"'
  const rules = settings.forwards.map(
    ({ protocol, outsidePort, insideAddress, insidePort }) =>
      `iifname ${from} ip daddr ${wan} ${protocol} dport ${outsidePort} dnat to ${insideAddress}:${insidePort}`,
  )
  for (const protocol of isIndependent(kind) ? PROTOCOLS : []) {
    const known = `dnat to ${protocol} dport map @${protocol}_address : ${protocol} dport map @${protocol}_port`
    const filter =
      kind === 'full-cone' ? '' : `${filterKey(kind, `${protocol} dport`, protocol)} @${protocol}_contacted`
    rules.push(`iifname "wan" ip daddr ${wan} ${filter} ${known}`)
    // The sender's own outside port is not known yet, so the filter for these comes after their translation.
    if (hairpin) rules.push(`iifname "lan" ip daddr ${wan} ${known}`)
  }
  return chain('admit { type nat hook prerouting priority -100', rules)
}

/** The set key of one packet: an outside port of ours and where the packet comes from. */
function filterKey(kind: NatKind, outsidePort: string, protocol: Protocol): string {
  return `${outsidePort} . ip saddr${kind === 'port-restricted' ? ` . ${protocol} sport` : ''}`
}

function translateChains(settings: NatSettings): string {
  const { kind, wan, lan, ports, seed } = settings
  const forwards = settings.forwards.map(
    ({ protocol, outsidePort, insideAddress, insidePort }) =>
      `ip saddr ${insideAddress} ${protocol} sport ${insidePort} snat to ${wan}:${outsidePort}`,
  )
  const rules: string[] = []
  if (kind === 'symmetric') {
    rules.push(`meta l4proto { tcp, udp } snat to ${wan}:1024-65535 fully-random`)
  } else {
    for (const protocol of PROTOCOLS) {
      if (isIndependent(kind)) {
        rules.push(`meta l4proto ${protocol} snat to ${wan} : ${protocol} sport . ip saddr map @${protocol}_outside`)
        if (ports === 'preserve') rules.push(`${protocol} sport != @${protocol}_taken snat to ${wan}`)
      }
      rules.push(`meta l4proto ${protocol} snat to ${wan} : ${nextPort(seed)}`)
    }
  }
  rules.push(`snat to ${wan}`)
  const hairpin = settings.hairpin ? [`oifname "lan" ip saddr ${lan} ct status dnat goto source`] : []
  return `${chain('source {', [...forwards, ...rules])}
    ${chain('translate { type nat hook postrouting priority 100', [`oifname "wan" ip saddr ${lan} goto source`, ...hairpin])}`
}

/** A port for each new mapping, in order. */
function nextPort(seed: number): string {
  const elements = Array.from(
    { length: ASSIGNED_PORTS_COUNT },
    (_, index) => `${index} : ${ASSIGNED_PORTS_FIRST + ((seed + index) % ASSIGNED_PORTS_COUNT)}`,
  )
  return `numgen inc mod ${ASSIGNED_PORTS_COUNT} map { ${elements.join(', ')} }`
}

/** What is learned from packets on their way out; every packet also keeps its mapping alive (RFC 4787 REQ-6). */
function learnChain(settings: NatSettings): string {
  const rules = PROTOCOLS.flatMap(protocol => {
    const l4 = `meta l4proto ${protocol}`
    const remember = (direction: 'original' | 'reply', where: string): string[] => [
      `${where} ct direction ${direction} update @${protocol}_address { ${protocol} sport : ct ${direction} ip saddr }`,
      `${where} ct direction ${direction} ${l4} update @${protocol}_port { ${protocol} sport : ct ${direction} proto-src }`,
      `${where} ct direction ${direction} ${l4} update @${protocol}_outside { ct ${direction} proto-src . ct ${direction} ip saddr : ${protocol} sport }`,
    ]
    const wan = `oifname "wan" ip saddr ${settings.wan}`
    const contact = settings.kind === 'port-restricted' ? `ip daddr . ${protocol} dport` : 'ip daddr'
    return [
      ...remember('original', wan),
      ...remember('reply', wan),
      `${wan} update @${protocol}_taken { ${protocol} sport }`,
      `${wan} update @${protocol}_contacted { ${protocol} sport . ${contact} }`,
      ...(settings.hairpin ? hairpinRules(settings, protocol, remember) : []),
    ]
  })
  return chain('learn { type filter hook postrouting priority 110', rules)
}

type Remember = (direction: 'original' | 'reply', where: string) => string[]

/** From inside to inside by the outside address: the sender makes a contact first, then meets the other's filter. */
function hairpinRules(settings: NatSettings, protocol: Protocol, remember: Remember): string[] {
  const { kind, wan } = settings
  const exact = kind === 'port-restricted'
  const there = `oifname "lan" ip saddr ${wan} meta l4proto ${protocol}`
  const going = `${there} ct direction original ct original ip daddr ${wan}`
  const coming = `${there} ct direction reply ct reply ip daddr ${wan}`
  const set = `@${protocol}_contacted`
  const refused = filterKey(kind, 'ct original proto-dst', protocol)
  return [
    ...remember('original', going),
    `${going} update @${protocol}_taken { ${protocol} sport }`,
    `${going} update ${set} { ${protocol} sport . ct original ip daddr${exact ? ' . ct original proto-dst' : ''} }`,
    ...(kind === 'full-cone' ? [] : [`${going} ${refused} != ${set} drop`]),
    `${coming} update ${set} { ${protocol} sport . ct reply ip daddr${exact ? ' . ct reply proto-dst' : ''} }`,
  ]
}

function filterChains(settings: NatSettings): string {
  const hairpin = settings.hairpin ? ['iifname "lan" oifname "lan" ct status dnat accept'] : []
  return `${chain('local { type filter hook input priority 0; policy drop', [
    'ct state established,related accept',
    'iifname "lo" accept',
    // The router's own services, such as UPnP, answer on its inside address only.
    `iifname "lan" ip daddr ${settings.lan} accept`,
    'ip protocol icmp icmp type echo-request accept',
  ])}
    ${chain('forwarded { type filter hook forward priority 0; policy drop', [
      // A packet that conntrack does not know would leave untranslated.
      'ct state invalid drop',
      'iifname "lan" oifname "wan" accept',
      'iifname "wan" oifname "lan" ct status dnat accept',
      'ct state established,related accept',
      ...hairpin,
    ])}`
}

function chain(head: string, rules: readonly string[]): string {
  return `
    chain ${head}
      ${rules.join('\n      ')}
    }`
}
