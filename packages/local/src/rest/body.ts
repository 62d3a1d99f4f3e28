import type { IncomingMessage } from 'node:http'
import { Problem } from './problem.ts'

/** The whole body of a request. Throws Problem with status 413 beyond `limit` bytes. */
export function readWhole(request: IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((settle, refuse) => {
    const chunks: Buffer[] = []
    let size = 0
    const tooLarge = (): void =>
      refuse(
        new Problem(413, 'PAYLOAD_TOO_LARGE', {
          message: `Request body is larger than ${limit} bytes`,
          hint: 'Send it in smaller parts.',
        }),
      )
    if (Number(request.headers['content-length'] ?? 0) > limit) tooLarge()
    // What is too much is still read, so that the sender gets to see the answer.
    request.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= limit) chunks.push(chunk)
      else {
        chunks.length = 0
        tooLarge()
      }
    })
    request.once('end', () =>
      settle(chunks.length === 1 ? (chunks[0] ?? empty) : Buffer.concat(chunks)),
    )
    request.once('error', refuse)
  })
}

const empty = Buffer.alloc(0)
