/** What `koinon net` says beside connections: the NAT, relays and DHTs, each in a few words. */
import type { Discovery } from '#discovery'
import type { Kad } from '#kad'
import type { MainlineNode } from '#mainline'
import type { Host } from '#net'
import type { Reach } from '#reach'
import type { NetworkFacts, ReachReport } from '#wire'

/** What finds peers and ways to them. */
export type Finding = {
  readonly reach: Reach
  readonly discovery: Discovery
  readonly kad: Kad | undefined
  readonly mainline: MainlineNode | undefined
}

export function networkFacts({
  reach,
  discovery,
  kad,
  mainline,
  host,
}: Finding & { readonly host: Host }): NetworkFacts {
  const { serving, held } = host.relay.status()
  const { knownPeers, metPeers, exchanges, lastExchange } = discovery.status()
  const kadPeers = kad?.status().peers
  const families = mainline?.status().families
  const mainlineNodes = families?.reduce((sum, { goodContacts }) => sum + goodContacts, 0)
  return {
    nat: natFacts(reach.status()),
    relay: {
      isServing: serving.isServing,
      reservedAt: held.map(({ relay }) => relay),
      reservations: serving.reservations.length,
      circuits: serving.circuits.length,
    },
    discovery: {
      knownPeers,
      metPeers,
      exchanges,
      sentBytes: lastExchange?.sentBytes ?? 0,
      receivedBytes: lastExchange?.receivedBytes ?? 0,
    },
    ...(kadPeers === undefined && mainlineNodes === undefined
      ? {}
      : {
          dht: {
            ...(kadPeers === undefined ? {} : { kadPeers }),
            ...(mainlineNodes === undefined ? {} : { mainlineNodes }),
          },
        }),
  }
}

function natFacts({ type, isLocalOnly, nat, external, mapping }: ReachReport): NonNullable<NetworkFacts['nat']> {
  const [port] = mapping.ports
  return {
    type: isLocalOnly ? 'local' : type,
    kind: nat.kind,
    ...(external.length === 0 ? {} : { external: external.map(({ address }) => address) }),
    ...(port === undefined
      ? {}
      : { mapping: `${port.via}, ${port.externalAddress} port ${port.externalPort} (${port.protocol.toUpperCase()})` }),
  }
}
