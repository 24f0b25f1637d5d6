/**
 * A peer from a future in which everything is different: it offers version 9 and nothing else. What is due to it is a
 * signed refusal that says which versions are spoken here.
 *
 *     node test/peers/unknown-version.ts ADDRESS
 */
import { randomBytes } from 'node:crypto'
import { decode } from '@ipld/dag-cbor'
import { main, withLine } from './dial.ts'
import { helloOf, NO_SESSION, prefixOf, readFrame, sendFrame, TYPE } from './frames.ts'

await main(address =>
  withLine(address, '/koinon/control/1', async line => {
    const random = { session: new Uint8Array(randomBytes(16)), nonce: new Uint8Array(randomBytes(32)) }
    const payload = helloOf(line, [9], random)
    sendFrame(line, NO_SESSION, { prefix: prefixOf(TYPE.hello, 0, payload.byteLength), payload })
    const frame = await readFrame(line, NO_SESSION)
    if (frame.type !== TYPE.refuse) throw new Error(`a frame of type ${frame.type} instead of a refusal`)
    return { peer: line.peer, offered: [9], refused: decode(frame.payload) }
  }),
)
