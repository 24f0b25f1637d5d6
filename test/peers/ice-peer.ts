/**
 * One side of an ICE connection as a process: says its description as a line of JSON, reads the other's, connects, says which
 * pair is used, and exchanges datagrams with the other side until both have heard each other.
 */
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { silentLogger, sleep, systemClock, systemRandom } from '#base'
import { createIceAgent, openUdp } from '#nat'

const [role = '', stunServer = ''] = process.argv.slice(2)
const agent = await createIceAgent(
  { clock: systemClock, random: systemRandom, log: silentLogger, openUdp },
  {
    role: role === 'controlling' ? 'controlling' : 'controlled',
    stunServers: [{ address: stunServer, port: 3478 }],
  },
)
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`)
const lines = createInterface({ input: process.stdin })
const other = once(lines, 'line')
say(await agent.gather())
const path = await agent.connect(JSON.parse(String((await other)[0])))
say(path.selected)
// 0x80: not heard yet; 0x81: heard, so the other need not go on for us.
let word = 0x80
let isDone = false
path.onMessage(([heard]) => {
  word = 0x81
  isDone ||= heard === 0x81
})
while (!isDone) {
  path.send(Uint8Array.of(word))
  await sleep(systemClock, 50)
}
for (let times = 0; times < 5; times++) path.send(Uint8Array.of(0x81))
say('heard')
await once(process.stdin, 'end')
await agent.close()
