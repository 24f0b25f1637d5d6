/**
 * A laboratory of network namespaces: an internet (one router), public hosts on it, and sites, each a NAT router with
 * hosts behind it. All of it lives in namespaces of its own: nothing of the machine's network is seen or changed, and
 * several labs run beside each other with the same addresses.
 */
import { fileURLToPath } from 'node:url'
import { privateNetwork, publicIpv4, publicIpv6Prefix } from './addresses.ts'
import type { Impairment } from './impairment.ts'
import { LAB_HOSTS_MAX, LAB_PROCESSES_MAX, SITE_HOSTS_MAX, UDP_MAPPING_SECONDS } from './limits.ts'
import { makeNamespace, nextLabPrefix, removeNamespaces, removeStale } from './namespaces.ts'
import {
  cutRules,
  healRules,
  isIndependent,
  ipv6Rules,
  type NatKind,
  type NatSettings,
  natRules,
  type PortForward,
} from './nat-rules.ts'
import { type LabProcess, type RunOptions, runInside } from './process.ts'
import { finish, type Finished, inside, ip, must } from './shell.ts'
import {
  BRIDGE_SYSCTLS,
  COMMON_SYSCTLS,
  lanCommands,
  lanHostWiring,
  type Link,
  publicWiring,
  ROUTER_SYSCTLS,
  routerWiring,
  type Wiring,
} from './wiring.ts'

export { labUnavailable } from './namespaces.ts'
export { NAT_KINDS, type NatKind } from './nat-rules.ts'
export type { Ended, LabProcess, RunOptions } from './process.ts'

const DELAY_LINK = fileURLToPath(new URL('./delay-link.ts', import.meta.url))

/** What ends a lab: the context of a test, or `{ after }` of a suite. */
export type Cleaner = { after(action: () => Promise<void>): void }

export type Host = {
  readonly name: string
  readonly namespace: string
  /** Its own address: private behind a NAT. */
  readonly ipv4: string | undefined
  readonly ipv6: string | undefined
}

export type Site = {
  readonly name: string
  readonly kind: NatKind
  /** The router, a host like any other: programs such as miniupnpd run on it (devices `wan` and `lan`). */
  readonly router: Host
  readonly hosts: readonly Host[]
  /** The address that the outside sees now. */
  readonly publicIpv4: () => string
}

/** A host that is alone behind its router. */
export type SiteHost = Host & { readonly site: Site }

export type PublicHostOptions = {
  /** An address of your own choice, for instance in the same /24 as another; `false` for none. */
  readonly ipv4?: string | false
  readonly ipv6?: boolean
  readonly link?: LinkOptions
}

/** How a path of the internet is impaired, the same in both directions. Without it a cable takes microseconds. */
export type LinkOptions = Impairment & {
  /** What is lost and how much later packets come follows from it, packet by packet. */
  readonly seed?: number
}

export type NatOptions = {
  readonly kind: NatKind
  /** Whether inside hosts reach each other by their outside addresses (RFC 4787 REQ-9); not for symmetric kinds. */
  readonly hairpin?: boolean
  /** `preserve` (default): a port that is free stays the same outside. `assign`: it never does. */
  readonly ports?: 'preserve' | 'assign'
  /** `none` (default), `open` or with a stateful `firewall` (RFC 6092). IPv6 has no NAT. */
  readonly ipv6?: 'none' | 'open' | 'firewall'
  /** The inside network as three octets, such as `192.168.1`; two sites may have the same. */
  readonly network?: string
  /** How long an idle UDP mapping is kept, in seconds (120). */
  readonly mappingSeconds?: number
  /** The router's way to the internet. */
  readonly link?: LinkOptions
}

export type SiteOptions = NatOptions & { readonly hosts: readonly string[] }

/** What a router forgets: its connections; also its ports; or its address. */
export type Rebinding = 'state' | 'ports' | 'address'

/** Makes an empty internet. It goes away with the test; what a killed test left goes away now. */
export async function createLab(test: Cleaner): Promise<Lab> {
  await removeStale()
  const lab = new Lab()
  test.after(() => lab.close())
  await lab.start()
  return lab
}

/** A namespace and the device in it. */
type End = readonly [string, string]

type SiteState = { settings: NatSettings; readonly ipv6: 'none' | 'open' | 'firewall'; readonly wan: Link }

export class Lab {
  readonly #prefix = nextLabPrefix()
  readonly #internet = `${this.#prefix}internet`
  readonly #namespaces: string[] = []
  readonly #links = new Map<string, Link>()
  readonly #sites = new Map<Site, SiteState>()
  readonly #processes = new Set<LabProcess>()
  #addressCount = 0
  #siteCount = 0
  #portCount = 0

  /** @internal `createLab` does this. */
  async start(): Promise<void> {
    await this.#makeRouter(this.#internet)
    await ip(this.#internet, ['link set lo up', `addr add ${publicIpv4(this.#addressCount++)}/32 dev lo`])
  }

  /** A host with a public address and no router before it. */
  async publicHost(name: string, options: PublicHostOptions = {}): Promise<Host> {
    const index = this.#addressCount++
    const ipv4 = options.ipv4 === false ? undefined : (options.ipv4 ?? publicIpv4(index))
    const ipv6Prefix = options.ipv6 === true ? publicIpv6Prefix(index) : undefined
    const namespace = await this.#makeHost(name)
    const outside = this.#nextPort()
    const wiring = publicWiring({ inside: 'eth0', outside }, { ipv4, ipv6Prefix })
    await this.#plug([namespace, 'eth0'], [this.#internet, outside], { ...wiring, impairment: options.link })
    return { name, namespace, ipv4, ipv6: ipv6Prefix && `${ipv6Prefix}::10` }
  }

  /** One host behind a router of its own. */
  async natHost(name: string, options: NatOptions): Promise<SiteHost> {
    const site = await this.site(`${name}-nat`, { ...options, hosts: [name] })
    const [host] = site.hosts
    if (host === undefined) throw new Error('a site without its host')
    return { ...host, site }
  }

  /** Hosts on one local network behind one router. */
  async site(name: string, options: SiteOptions): Promise<Site> {
    const { kind, hairpin = false, ports = 'preserve', ipv6 = 'none', hosts } = options
    if (hosts.length > SITE_HOSTS_MAX) throw new RangeError(`a site has at most ${SITE_HOSTS_MAX} hosts`)
    if (hairpin && !isIndependent(kind)) throw new RangeError(`${kind} has no mapping that a hairpin could use`)
    const network = options.network ?? privateNetwork(this.#siteCount++)
    const index = this.#addressCount++
    const wan = publicIpv4(index)
    const ipv6Prefix = ipv6 === 'none' ? undefined : publicIpv6Prefix(index)
    const routed = kind === 'none' ? hosts.map(() => publicIpv4(this.#addressCount++)) : []
    const router = this.#name(name)
    await this.#makeRouter(router)
    const port = this.#nextPort()
    const wiring = routerWiring(port, { ipv4: wan, ipv6Prefix, routed })
    const link = await this.#plug([router, 'wan'], [this.#internet, port], { ...wiring, impairment: options.link })
    await ip(router, lanCommands({ network, ipv6Prefix, routed }))
    const made: Host[] = []
    for (const [at, hostName] of hosts.entries()) {
      made.push(await this.#lanHost(hostName, { router, network, ipv6Prefix, index: at, routed: routed[at] }))
    }
    const state: SiteState = {
      wan: link,
      ipv6,
      settings: {
        kind,
        wan,
        lan: `${network}.0/24`,
        ports,
        hairpin,
        mappingSeconds: options.mappingSeconds ?? UDP_MAPPING_SECONDS,
        zone: 1,
        seed: index * 97,
        forwards: [],
      },
    }
    const site: Site = {
      name,
      kind,
      hosts: made,
      router: { name, namespace: router, ipv4: `${network}.1`, ipv6: ipv6Prefix && `${ipv6Prefix}::1` },
      publicIpv4: () => state.settings.wan,
    }
    this.#sites.set(site, state)
    this.#links.set(router, link)
    const { mappingSeconds } = state.settings
    await this.#sysctl(router, [
      `net.netfilter.nf_conntrack_udp_timeout=${mappingSeconds}`,
      `net.netfilter.nf_conntrack_udp_timeout_stream=${mappingSeconds}`,
    ])
    await this.#loadRules(site, state)
    return site
  }

  /** Passes an outside port on to an inside host for good, as a person or UPnP would set it. */
  async forward(site: Site, forward: PortForward): Promise<void> {
    const state = this.#stateOf(site)
    if (site.kind === 'none') throw new RangeError('a router without NAT forwards everything as it is')
    state.settings = { ...state.settings, forwards: [...state.settings.forwards, forward] }
    await this.#loadRules(site, state)
  }

  /**
   * The router forgets. `state`: all its connections and mappings, as after a restart. `ports`: it also gives every
   * mapping another port from now on. `address`: it also gets another public address.
   */
  async rebind(site: Site, what: Rebinding): Promise<void> {
    const state = this.#stateOf(site)
    if (site.kind === 'none') throw new RangeError('a router without NAT has nothing to forget')
    const { settings } = state
    const wan = what === 'address' ? publicIpv4(this.#addressCount++) : settings.wan
    const moved = what === 'ports' ? { ports: 'assign' as const, seed: settings.seed + 977 } : {}
    state.settings = { ...settings, ...moved, wan, zone: settings.zone + 1 }
    if (wan !== settings.wan) {
      await ip(site.router.namespace, [`addr add ${wan}/32 dev wan`])
      const port = state.wan.outsideDevice
      state.wan.up = state.wan.up.map(command => command.replace(settings.wan, wan))
      await ip(this.#internet, [`route del ${settings.wan}/32 dev ${port}`, ...state.wan.up])
    }
    await this.#loadRules(site, state)
    if (wan !== settings.wan) await ip(site.router.namespace, [`addr del ${settings.wan}/32 dev wan`])
  }

  /**
   * Cuts a host, or a whole site, off. `silent`: packets vanish somewhere on their way and nobody is told. `unplugged`:
   * its device also loses its carrier, as where a cable is pulled.
   */
  async cut(what: Host | Site, how: 'silent' | 'unplugged' = 'silent'): Promise<void> {
    const { outsideNamespace: namespace, outsideDevice: device } = this.#linkOf(what)
    if (how === 'unplugged') await ip(namespace, [`link set ${device} down`])
    else await must(inside(namespace, ['nft', '-f', '-']), { input: cutRules(device) })
  }

  /** Undoes both. */
  async heal(what: Host | Site): Promise<void> {
    const { outsideNamespace: namespace, outsideDevice: device, up } = this.#linkOf(what)
    await must(inside(namespace, ['nft', '-f', '-']), { input: healRules(device) })
    await ip(namespace, up)
  }

  /** Starts a program on a host. It ends with the lab, if not before. */
  run(host: Host, argv: readonly string[], options: RunOptions = {}): LabProcess {
    if (this.#processes.size >= LAB_PROCESSES_MAX)
      throw new RangeError(`a lab runs at most ${LAB_PROCESSES_MAX} processes`)
    const running = runInside(host.namespace, argv, options)
    this.#processes.add(running)
    const forget = (): void => void this.#processes.delete(running)
    running.ended.then(forget, forget)
    return running
  }

  /** Runs a program on a host to its end, for 20 s at most. */
  exec(host: Host, argv: readonly string[], options: { readonly input?: string } = {}): Promise<Finished> {
    return finish(inside(host.namespace, argv), options)
  }

  /** Ends all processes and removes all namespaces. */
  async close(): Promise<void> {
    const running = [...this.#processes]
    for (const child of running) child.kill()
    await removeNamespaces(this.#namespaces.splice(0))
    await Promise.allSettled(running.map(child => child.ended))
  }

  #name(name: string): string {
    if (!/^[a-z0-9][a-z0-9-]{0,40}$/.test(name)) throw new RangeError(`not a host name: ${name}`)
    return this.#prefix + name
  }

  #nextPort(): string {
    return `port${this.#portCount++}`
  }

  async #makeHost(name: string): Promise<string> {
    const namespace = this.#name(name)
    await this.#make(namespace, COMMON_SYSCTLS)
    return namespace
  }

  async #makeRouter(namespace: string): Promise<void> {
    await this.#make(namespace, [...COMMON_SYSCTLS, ...ROUTER_SYSCTLS])
    await finish(inside(namespace, ['sysctl', '-q', '-w', ...BRIDGE_SYSCTLS]))
  }

  async #make(namespace: string, sysctls: readonly string[]): Promise<void> {
    if (this.#namespaces.includes(namespace)) throw new RangeError(`${namespace} exists`)
    if (this.#namespaces.length > LAB_HOSTS_MAX) throw new RangeError(`a lab has at most ${LAB_HOSTS_MAX} hosts`)
    this.#namespaces.push(namespace)
    await makeNamespace(namespace)
    await this.#sysctl(namespace, sysctls)
  }

  async #sysctl(namespace: string, settings: readonly string[]): Promise<void> {
    await must(inside(namespace, ['sysctl', '-q', '-w', ...settings]))
  }

  async #lanHost(
    name: string,
    lan: {
      readonly router: string
      readonly network: string
      readonly ipv6Prefix: string | undefined
      readonly index: number
      readonly routed: string | undefined
    },
  ): Promise<Host> {
    const { router, index, ipv6Prefix, routed } = lan
    const namespace = await this.#makeHost(name)
    const port = this.#nextPort()
    const ipv4 = routed ?? `${lan.network}.${10 + index}`
    const network = routed === undefined ? lan.network : undefined
    await this.#plug([namespace, 'eth0'], [router, port], lanHostWiring(port, { ipv4, network, ipv6Prefix, index }))
    return { name, namespace, ipv4, ipv6: ipv6Prefix && `${ipv6Prefix}::${(16 + index).toString(16)}` }
  }

  /** Lays one cable. Both ends are born in namespaces of the lab, so none is ever seen in the machine's own. */
  async #plug(
    near: End,
    far: End,
    { impairment, ...wiring }: Wiring & { impairment?: LinkOptions | undefined },
  ): Promise<Link> {
    const [insideNamespace, insideDevice] = near
    const [outsideNamespace, outsideDevice] = far
    if (impairment !== undefined) await this.#delayedCable(near, far, impairment)
    else {
      await ip(outsideNamespace, [
        `link add ${outsideDevice} type veth peer name ${insideDevice} netns ${insideNamespace}`,
      ])
    }
    await ip(insideNamespace, wiring.inside)
    await ip(outsideNamespace, wiring.outside)
    const link = { insideNamespace, insideDevice, outsideNamespace, outsideDevice, up: wiring.outside }
    this.#links.set(insideNamespace, link)
    return link
  }

  /** Two devices whose frames a program carries; it goes on holding the one that then moves to its own namespace. */
  async #delayedCable(near: End, far: End, { seed = 0, ...impairment }: LinkOptions): Promise<void> {
    const [insideNamespace, insideDevice] = near
    const [namespace, outsideDevice] = far
    const moving = `${outsideDevice}-far`
    await ip(
      namespace,
      [outsideDevice, moving].map(device => `tuntap add mode tap name ${device}`),
    )
    const argv = [process.execPath, DELAY_LINK, String(seed), JSON.stringify(impairment), outsideDevice, moving]
    const carrier = this.run({ name: outsideDevice, namespace, ipv4: undefined, ipv6: undefined }, argv)
    if ((await carrier.nextLine()) !== 'ready') throw new Error(`no delayed link: ${carrier.stderr()}`)
    await ip(namespace, [`link set ${moving} netns ${insideNamespace} name ${insideDevice}`])
  }

  async #loadRules(site: Site, { settings, ipv6 }: SiteState): Promise<void> {
    const rules = [natRules(settings)]
    if (ipv6 !== 'none') rules.push(ipv6Rules({ firewall: ipv6 === 'firewall', zone: settings.zone }))
    await must(inside(site.router.namespace, ['nft', '-f', '-']), { input: rules.join('\n') })
  }

  #stateOf(site: Site): SiteState {
    const state = this.#sites.get(site)
    if (state === undefined) throw new RangeError(`${site.name} is not a site of this lab`)
    return state
  }

  #linkOf(what: Host | Site): Link {
    const link = this.#links.get('router' in what ? what.router.namespace : what.namespace)
    if (link === undefined) throw new RangeError(`${what.name} is not of this lab`)
    return link
  }
}
