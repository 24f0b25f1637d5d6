/** An ICE agent on a machine without any network, to be run in an empty network namespace: says how connecting ends. */
import { silentLogger, systemClock, systemRandom } from '#base'
import { createIceAgent, openUdp } from '#nat'

// Nothing answers here, so waits may be short.
const clock = { ...systemClock, after: (ms: number, action: () => void) => systemClock.after(ms / 10, action) }
const agent = await createIceAgent(
  { clock, random: systemRandom, log: silentLogger, openUdp },
  {
    role: 'controlling',
    hostAddresses: ['127.0.0.1'],
    stunServers: [{ address: '192.0.2.1', port: 3478 }],
    turn: { server: { address: '192.0.2.1', port: 3478 }, username: 'u', password: 'p' },
  },
)
await agent.gather()
const candidate = { type: 'host', address: '192.0.2.1', port: 9, priority: 1, foundation: 'f' }
try {
  await agent.connect({ ufrag: 'abcd', password: 'p'.repeat(22), candidates: [candidate] }, { timeoutMs: 1_000 })
} catch (error) {
  process.stdout.write(error instanceof Error && 'code' in error ? String(error.code) : String(error))
}
process.exit()
