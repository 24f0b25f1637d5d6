/** Detects the NAT between this process and a STUN server, its argument, and says what it found as JSON. */
import { systemClock, systemRandom } from '#base'
import { detectNat, localAddresses, openUdp } from '#nat'

const servers = [{ address: process.argv[2] ?? '', port: 3478 }]
const deps = { clock: systemClock, random: systemRandom, openUdp }
const report = await detectNat(deps, { servers, localAddresses: localAddresses() })
process.stdout.write(JSON.stringify(report))
