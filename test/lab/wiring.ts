/**
 * How namespaces are wired: the `ip` commands for a public endpoint, a router and the hosts behind it. Each builder
 * returns what to run inside (the endpoint) and outside (what it is plugged into); the outer part can be run again, since
 * Linux forgets routes of a link that was down.
 */
import { GATEWAY_IPV4, GATEWAY_IPV6, ROUTER_IPV6 } from './addresses.ts'

/** One cable: the device in the endpoint's namespace, and the one at the other end. */
export type Link = {
  readonly insideNamespace: string
  readonly insideDevice: string
  readonly outsideNamespace: string
  readonly outsideDevice: string
  /** Commands for the outside namespace that put the link up with its routes, now or again. */
  up: readonly string[]
}

export type Wiring = { readonly inside: readonly string[]; readonly outside: readonly string[] }

/** Sysctls of every namespace: addresses work at once, and paths may differ by direction. */
export const COMMON_SYSCTLS = [
  'net.ipv6.conf.default.accept_dad=0',
  'net.ipv6.conf.all.accept_dad=0',
  'net.ipv4.conf.all.rp_filter=0',
  'net.ipv4.conf.default.rp_filter=0',
] as const

export const ROUTER_SYSCTLS = [
  'net.ipv4.ip_forward=1',
  'net.ipv6.conf.all.forwarding=1',
  'net.ipv4.conf.all.send_redirects=0',
  'net.ipv4.conf.default.send_redirects=0',
] as const

/** Frames between hosts of one site do not pass the rules for routed packets. Where there is no bridge filter, no need. */
export const BRIDGE_SYSCTLS = ['net.bridge.bridge-nf-call-iptables=0', 'net.bridge.bridge-nf-call-ip6tables=0'] as const

/** A host that is on the internet itself. */
export function publicWiring(
  devices: { readonly inside: string; readonly outside: string },
  addresses: { readonly ipv4: string | undefined; readonly ipv6Prefix: string | undefined },
): Wiring {
  const { inside: dev, outside: port } = devices
  const inside = ['link set lo up', `link set ${dev} up`]
  const outside = [`link set ${port} up`]
  if (addresses.ipv4 !== undefined) {
    inside.push(`addr add ${addresses.ipv4}/32 dev ${dev}`, ...defaultByGateway(dev))
    outside.push(`addr replace ${GATEWAY_IPV4}/32 dev ${port}`, `route replace ${addresses.ipv4}/32 dev ${port}`)
  }
  if (addresses.ipv6Prefix !== undefined) {
    inside.push(
      `addr add ${addresses.ipv6Prefix}::10/64 dev ${dev} nodad`,
      `route add default via ${GATEWAY_IPV6} dev ${dev}`,
    )
    outside.push(
      `addr replace ${GATEWAY_IPV6}/64 dev ${port} nodad`,
      `route replace ${addresses.ipv6Prefix}::/64 dev ${port}`,
    )
  }
  return { inside, outside }
}

/** A router of a site, at its outer side. `routed` are public addresses of hosts behind it. */
export function routerWiring(
  port: string,
  addresses: { readonly ipv4: string; readonly ipv6Prefix: string | undefined; readonly routed: readonly string[] },
): Wiring {
  const { ipv4, ipv6Prefix, routed } = addresses
  const plain = publicWiring({ inside: 'wan', outside: port }, { ipv4, ipv6Prefix: undefined })
  const inside = [...plain.inside]
  const outside = [
    ...plain.outside,
    ...routed.map(address => `route replace ${address}/32 via ${ipv4} dev ${port} onlink`),
  ]
  if (ipv6Prefix !== undefined) {
    inside.push(`addr add ${ROUTER_IPV6}/64 dev wan nodad`, `route add default via ${GATEWAY_IPV6} dev wan`)
    outside.push(
      `addr replace ${GATEWAY_IPV6}/64 dev ${port} nodad`,
      `route replace ${ipv6Prefix}::/64 via ${ROUTER_IPV6} dev ${port}`,
    )
  }
  return { inside, outside }
}

/** The inner side of a router: a bridge with the hosts' cables. */
export function lanCommands(lan: {
  readonly network: string
  readonly ipv6Prefix: string | undefined
  readonly routed: readonly string[]
}): string[] {
  const commands = ['link add lan type bridge forward_delay 0 mcast_snooping 0', 'link set lan up']
  if (lan.routed.length > 0) {
    commands.push(
      `addr add ${GATEWAY_IPV4}/32 dev lan`,
      ...lan.routed.map(address => `route add ${address}/32 dev lan`),
    )
  } else {
    commands.push(`addr add ${lan.network}.1/24 dev lan`)
  }
  if (lan.ipv6Prefix !== undefined) commands.push(`addr add ${lan.ipv6Prefix}::1/64 dev lan nodad`)
  return commands
}

/** A host behind a router, with a private address, or a routed public one. */
export function lanHostWiring(
  port: string,
  host: {
    readonly ipv4: string
    readonly network: string | undefined
    readonly ipv6Prefix: string | undefined
    readonly index: number
  },
): Wiring {
  const inside = ['link set lo up', 'link set eth0 up']
  if (host.network === undefined) inside.push(`addr add ${host.ipv4}/32 dev eth0`, ...defaultByGateway('eth0'))
  else inside.push(`addr add ${host.ipv4}/24 dev eth0`, `route add default via ${host.network}.1 dev eth0`)
  if (host.ipv6Prefix !== undefined) {
    inside.push(
      `addr add ${host.ipv6Prefix}::${(16 + host.index).toString(16)}/64 dev eth0 nodad`,
      `route add default via ${host.ipv6Prefix}::1 dev eth0`,
    )
  }
  return { inside, outside: [`link set ${port} master lan`, `link set ${port} up`] }
}

function defaultByGateway(dev: string): string[] {
  return [`route add ${GATEWAY_IPV4} dev ${dev} scope link`, `route add default via ${GATEWAY_IPV4} dev ${dev} onlink`]
}
