/**
 * Port mapping by UPnP: Internet Gateway Device 1 and 2 (WANIPConnection 1 and 2, WANPPPConnection 1).
 *
 * Anybody on the network can answer a search, so an answer must name a description on the very address that it came from,
 * a private one, and a description must name a control address on that same machine: nobody can make this node send
 * requests elsewhere.
 */
import type { Clock, Random } from '#base'
import { messageOf, sleep } from '#base'
import { decodeIp, isPrivate, isUnicast } from '../ip.ts'
import { UPNP_GATEWAYS_MAX, UPNP_PORTS_MAX, UPNP_SEARCH_MS, UPNP_SERVICES_MAX } from '../limits.ts'
import type { Endpoint, OpenUdp } from '../types.ts'
import { askGateway } from './http.ts'
import { granted } from './pmp.ts'
import type { MappingProtocol, MappingRequest, PortMapping } from './types.ts'
import { elementsOf, textOf } from './upnp-xml.ts'

/** Where gateways listen for searches (UPnP Device Architecture, 1.3). */
const SEARCH: Endpoint = { address: '239.255.255.250', port: 1900 }

const DEVICES = [1, 2].map(version => `urn:schemas-upnp-org:device:InternetGatewayDevice:${version}`)

/** Those that map ports, the best first. */
const SERVICES = ['WANIPConnection:2', 'WANIPConnection:1', 'WANPPPConnection:1'].map(
  service => `urn:schemas-upnp-org:service:${service}`,
)

/** Errors of AddPortMapping: somebody else's port; no leases but permanent ones. */
const CONFLICT = 718
const PERMANENT_ONLY = 725

export type UpnpDeps = { readonly clock: Clock; readonly random: Random; readonly openUdp: OpenUdp }

export type UpnpOptions = {
  /** This machine's address on the gateway's network. */
  readonly localAddress: string
  /** Where to search. @default the group of UPnP */
  readonly search?: Endpoint
}

/** A service that maps ports. */
type Control = { readonly url: URL; readonly type: string }

type MapOptions = { readonly leaseSeconds: number; readonly signal: AbortSignal }

export class UpnpProtocol implements MappingProtocol {
  readonly name = 'UPnP'
  readonly #deps: UpnpDeps
  readonly #options: UpnpOptions
  #control: Control | undefined

  constructor(deps: UpnpDeps, options: UpnpOptions) {
    this.#deps = deps
    this.#options = options
  }

  async map(request: MappingRequest, options: MapOptions): Promise<PortMapping> {
    const control = this.#control ?? (await this.#find(options.signal))
    try {
      const address = await this.#call(control, { action: 'GetExternalIPAddress', arguments: {} }, options.signal)
      const externalAddress = decodeIp(textOf(address, 'NewExternalIPAddress') ?? '') ?? ''
      if (!isUnicast(externalAddress)) throw new Error('the gateway has no address outside')
      const grant = await this.#add(control, request, options)
      this.#control = control
      return granted(request, { via: 'upnp', externalAddress, ...grant })
    } catch (error) {
      // A gateway that was started again may be elsewhere.
      this.#control = undefined
      throw error
    }
  }

  async unmap(mapping: PortMapping, options: { readonly signal: AbortSignal }): Promise<void> {
    const control = this.#control ?? (await this.#find(options.signal))
    const place = placeOf(mapping.protocol, mapping.externalPort)
    await this.#call(control, { action: 'DeletePortMapping', arguments: place }, options.signal)
  }

  async #add(
    control: Control,
    request: MappingRequest,
    options: MapOptions,
  ): Promise<{ readonly externalPort: number; readonly leaseSeconds: number }> {
    const { signal } = options
    let leaseSeconds = options.leaseSeconds
    let externalPort = request.externalPort ?? request.internalPort
    const isChoosing = control.type.endsWith('WANIPConnection:2')
    for (let tries = 1; ; tries++) {
      const action = isChoosing ? 'AddAnyPortMapping' : 'AddPortMapping'
      try {
        const body = await this.#call(
          control,
          {
            action,
            arguments: {
              ...placeOf(request.protocol, externalPort),
              NewInternalPort: request.internalPort,
              NewInternalClient: this.#options.localAddress,
              NewEnabled: 1,
              NewPortMappingDescription: 'koinon',
              NewLeaseDuration: leaseSeconds,
            },
          },
          signal,
        )
        return { externalPort: isChoosing ? Number(textOf(body, 'NewReservedPort')) : externalPort, leaseSeconds }
      } catch (error) {
        const code = error instanceof UpnpError ? error.errorCode : undefined
        if (tries === UPNP_PORTS_MAX || (code !== CONFLICT && code !== PERMANENT_ONLY)) throw error
        if (code === PERMANENT_ONLY) leaseSeconds = 0
        else externalPort = 1024 + (this.#deps.random.uint32() % (65_536 - 1024))
      }
    }
  }

  async #call(
    control: Control,
    call: { readonly action: string; readonly arguments: Readonly<Record<string, string | number>> },
    signal: AbortSignal,
  ): Promise<string> {
    const fields = Object.entries(call.arguments).map(([name, value]) => `<${name}>${value}</${name}>`)
    const body =
      '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
      's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>' +
      `<u:${call.action} xmlns:u="${control.type}">${fields.join('')}</u:${call.action}></s:Body></s:Envelope>`
    const headers = { 'content-type': 'text/xml; charset="utf-8"', soapaction: `"${control.type}#${call.action}"` }
    const { localAddress } = this.#options
    const answer = await askGateway({ url: control.url, localAddress, signal, body, headers })
    if (answer.status === 200) return answer.body
    const errorCode = Number(textOf(answer.body, 'errorCode') ?? Number.NaN)
    throw new UpnpError(call.action, { status: answer.status, errorCode })
  }

  /** The first gateway that answers and has a service that maps ports. */
  async #find(signal: AbortSignal): Promise<Control> {
    const reasons: string[] = []
    for (const location of await this.#search(signal)) {
      try {
        const { body, status } = await askGateway({ url: location, localAddress: this.#options.localAddress, signal })
        const control = status === 200 ? controlOf(body, location) : undefined
        if (control !== undefined) return control
        reasons.push('a gateway maps no ports')
      } catch (error) {
        if (signal.aborted) throw error
        reasons.push(messageOf(error))
      }
    }
    throw new Error(reasons.length === 0 ? 'no gateway answers' : reasons.join('; '))
  }

  async #search(signal: AbortSignal): Promise<URL[]> {
    const { clock, openUdp } = this.#deps
    const { localAddress, search = SEARCH } = this.#options
    const socket = await openUdp({ address: localAddress, isMulticast: true })
    const found = new Map<string, URL>()
    try {
      const first = Promise.withResolvers<void>()
      socket.onMessage((bytes, from) => {
        const location = decodeSearchAnswer(bytes, from)
        if (location === undefined || found.size >= UPNP_GATEWAYS_MAX) return
        found.set(location.href, location)
        first.resolve()
      })
      for (const device of DEVICES) {
        const host = `${search.address}:${search.port}`
        const ask = `M-SEARCH * HTTP/1.1\r\nHOST: ${host}\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ${device}\r\n\r\n`
        socket.send(new TextEncoder().encode(ask), search)
      }
      // A network with more than one gateway is rare: the first that answers is taken.
      await Promise.race([first.promise, sleep(clock, UPNP_SEARCH_MS, { signal })])
      return [...found.values()]
    } finally {
      await socket.close()
    }
  }
}

class UpnpError extends Error {
  readonly errorCode: number

  constructor(action: string, answer: { readonly status: number; readonly errorCode: number }) {
    super(`${action}: error ${answer.errorCode} (HTTP ${answer.status})`)
    this.errorCode = answer.errorCode
  }
}

/** Where a search's answer says that the gateway's description is; undefined where nobody should look. */
export function decodeSearchAnswer(bytes: Uint8Array, from: Endpoint): URL | undefined {
  if (bytes.byteLength > 2_048) return undefined
  const lines = new TextDecoder('latin1').decode(bytes).split('\r\n')
  if (!/^HTTP\/1\.[01] 200\b/.test(lines[0] ?? '')) return undefined
  const header = (name: string): string | undefined =>
    lines
      .find(line => line.toLowerCase().startsWith(`${name}:`))
      ?.slice(name.length + 1)
      .trim()
  if (!DEVICES.includes(header('st') ?? '')) return undefined
  const location = URL.parse(header('location') ?? '')
  if (location === null || location.protocol !== 'http:' || location.username !== '') return undefined
  return location.hostname === from.address && isPrivate(from.address) ? location : undefined
}

/** The best service of a description that maps ports, on the machine that the description came from. */
export function controlOf(description: string, location: URL): Control | undefined {
  const controls = elementsOf(description, 'service', UPNP_SERVICES_MAX).flatMap(service => {
    const type = textOf(service, 'serviceType') ?? ''
    const url = URL.parse(textOf(service, 'controlURL') ?? '', textOf(description, 'URLBase') || location.href)
    const isThere = url?.protocol === 'http:' && url.hostname === location.hostname && url.username === ''
    return isThere && SERVICES.includes(type) ? [{ type, url }] : []
  })
  return controls.sort((a, b) => SERVICES.indexOf(a.type) - SERVICES.indexOf(b.type))[0]
}

/** What names a mapping at the gateway. */
function placeOf(protocol: MappingRequest['protocol'], externalPort: number): Record<string, string | number> {
  return { NewRemoteHost: '', NewExternalPort: externalPort, NewProtocol: protocol.toUpperCase() }
}
