/** Real hosts on one machine that take its loopback addresses for the internet, each finding out whether it is reached. */
import type { TestContext } from 'node:test'
import { type Clock, silentLogger, systemClock, systemRandom } from '#base'
import { createPortMapper, openUdp } from '#nat'
import type { Host } from '#net'
import { createReach, type Reach, type ReachDeps, type ReachOptions } from '#reach'
import { startHost, type TestHostOptions, within } from './net-hosts.ts'

export type ReachNode = { readonly host: Host; readonly reach: Reach }

/** All of 127.0.0.0/8 is the internet; its /16 are the networks that vote. */
export const isLoopback = (ip: string): boolean => ip.startsWith('127.')

/** What a reach needs beside its host: no gateway, no names, sockets of the system. */
export function reachDeps(host: ReachDeps['host'], clock: Clock = systemClock): ReachDeps {
  const deps = { clock, random: systemRandom, log: silentLogger }
  return {
    ...deps,
    host,
    openUdp,
    localAddresses: () => ['127.0.0.1'],
    createMapper: onChanged => createPortMapper({ ...deps, protocols: async () => [] }, { onChanged }),
    resolve: async () => undefined,
  }
}

/** A node that listens at this loopback address and looks after itself; it ends with the test. */
export async function startReachNode(
  t: TestContext,
  ip: string,
  options: ReachOptions & { readonly host?: TestHostOptions; readonly deps?: Partial<ReachDeps> } = {},
): Promise<ReachNode> {
  const { host: hostOptions, deps, ...rest } = options
  const host = await startHost(t, { listen: [`/ip4/${ip}/tcp/0`], meet: false, ...hostOptions })
  const reach = createReach({ ...reachDeps(host), ...deps }, { isUsable: isLoopback, ...rest })
  reach.start()
  t.after(() => reach.stop())
  return { host, reach }
}

/** Waits until the state of a node is so; asked now and after each change of it. */
export async function reaches(node: ReachNode, what: string, isSo: (reach: Reach) => boolean): Promise<void> {
  if (isSo(node.reach)) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = node.reach.onChange(() => {
    if (isSo(node.reach)) resolve()
  })
  await within(what, promise).finally(stop)
}
