/** Makes a lab with a running program, says so, and waits to be killed: for the test of what is left then. */
import { createLab } from './lab.ts'

const lab = await createLab({ after: () => undefined })
const host = await lab.natHost('host', { kind: 'full-cone' })
const program = lab.run(host, ['sleep', 'infinity'])
const prefix = host.namespace.slice(0, -'host'.length)
process.stdout.write(`${JSON.stringify({ prefix, pid: program.pid })}\n`)
await program.ended
