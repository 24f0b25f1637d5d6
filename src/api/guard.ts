/**
 * Who may talk to the API from a browser. A page on any web site can make its visitor's browser send requests to
 * 127.0.0.1, and can point its own name there (DNS rebinding). Two checks stop both: the request must name this machine
 * (Host), and a page that sends one must come from this very address (Origin). Programs send no Origin.
 */
import { ApiError } from './errors.ts'

export type HostRules = {
  /** Names under which this surface may be addressed, beside loopback names and the connection's own address. */
  readonly hosts: ReadonlySet<string>
  /** Names from which pages may use it, on any port. Not the bound address: other programs serve pages there too. */
  readonly origins: ReadonlySet<string>
  /** Take any Host: someone else (a reverse proxy) checks it. */
  readonly isAnyHost: boolean
}

/** @param bound the address that was listened on @param allowed further host names; `*` takes any */
export function createHostRules(bound: string, allowed: readonly string[]): HostRules {
  const toNames = (hosts: readonly string[]): string[] => hosts.map(host => readHost(host)?.name ?? host.toLowerCase())
  const isAnyAddress = bound === '0.0.0.0' || bound === '::'
  return {
    hosts: new Set(toNames(isAnyAddress ? allowed : [bound, ...allowed])),
    origins: new Set(toNames(allowed)),
    isAnyHost: allowed.includes('*'),
  }
}

export type Caller = {
  readonly host: string | undefined
  readonly origin: string | undefined
  /** The address of this machine that the connection came in on. */
  readonly localAddress: string | undefined
}

/** @throws ApiError API_HOST_REFUSED, API_ORIGIN_REFUSED */
export function checkCaller(caller: Caller, rules: HostRules): void {
  const host = caller.host === undefined ? undefined : readHost(caller.host)
  if (!rules.isAnyHost && (host === undefined || !isKnownHost(host.name, caller.localAddress, rules))) {
    throw new ApiError(
      { code: 'API_HOST_REFUSED' },
      'the Host header does not name this machine: address it as 127.0.0.1 or localhost, or allow the name',
    )
  }
  if (caller.origin === undefined) return
  const origin = readOrigin(caller.origin)
  // Same name and port as the Host: the page came from this surface. A listed name may stand behind a proxy.
  if (origin !== undefined && (origin.authority === host?.authority || rules.origins.has(origin.name))) return
  throw new ApiError({ code: 'API_ORIGIN_REFUSED' }, 'pages of other origins may not use this API from a browser')
}

function isKnownHost(name: string, localAddress: string | undefined, rules: HostRules): boolean {
  if (name === 'localhost' || name.endsWith('.localhost') || name === '[::1]') return true
  if (/^127(?:\.\d{1,3}){3}$/.test(name)) return true
  return rules.hosts.has(name) || (localAddress !== undefined && name === toName(localAddress))
}

/** An IP address as a URL writes it: no IPv4 in IPv6, brackets around IPv6. */
function toName(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '')
  return plain.includes(':') ? `[${plain}]` : plain
}

type HostName = { readonly name: string; readonly authority: string }

/** Reads a Host header or a bare name or address; undefined where it is anything else. */
function readHost(text: string): HostName | undefined {
  const isBareIpv6 = /^[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*$/i.test(text)
  const url = URL.parse(`http://${isBareIpv6 ? `[${text}]` : text}`)
  if (url === null || url.pathname !== '/' || url.search !== '' || url.hash !== '' || /[@/?#\\\s]/.test(text)) {
    return undefined
  }
  return { name: url.hostname.replace(/\.$/, ''), authority: url.host.replace(/\.(?=:|$)/, '') }
}

function readOrigin(text: string): HostName | undefined {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined
  return { name: url.hostname, authority: url.host }
}
